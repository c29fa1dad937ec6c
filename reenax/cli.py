"""The commands. Imports stay inside each command, so that `reenax --help` is instant."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reenax import __version__

if TYPE_CHECKING:
    pass

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 2 an error of the user's, 75 stopped by SIGTERM and saved."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    overrides, unknown = _split_overrides(rest) if options.command == "train" else ([], rest)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    _start_logging()
    return _run(lambda: options.run(options, overrides), options.debug)


def _split_overrides(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """``--config.KEY=VALUE`` and ``--config.KEY VALUE`` on one side, all else on the other."""
    overrides, unknown, words = [], [], iter(rest)
    for word in words:
        if not word.startswith("--config."):
            unknown.append(word)
        elif "=" in word:
            overrides.append(word)
        else:
            overrides.append(f"{word}={next(words, '')}")
    return overrides, unknown


class _Lines(logging.Handler):
    """Bare lines on the standard error of the moment; warnings say that they are."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(prefix + record.getMessage(), file=sys.stderr)


def _start_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax warns of every save without a score
    log = logging.getLogger("reenax")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [_Lines()]


def _run(command: Callable[[], int | None], debug: bool) -> int:
    from reenax.core.errors import UserError

    try:
        return command() or 0
    except UserError as error:
        if debug:
            raise
        print(f"reenax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("reenax: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug or error.errno is None:
            raise
        print(f"reenax: error: {_os_error(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except MemoryError:
        print("reenax: error: out of memory: lower the batch size or the number of workers", file=sys.stderr)
        return EXIT_USER_ERROR
    except RuntimeError as error:
        if debug or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print("reenax: error: the device is out of memory: lower the batch size", file=sys.stderr)
        return EXIT_USER_ERROR


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    fix = "; free some space and run the same command again" if error.errno == 28 else ""
    return f"{where}{error.strerror}{fix}"


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="reenax",
        description="Face reenactment: make a portrait move like a driving video. "
        "Prepare a folder of videos, train a method on it, animate a picture with it.",
        epilog="`reenax COMMAND --help` explains a command. Start with `reenax quickstart`.",
    )
    parser.add_argument("--version", action="version", version=f"reenax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_quickstart(commands)
    _add_prepare(commands)
    _add_train(commands)
    _add_animate(commands)
    _add_evaluate(commands)
    _add_import(commands)
    _add_methods(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[..., Any], summary: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _add_quickstart(commands: Any) -> None:
    parser = _command(
        commands,
        "quickstart",
        _quickstart,
        "render clips of moving shapes, prepare, train, evaluate and animate them",
        "reenax quickstart --out quickstart",
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for all that is made")


def _quickstart(options: argparse.Namespace, _: list[str]) -> None:
    from reenax.quickstart import quickstart

    _compilation_cache()
    quickstart(options.out)


def _add_prepare(commands: Any) -> None:
    parser = _command(
        commands,
        "prepare",
        _prepare,
        "turn videos into a dataset: faces found, clips cut, split by identity",
        "reenax prepare videos/ --out data/mine --size 256 --workers 8",
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
    parser.add_argument("--size", type=_positive, default=256, help="side of the square frames in pixels (256)")
    parser.add_argument(
        "--faces",
        choices=("dlib", "none"),
        default="dlib",
        help="find and follow the face (dlib), or take the centre of whole frames (none)",
    )
    parser.add_argument("--workers", type=_positive, default=1, help="videos worked on at the same time (1)")
    parser.add_argument("--test-share", type=float, default=0.2, help="share in the test split (0.2)")
    parser.add_argument(
        "--split",
        choices=("identity", "clips"),
        default="identity",
        help="test on people that training never sees (identity), or on the last clips of every person (clips)",
    )
    parser.add_argument(
        "--max-frames", type=_positive, default=128, help="longer shots are cut into several clips (128)"
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


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _train,
        "train a method on a dataset, or continue a run",
        "reenax train --config configs/fomm.py:vox256 --data data/mine --run runs/fomm --config.batch_size=16\n"
        "  reenax train --resume runs/fomm\n\n"
        "--config.KEY=VALUE changes one value of the config: --config.lr=1e-4, --config.mesh.fsdp=4,\n"
        "--config.dtype=bfloat16, --config.wandb.mode=online; configs/common.py explains the keys.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE:NAME",
        help="configs/METHOD.py:NAME, for example configs/fomm.py:real64; see `reenax methods`",
    )
    parser.add_argument("--data", type=Path, help="dataset folder made by `reenax prepare`")
    parser.add_argument("--run", dest="folder", type=Path, help="folder of the new run")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue this run from its newest checkpoint")
    parser.add_argument(
        "--warm-start",
        type=Path,
        metavar="RUN",
        help="start from the networks of another run or of an imported checkpoint",
    )


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    from reenax.core.errors import UserError

    if options.resume is None:
        missing = [
            n
            for n, v in (("--config", options.config), ("--data", options.data), ("--run", options.folder))
            if v is None
        ]
        if missing:
            raise UserError(f"train needs {', '.join(missing)}, or --resume RUN to continue a run")
    elif options.config or options.folder or options.warm_start:
        raise UserError("--resume takes config and folder from the run: leave out --config, --run and --warm-start")
    _compilation_cache()
    from reenax.train.config import load_config, override
    from reenax.train.loop import Preempted
    from reenax.train.run import resume, train

    try:
        if options.resume is not None:
            resume(options.resume, options.data, lambda config: override(config, overrides))
        else:
            train(load_config(options.config, overrides), options.data, options.folder, options.warm_start)
    except Preempted as stopped:
        folder = options.resume or options.folder
        print(f"reenax: {stopped}; continue with `reenax train --resume {folder}`", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def _add_trained(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", dest="folder", type=Path, help="run folder of `reenax train`")
    where.add_argument("--checkpoint", dest="folder", type=Path, metavar="DIR", help="folder of `reenax import`")
    parser.add_argument("--step", type=int, help="use the checkpoint of this step (the newest)")
    parser.add_argument("--batch-size", type=_positive, default=8, help="driving frames worked on together (8)")


def _add_animate(commands: Any) -> None:
    parser = _command(
        commands,
        "animate",
        _animate,
        "make a portrait follow a driving video",
        "reenax animate --run runs/fomm --source me.jpg --driving talk.mp4 --out me_talking.mp4 --compare",
    )
    _add_trained(parser)
    parser.add_argument("--source", type=Path, required=True, help="picture or video of the identity")
    parser.add_argument("--driving", type=Path, required=True, help="video, picture or folder of pictures to follow")
    parser.add_argument("--out", type=Path, required=True, help="the .mp4 to write (.png for a driving picture)")
    parser.add_argument(
        "--mode",
        choices=("relative", "absolute"),
        default="relative",
        help="move by the driver's change since its first frame (relative), or take its pose and "
        "shape as they are (absolute)",
    )
    parser.add_argument(
        "--best-frame", action="store_true", help="begin at the driving frame whose pose is nearest to the source's"
    )
    parser.add_argument(
        "--adapt-scale", action="store_true", help="scale relative movement by the ratio of the two faces' sizes"
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
        "--no-credentials",
        action="store_true",
        help="write no C2PA content credentials: viewers can then not tell that the video is made by "
        "AI, and you have to say so yourself",
    )


def _animate(options: argparse.Namespace, _: list[str]) -> None:
    _compilation_cache()
    from reenax.inference.animate import animate
    from reenax.train.runs import load_trained

    report = animate(
        load_trained(options.folder, options.step),
        options.source,
        options.driving,
        options.out,
        mode=options.mode,
        best_frame=options.best_frame,
        adapt_scale=options.adapt_scale,
        paste_back=options.paste_back,
        compare=options.compare,
        faces=options.faces,
        credentials=not options.no_credentials,
        batch_size=options.batch_size,
    )
    print(report.text())


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        _evaluate,
        "measure self-reenactment on a dataset: L1, PSNR, SSIM per clip and overall",
        "reenax evaluate --run runs/fomm --data data/mine --json result.json",
    )
    _add_trained(parser)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder made by `reenax prepare`")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="which clips (test)")
    parser.add_argument("--max-frames", type=_positive, help="use only so many frames of each clip")
    parser.add_argument("--json", type=Path, help="where to write the numbers (RUN/evaluation_SPLIT.json)")


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    _compilation_cache()
    from data_pipelines.loader import open_clips
    from reenax.inference.evaluate import evaluate
    from reenax.train.runs import load_trained, write_json

    trained = load_trained(options.folder, options.step)
    result = evaluate(
        trained, open_clips(options.data, options.split), max_frames=options.max_frames, batch_size=options.batch_size
    )
    path = options.json or options.folder / f"evaluation_{options.split}.json"
    write_json(path, result.to_json())
    print(result.table())
    print(f"written to {path}")


def _add_import(commands: Any) -> None:
    parser = _command(
        commands,
        "import",
        _import,
        "turn a published PyTorch checkpoint into one that reenax uses",
        "reenax import fomm vox-cpk.pth.tar --config configs/fomm.py:vox256 --out runs/vox\n"
        "  reenax import vgg19 vgg19-dcbb9e9d.pth --out runs/vgg19",
    )
    parser.add_argument("kind", help="a method's name, or a frozen network: vgg16, vgg19")
    parser.add_argument("file", type=Path, help="the checkpoint; read with weights_only, nothing in it is executed")
    parser.add_argument("--config", metavar="FILE:NAME", help="the config that it was trained with (methods only)")
    parser.add_argument("--out", type=Path, required=True, help="new folder")


def _import(options: argparse.Namespace, _: list[str]) -> None:
    from reenax.train.imports import import_checkpoint

    print(import_checkpoint(options.kind, options.file, options.config, options.out))


def _add_methods(commands: Any) -> None:
    _command(commands, "methods", _methods, "list the methods and their configs", "reenax methods")


def _methods(options: argparse.Namespace, _: list[str]) -> None:
    from reenax.train.config import method_table

    print(method_table())


def _compilation_cache() -> None:
    """Keeps compiled programs between commands, so that the second start is quick."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "reenax" / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


if __name__ == "__main__":
    sys.exit(main())
