"""`reenax plan`."""

import argparse
import os
import re
from typing import Any

from reenax.cli.parts import command
from reenax.commands import with_fake_devices


def add_plan(commands: Any) -> None:
    """`reenax plan`."""
    parser = command(
        commands,
        "plan",
        _plan,
        "say what a training needs on some devices, before there are any: memory, work, traffic, time",
        "reenax plan --config configs/fomm.py:vox256 --mesh data=64,fsdp=4 --config.batch_size=256\n"
        "  reenax plan --config configs/fomm.py:vox256 --mesh data=8 --accelerator h200 --config.dtype=bfloat16\n\n"
        "The steps are compiled for a mesh of pretended devices. No dataset, weights or accelerator are needed.\n"
        "--config.KEY=VALUE changes one value of the config, as for `reenax train`.",
    )
    parser.add_argument("--config", metavar="FILE:NAME", required=True, help="configs/METHOD.py:NAME")
    parser.add_argument(
        "--mesh",
        metavar="data=N,fsdp=M",
        help="N x M devices, 1 for what is left out; the config's mesh by default, one device for data=-1 (all)",
    )
    parser.add_argument("--accelerator", metavar="NAME", help="h100, h200, v5e or v5p; all of them by default")


def _plan(options: argparse.Namespace, overrides: list[str]) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"  # read when jax is imported; what is planned must not take an accelerator
    from reenax.train.accelerators import find_accelerators
    from reenax.train.config import load_config

    accelerators = find_accelerators(options.accelerator)
    config = load_config(options.config, overrides)
    data, fsdp = parse_mesh(options.mesh) if options.mesh is not None else _mesh_of(config)
    _pretend(data * fsdp)
    from reenax.train.plan import make_plan
    from reenax.train.plan_report import describe_plan
    from reenax.train.sharding import make_mesh

    print(describe_plan(make_plan(config, make_mesh(data, fsdp)), accelerators))


def parse_mesh(text: str) -> tuple[int, int]:
    """The sizes of "data" and "fsdp" in ``data=64,fsdp=4``; an axis that is left out has 1.

    Raises:
        UserError: another axis, one that is there twice, or a size that is no positive whole number.
    """
    from reenax.core.errors import UserError

    sizes = {}
    for part in text.split(","):
        axis, _, size = part.strip().partition("=")
        if axis not in ("data", "fsdp") or axis in sizes:
            why = "is there twice" if axis in sizes else "is no axis of the mesh; the axes are data and fsdp"
            raise UserError(f"--mesh {text}: {axis!r} {why}; write it as data=64,fsdp=4")
        if not re.fullmatch(r"[0-9]+", size) or int(size) < 1:
            raise UserError(f"--mesh {text}: {axis}={size} is no number of devices; give a whole number from 1")
        sizes[axis] = int(size)
    return sizes.get("data", 1), sizes.get("fsdp", 1)


def _mesh_of(config: Any) -> tuple[int, int]:
    """The config's mesh; "all devices" are as many as fsdp needs, since there are none to be counted."""
    from reenax.core.errors import UserError

    data, fsdp = config.mesh.data, config.mesh.fsdp
    if (data != -1 and data < 1) or fsdp < 1:
        raise UserError(f"config.mesh needs fsdp >= 1 and data >= 1 (or -1 for all), got data={data}, fsdp={fsdp}")
    return max(data, 1), fsdp


def _pretend(count: int) -> None:
    """Lets jax, which must not have looked for devices yet, find so many CPUs."""
    os.environ["XLA_FLAGS"] = with_fake_devices(os.environ.get("XLA_FLAGS", ""), count)
