"""`reenax quickstart`, `animate`, `evaluate` and `methods`."""

import argparse
from pathlib import Path
from typing import Any

from reenax.cli.parts import command
from reenax.commands import keep_programs, positive


def add_quickstart(commands: Any) -> None:
    """`reenax quickstart`."""
    parser = command(
        commands,
        "quickstart",
        _quickstart,
        "render talking heads, train on them, measure, animate, and leave a page that shows all of it (five minutes)",
        "reenax quickstart --out quickstart",
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for all that is made")


def _quickstart(options: argparse.Namespace, _: list[str]) -> None:
    from reenax.quickstart import quickstart

    keep_programs()
    quickstart(options.out)


def _add_trained(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", dest="folder", type=Path, help="run folder of `reenax train`")
    where.add_argument("--checkpoint", dest="folder", type=Path, metavar="DIR", help="folder of `reenax import`")
    parser.add_argument("--step", type=int, help="use the checkpoint of this step (the newest)")
    parser.add_argument("--batch-size", type=positive, default=8, help="driving frames worked on together (8)")


def add_animate(commands: Any) -> None:
    """`reenax animate`."""
    parser = command(
        commands,
        "animate",
        _animate,
        "make a portrait follow a driver: a video, action units, head poses, speech or labels",
        "reenax animate --run runs/fomm --source me.jpg --driving talk.mp4 --out me_talking.mp4 --compare\n"
        "  reenax animate --run runs/ganimation --source me.jpg --action-units AU12=1.0,AU6=0.5 --out smile.png\n"
        "  reenax animate --run runs/ganimation --source me.jpg --action-units AU45=0..1 --paste-back --out blink.mp4\n"
        "  reenax animate --run runs/x2face --source me.jpg --pose yaw=-30..30 --frames 60 --out turn.mp4\n"
        "  reenax animate --run runs/x2face --source me.jpg --audio speech.wav --out speech.mp4\n\n"
        "`reenax methods` tells which drivers a method takes",
    )
    _add_trained(parser)
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="picture or video of the identity; several for methods that use several (a method that was trained to "
        "draw one person needs none)",
    )
    _add_drivers(parser)
    parser.add_argument("--out", type=Path, required=True, help="the .mp4 to write (.png for a single picture)")
    parser.add_argument(
        "--mode",
        help="move by the driver's change since its first frame (relative, what most methods do by default), take its "
        "pose and shape as they are (absolute), or what else the method has; short for --option mode=...",
    )
    parser.add_argument(
        "--best-frame", action="store_true", help="begin at the driving frame whose pose is nearest to the source's"
    )
    parser.add_argument(
        "--adapt-scale", action="store_true", help="scale relative movement by the ratio of the two faces' sizes"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, for example yaw=30 to look at the head from the side; may be repeated; "
        "`reenax methods NAME` lists them",
    )
    parser.add_argument("--paste-back", action="store_true", help="put the result back into the whole source picture")
    parser.add_argument("--compare", action="store_true", help="write source, driving and result side by side")
    parser.add_argument(
        "--faces",
        choices=("dlib", "none"),
        default="dlib",
        help="crop around the face like prepare (dlib), or take the centre square (none)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="SHARE",
        help="cut the source at the face's box and so much more on every side (0 for models trained on tight crops, as "
        "GANimation's published ones); else like prepare",
    )
    parser.add_argument(
        "--no-credentials",
        action="store_true",
        help="write no C2PA content credentials: viewers can then not tell that the video is made by "
        "AI, and you have to say so yourself",
    )


def _add_drivers(parser: argparse.ArgumentParser) -> None:
    driver = parser.add_argument_group("driver, one of")
    driver.add_argument("--driving", type=Path, help="video, picture or folder of pictures to follow")
    driver.add_argument(
        "--action-units",
        metavar="FILE.csv|AU12=1,...",
        help="OpenFace's measurements of a video or picture; or intensities from 0 to 1, the others staying as in "
        "the source: an expression (.png), what the source's expression turns into (.mp4), or a range AU12=0..1",
    )
    driver.add_argument(
        "--pose",
        metavar="FILE.csv|yaw=A..B,...",
        help="head poses: pitch, yaw and roll in degrees, as columns of a file (with time in s) or as text",
    )
    driver.add_argument("--audio", type=Path, metavar="FILE.wav", help="speech: a sound file, or a video's sound")
    driver.add_argument(
        "--labels", metavar="NAME|NAME=1,...", help="a class or attributes, for example happy or Black_Hair=1,Male=0"
    )
    parser.add_argument(
        "--frames",
        type=positive,
        metavar="N",
        help="length of a range (25); without a driver: N frames as the method goes on by itself (monkey_net with a "
        "trained predictor)",
    )


DRIVERS = ("driving", "action_units", "pose", "audio", "labels")


def _animate(options: argparse.Namespace, _: list[str]) -> None:
    keep_programs()
    from reenax.core.errors import UserError
    from reenax.inference.animate import animate
    from reenax.inference.imagine import check_imagines, imagine
    from reenax.inference.options import split_options
    from reenax.train.runs import load_trained

    texts = [f"mode={options.mode}"] if options.mode else []
    texts += ["adapt_scale=true"] if options.adapt_scale else []
    given = [n for n in DRIVERS if getattr(options, n) is not None]
    names = [f"--{n.replace('_', '-')}" for n in DRIVERS]
    if len(given) > 1:
        raise UserError(f"there can be one driver: leave out all but one of {', '.join(names)}")
    if not given and options.frames is None:
        raise UserError(f"there is no driver: give one of {', '.join(names)} (or --frames, where a method needs none)")

    trained = load_trained(options.folder, options.step)
    common = {
        "options": split_options([*texts, *options.option]),
        "faces": options.faces,
        "credentials": not options.no_credentials,
        "batch_size": options.batch_size,
    }
    about_drivers = {n: getattr(options, n) for n in ("best_frame", "paste_back", "compare", "margin")}
    if given:
        drive = _driver(given[0], options, trained)
        report = animate(trained, options.source, drive, options.out, **about_drivers, **common)
    else:
        check_imagines(trained)
        for name in (n for n, wanted in about_drivers.items() if wanted not in (None, False)):
            raise UserError(f"--{name.replace('_', '-')} needs a driver; leave it out with --frames")
        if len(options.source) != 1:
            raise UserError(f"--source must name one picture or video, not {len(options.source)}")
        report = imagine(trained, options.source[0], options.out, options.frames, **common)
    print(report.text())


def _driver(name: str, options: argparse.Namespace, trained: Any) -> Any:
    """What drives: the path of pictures, or a track."""
    from reenax.core.errors import UserError
    from reenax.inference import tracks
    from reenax.inference.animate import check_kind

    check_kind(trained, "video" if name == "driving" else name)
    still, frames = options.out.suffix.lower() == ".png", options.frames
    if frames is not None and name not in ("action_units", "pose"):
        raise UserError(f"--frames is the length of a range of --action-units or --pose; leave it out with --{name}")
    if name == "action_units":
        return tracks.action_unit_track(options.action_units, frames, still)
    if name == "pose":
        return tracks.pose_track(options.pose, frames, still)
    if name == "audio":
        return tracks.audio_track(options.audio)
    if name == "labels":
        return tracks.label_track(options.labels, trained.method.label_names, trained.name)
    return options.driving


def add_evaluate(commands: Any) -> None:
    """`reenax evaluate`."""
    parser = command(
        commands,
        "evaluate",
        _evaluate,
        "measure reenactment on a dataset, beside doing nothing: of people by themselves and, where the dataset has "
        "the truth (synthetic heads), by others",
        "reenax evaluate --run runs/fomm --data data/mine --json result.json\n"
        "  reenax evaluate --run runs/heads64 --data data/heads64 --estimators runs/estimators\n\n"
        "`python experiments/benchmark.py --help`: the same with a sheet of pictures, and many runs in one table",
    )
    _add_trained(parser)
    parser.add_argument(
        "--estimators",
        type=Path,
        metavar="RUN",
        help="also measure what these networks read from the pictures: landmarks, pose, expression, identity "
        "(a run of configs/estimators.py)",
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset folder made by `reenax prepare`")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, for example mode=avd in the place of absolute motion; may be repeated",
    )
    parser.add_argument(
        "--driver",
        choices=("video", "action_units", "pose", "audio"),
        help="what of the clips drives the method (video, or what the method takes)",
    )
    parser.add_argument("--split", choices=("test", "train"), default="test", help="which clips (test)")
    parser.add_argument("--max-frames", type=positive, help="use only so many frames of each clip")
    parser.add_argument("--json", type=Path, help="where to write the numbers (RUN/evaluation_SPLIT.json)")


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    keep_programs()
    from data_pipelines.loader import open_clips
    from reenax.inference.evaluate import evaluate
    from reenax.inference.options import split_options
    from reenax.train.runs import load_trained, write_json

    trained = load_trained(options.folder, options.step)
    result = evaluate(
        trained,
        open_clips(options.data, options.split),
        driver=options.driver,
        options=split_options(options.option),
        estimators=None if options.estimators is None else load_trained(options.estimators),
        max_frames=options.max_frames,
        batch_size=options.batch_size,
    )
    path = options.json or options.folder / f"evaluation_{options.split}.json"
    write_json(path, result.to_json())
    print(result.table())
    print(f"written to {path}")


def add_methods(commands: Any) -> None:
    """`reenax methods`."""
    parser = command(
        commands,
        "methods",
        _methods,
        "list the methods and their configs, or the options of one",
        "reenax methods\n  reenax methods fomm",
    )
    parser.add_argument("name", nargs="?", help="the method whose options are wanted")


def _methods(options: argparse.Namespace, _: list[str]) -> None:
    from reenax.train.catalogue import method_table

    if options.name is None:
        print(method_table())
        return
    from reenax import load_method
    from reenax.inference.options import describe_options

    method = load_method(options.name)
    print(method_table((options.name,)))
    print(f"options of animate (--option NAME=VALUE)\n{describe_options(method) or '  none'}")
