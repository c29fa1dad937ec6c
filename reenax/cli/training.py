"""`reenax train` and `reenax import`."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reenax.cli.parts import command
from reenax.commands import keep_programs, run_command, start_logging
from reenax.core.errors import UserError
from reenax.core.parents import die_with_parent
from reenax.train.processes import EXIT_LOST, EXIT_PREEMPTED, Place, find_place, join, leave, tells_of_loss


def add_train(commands: Any) -> None:
    """`reenax train`."""
    parser = command(
        commands,
        "train",
        _train,
        "train a method on a dataset, or continue or repeat a run",
        "reenax train --config configs/fomm.py:vox256 --data data/mine --run runs/fomm --config.batch_size=16\n"
        "  reenax train --resume runs/fomm\n"
        "  reenax train --repeat runs/fomm --run runs/fomm_again\n\n"
        "Several processes: start the same command in each. They find each other by SLURM, Open MPI, JobSet, a TPU\n"
        "slice or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; or say --coordinator HOST:PORT\n"
        "--processes N --process-id K. `python -m experiments.launch --help` writes the scripts.\n\n"
        "exit codes: 0 done; 2 something to mend; 75 stopped by SIGTERM and saved, 76 another process was lost: start\n"
        "the same command again with --or-resume, or use --resume RUN.\n\n"
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
        "--or-resume",
        action="store_true",
        help="continue the run of --run when it exists: one command for the first start and for every restart",
    )
    parser.add_argument(
        "--repeat",
        type=Path,
        metavar="RUN",
        help="train anew with the config, dataset and starting point of this run; give --run for the new folder",
    )
    parser.add_argument(
        "--differences",
        choices=("refuse", "warn"),
        help="what --repeat does when package versions, git revision or the dataset differ (default: refuse)",
    )
    parser.add_argument(
        "--warm-start",
        type=Path,
        metavar="RUN",
        help="start from the networks of another run or of an imported checkpoint",
    )

    together = parser.add_argument_group("several processes")
    together.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is found by the others")
    together.add_argument("--processes", type=int, metavar="N", help="how many processes there are")
    together.add_argument("--process-id", type=int, metavar="K", help="which one this is, from 0")


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    _check(options, overrides)
    place = find_place(os.environ, options.coordinator, options.processes, options.process_id)
    if place.coordinator is None:
        return _start(options, overrides)
    from reenax.cli.supervision import watch, watcher

    parent = watcher()
    if parent is None:
        return watch(place)
    die_with_parent(parent)
    start_logging(quiet=place.index > 0)
    return leave(place, _guarded(place, lambda: _start(options, overrides, place), options.debug))


def _check(options: argparse.Namespace, overrides: list[str]) -> None:
    """Refuses options that do not go together."""
    given = {"--config": options.config, "--data": options.data, "--run": options.folder}
    if options.resume is not None and (options.config or options.folder or options.warm_start or options.repeat):
        raise UserError(
            "--resume takes config and folder from the run: leave out --config, --run, --repeat and --warm-start"
        )
    if options.repeat is not None and (options.config or options.warm_start):
        raise UserError("--repeat takes config and starting point from the run: leave out --config and --warm-start")
    if options.repeat is not None and overrides:
        raise UserError(f"--repeat changes nothing: leave out {overrides[0]}, or start a new run with --config")
    if options.differences and options.repeat is None:
        raise UserError(f"--differences {options.differences} is for --repeat RUN; --resume needs the same dataset")
    if options.or_resume and options.resume is not None:
        raise UserError("--or-resume goes with --run; --resume RUN continues without it")
    needed = () if options.resume is not None else ("--run",) if options.repeat is not None else tuple(given)
    missing = [name for name in needed if given[name] is None]
    if missing:
        raise UserError(f"train needs {', '.join(missing)}, or --resume RUN to continue a run")


def _start(options: argparse.Namespace, overrides: list[str], place: Place | None = None) -> int:
    keep_programs()
    if place is not None:
        join(place)
    from reenax.train.config import load_config, override
    from reenax.train.loop import Preempted
    from reenax.train.repeat import repeat
    from reenax.train.run import holds_run, resume, train

    folder = options.resume or options.folder
    try:
        if options.resume is not None or (options.or_resume and holds_run(folder)):
            resume(folder, options.data, lambda config: override(config, overrides))
        elif options.repeat is not None:
            warn = options.differences == "warn"
            repeat(options.repeat, folder, options.data, warn=warn)
        else:
            train(load_config(options.config, overrides), options.data, folder, options.warm_start)
    except Preempted as stopped:
        if place is None or place.index == 0:
            print(f"reenax: {stopped}; continue with `reenax train --resume {folder}`", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def _guarded(place: Place, command: Callable[[], int], debug: bool) -> int:
    """The exit code of one of several processes, with one line where it stops because another one was lost."""
    from reenax.cli.supervision import lost_line

    try:
        return run_command(command, debug=debug, name=f"reenax: process {place.index}")
    except Exception as error:
        if place.processes > 1 and tells_of_loss(error):
            if debug:
                traceback.print_exc()
            print(lost_line(place, " ".join(str(error).split())[:120]), file=sys.stderr)
            return EXIT_LOST
        traceback.print_exc()
        return 1


def add_import(commands: Any) -> None:
    """`reenax import`."""
    parser = command(
        commands,
        "import",
        _import,
        "turn a published checkpoint or face model into one that reenax uses",
        "reenax import fomm vox-cpk.pth.tar --config configs/fomm.py:vox256 --out runs/vox\n"
        "  reenax import vgg19 vgg19-dcbb9e9d.pth --out runs/vgg19\n"
        "  reenax import bfm2009 01_MorphableModel.mat --landmarks landmarks.txt --out bfm.npz\n"
        "  reenax import flame generic_model.pkl --landmarks landmark_embedding.npy --out flame.npz\n\n"
        "--config.KEY=VALUE changes one value of a method's config, as for `reenax train`.",
    )
    parser.add_argument(
        "kind",
        help="a method's name; a frozen network: vgg16, vgg19, vggface, vggface11, vggmface, hopenet; or a face model: "
        "bfm2009, bfm2017, flame, ict",
    )
    parser.add_argument(
        "file",
        type=Path,
        help="the file; a folder of files for methods that are published in several (ganimation, stargan, x2face, "
        "reenactgan, freenet) and for some face models; nothing in it is ever executed",
    )
    parser.add_argument("--config", metavar="FILE:NAME", help="the config that it was trained with (methods only)")
    parser.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE",
        help="where the 68 landmarks of a face model are: vertex numbers from 0 (.txt, .json, .npy), triangles with "
        "weights, or FLAME's embedding; for models whose own files do not say (face models only)",
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder; for a face model a new .npz file")


def _import(options: argparse.Namespace, overrides: list[str]) -> None:
    from reenax.train.imports import import_file

    about = {"config_spec": options.config, "landmarks": options.landmarks, "overrides": overrides}
    print(import_file(options.kind, options.file, options.out, **about))
