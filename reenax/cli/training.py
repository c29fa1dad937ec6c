"""`reenax train` and `reenax import`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from reenax.cli.parts import command
from reenax.commands import keep_programs

EXIT_PREEMPTED = 75


def add_train(commands: Any) -> None:
    """`reenax train`."""
    parser = command(
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
    keep_programs()
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
