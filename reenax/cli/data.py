"""`reenax prepare`, from videos and of synthetic heads."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from reenax.cli.parts import command
from reenax.commands import keep_programs, positive


def add_prepare(commands: Any) -> None:
    """`reenax prepare`."""
    parser = command(
        commands,
        "prepare",
        _prepare,
        "turn videos into a dataset: faces found, clips cut, split by identity",
        "reenax prepare videos/ --out data/mine --size 256 --workers 8\n\n"
        "`reenax prepare synthetic --help`: talking heads that are rendered, with exact labels",
    )
    parser.add_argument(
        "videos",
        nargs="+",
        type=Path,
        metavar="VIDEOS",
        help="video files and folders of videos; "
        "the identity is the part of a file name before '#', else the folder's name, else the "
        "file's name",
    )
    parser.add_argument("--out", type=Path, required=True, help="the dataset folder; run again to continue or extend")
    parser.add_argument("--size", type=positive, default=256, help="side of the square frames in pixels (256)")
    parser.add_argument(
        "--faces",
        choices=("dlib", "none"),
        default="dlib",
        help="find and follow the face (dlib), or take the centre of whole frames (none)",
    )
    parser.add_argument("--workers", type=positive, default=1, help="videos worked on at the same time (1)")
    parser.add_argument("--test-share", type=float, default=0.2, help="share in the test split (0.2)")
    parser.add_argument(
        "--split",
        choices=("identity", "clips"),
        default="identity",
        help="test on people that training never sees (identity), or on the last clips of every person (clips)",
    )
    parser.add_argument(
        "--max-frames", type=positive, default=128, help="longer shots are cut into several clips (128)"
    )


def _prepare(options: argparse.Namespace, _: list[str]) -> None:
    from data_pipelines.prepare import prepare

    report = prepare(
        options.videos,
        options.out,
        size=options.size,
        faces=options.faces,
        workers=options.workers,
        test_share=options.test_share,
        split=options.split,
        min_frames=min(16, options.max_frames),
        max_frames=options.max_frames,
    )
    print(report.text())


def add_prepare_synthetic(commands: Any) -> None:
    """`reenax prepare synthetic`."""
    parser = command(
        commands,
        "prepare-synthetic",
        _prepare_synthetic,
        "render a dataset of talking heads with exact labels, and the truth across identities",
        "reenax prepare synthetic --identities 200 --clips 1 --seconds 4 --size 64 --out data/heads64 --workers 2",
    )
    parser.prog = "reenax prepare synthetic"
    parser.add_argument("--identities", type=int, required=True, metavar="N", help="how many people")
    parser.add_argument("--clips", type=int, default=1, metavar="M", help="clips of every person (1)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of a clip (4)")
    parser.add_argument("--size", type=int, default=64, help="side of the frames: 32, 64, 128, 256 or 512 pixels (64)")
    parser.add_argument("--fps", type=float, default=25.0, help="frames per second (25)")
    parser.add_argument("--seed", type=int, default=0, help="other people, other clips (0)")
    parser.add_argument(
        "--supersampling", type=int, default=2, help="1 is quicker and jagged, 2 is smooth, up to 4 (2)"
    )
    parser.add_argument("--test-share", type=float, default=0.2, help="share in the test split (0.2)")
    parser.add_argument(
        "--split",
        choices=("identity", "clips"),
        default="identity",
        help="test on people that training never sees (identity), or on the last clips of every person (clips)",
    )
    parser.add_argument(
        "--acted",
        type=int,
        default=0,
        metavar="N",
        help="nobody talks: everybody acts the same N numbered expressions, the first eight being neutral, anger, "
        "contempt, disgust, fear, happiness, sadness and surprise",
    )
    parser.add_argument(
        "--views", type=int, default=1, metavar="V", help="yaws of the head under which all are acted (1, frontal)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the dataset folder; run again to continue")
    parser.add_argument("--workers", type=int, default=1, help="processes; they change nothing but the time (1)")
    parser.add_argument(
        "--beam",
        metavar="OPTIONS",
        help="render on Apache Beam (pip install 'reenax[beam]') with these options of its pipeline: "
        "--beam='--runner=DirectRunner --direct_num_workers=4 --direct_running_mode=multi_processing'; "
        "the workers must see the folder --out",
    )


def _prepare_synthetic(options: argparse.Namespace, _: list[str]) -> None:
    keep_programs()
    from data_pipelines.builders.synthetic_heads import prepare_synthetic

    print(
        prepare_synthetic(
            options.out,
            identities=options.identities,
            clips=options.clips,
            seconds=options.seconds,
            size=options.size,
            fps=options.fps,
            seed=options.seed,
            supersampling=options.supersampling,
            test_share=options.test_share,
            split=options.split,
            acted=options.acted,
            views=options.views,
            workers=options.workers,
            beam=None if options.beam is None else shlex.split(options.beam),
        )
    )
