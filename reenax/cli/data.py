"""`reenax prepare`, from videos, from published folders of pictures, and of synthetic heads."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from reenax.cli.parts import command
from reenax.commands import keep_programs, positive
from reenax.core.errors import UserError

LAYOUTS = """layouts, by --layout (the input is the one folder that holds the data set):
  videos      video files and folders of videos; the identity is the part of a file name before '#', else the folder's
              name, else the file's name
  ganimation  imgs/<id>.jpg, aus_openface.pkl (id -> 17 intensities), train_ids.csv, test_ids.csv -> action_units
  celeba      img_align_celeba/, list_attr_celeba.txt, identity_CelebA.txt if there -> attributes (see --attributes);
              split as StarGAN does it; the middle 178x178 pixels
  rafd        Rafd<camera>_<person>_<group>_<sex>_<expression>_<gaze>.jpg at any depth -> acted, the numbers of
              expression (neutral angry contemptuous disgusted fearful happy sad surprised), view (cameras 090 045 135
              000 180) and gaze (frontal left right), and attributes (one per expression, in the order of the alphabet);
              or a folder per class (train/happy/*.jpg, ...) -> attributes in the order of the folders' names
  multipie    <person>_<expression digit>_<camera>_<light>.png at any depth -> acted; view 0 is camera 051
  rafd and multipie: a text file of lines `name W-H x-y x-y ...` with 106 landmarks decides what is cut, and becomes
  landmarks_106; without it faces are found, or the middle is taken (--faces none). Folders train/ and test/ are kept.
  Stills have one record per person where the person is known, else one per picture, at 1 frame per second.

action units, by --openface FOLDER: the CSV files of OpenFace, one per video (FeatureExtraction -aus) or per picture
  (FaceLandmarkImg -aus), named as these; they become the field action_units, 0 to 5. Matched by the frames' numbers
  when there are as many as in the video, else by time. Clips with more than 5 frames in a row without a face are left
  out, as is what has no file."""


def add_prepare(commands: Any) -> None:
    """`reenax prepare`."""
    parser = command(
        commands,
        "prepare",
        _prepare,
        "turn videos, or a published folder of pictures, into a dataset: cut, labelled, split",
        "reenax prepare videos/ --out data/mine --size 256 --workers 8\n"
        "  reenax prepare videos/ --openface measured/ --out data/mine --size 256\n"
        "  reenax prepare CelebA/ --layout celeba --attributes Smiling,Male,Young --out data/celeba --size 128\n\n"
        "`reenax prepare synthetic --help`: talking heads that are rendered, with exact labels\n\n" + LAYOUTS,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="videos and folders (see layouts below)")
    parser.add_argument("--out", type=Path, required=True, help="the dataset folder; run again to continue or extend")
    parser.add_argument("--size", type=positive, default=256, help="side of the square frames in pixels (256)")
    parser.add_argument(
        "--layout",
        choices=("videos", "ganimation", "celeba", "rafd", "multipie"),
        default="videos",
        help="how the input is laid out (videos); see below",
    )
    parser.add_argument(
        "--faces",
        choices=("dlib", "none"),
        help="find the face, and follow it (dlib), or take the centre of whole frames (none); dlib by default",
    )
    parser.add_argument(
        "--openface", type=Path, metavar="FOLDER", help="OpenFace's CSV files of the input: adds action_units"
    )
    parser.add_argument(
        "--attributes",
        metavar="NAME,NAME",
        help="of celeba, in this order (Black_Hair,Blond_Hair,Brown_Hair,Male,Young)",
    )
    parser.add_argument("--workers", type=positive, default=1, help="files worked on at the same time (1)")
    parser.add_argument("--test-share", type=float, default=0.2, help="share in the test split (0.2)")
    parser.add_argument(
        "--split",
        choices=("identity", "clips"),
        help="test on people that training never sees (identity), or on the last clips, or some pictures, of every "
        "person (clips); identity, or what the layout tells",
    )
    parser.add_argument("--max-frames", type=positive, help="longer shots of videos are cut into several clips (128)")


def _prepare(options: argparse.Namespace, _: list[str]) -> None:
    if options.layout == "videos":
        _prepare_videos(options)
    else:
        _prepare_layout(options)


def _prepare_videos(options: argparse.Namespace) -> None:
    from data_pipelines.prepare import prepare

    if options.attributes:
        raise UserError("--attributes: videos have none; leave it out, or give --layout celeba")
    longest = options.max_frames or 128
    report = prepare(
        options.inputs,
        options.out,
        size=options.size,
        faces=options.faces or "dlib",
        workers=options.workers,
        test_share=options.test_share,
        split=options.split or "identity",
        min_frames=min(16, longest),
        max_frames=longest,
        measured=options.openface,
    )
    print(report.text())


def _prepare_layout(options: argparse.Namespace) -> None:
    from data_pipelines.layouts.prepare import prepare_layout

    if len(options.inputs) != 1:
        raise UserError(f"--layout {options.layout}: give the one folder of the data set, not {len(options.inputs)}")
    if options.max_frames:
        raise UserError(f"--max-frames: the pictures of --layout {options.layout} make no shots; leave it out")
    names = [name.strip() for name in (options.attributes or "").split(",") if name.strip()]
    report = prepare_layout(
        options.inputs[0],
        options.out,
        options.layout,
        size=options.size,
        faces=options.faces or "",
        attributes=names,
        measured=options.openface,
        workers=options.workers,
        test_share=options.test_share,
        split=options.split or "",
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
