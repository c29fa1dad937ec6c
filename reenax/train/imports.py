"""`reenax import`: published checkpoints of other frameworks into folders that every command takes."""

import importlib
from pathlib import Path

from ml_collections import ConfigDict

import reenax
from reenax.core.errors import UserError
from reenax.interop import torch, vgg
from reenax.train.config import load_config
from reenax.train.runs import make_method, save_imported

FROZEN_KINDS = ("vgg16", "vgg19")


def import_checkpoint(kind: str, file: Path, config_spec: str | None, out: Path) -> str:
    """Converts a checkpoint; returns one line on what was made.

    Args:
        kind: a method's name or a frozen network's kind.
        file: the checkpoint; only tensors and plain containers are read from it.
        config_spec: ``FILE:NAME`` of the config that a method's checkpoint was trained with.
        out: a new folder.

    Raises:
        UserError: an unknown kind, an unreadable or hostile file, tensors that do not fit.
    """
    if kind in FROZEN_KINDS:
        variables = vgg.convert(torch.read_checkpoint(file), kind)
        save_imported(out, ConfigDict({"frozen_kind": kind}), {kind: variables}, {})
        return f"{kind} written to {out}; use it with --config.frozen.{kind}={out}"
    if kind not in reenax.method_names():
        known = ", ".join((*reenax.method_names(), *FROZEN_KINDS))
        raise UserError(f"{kind!r} is neither a method nor a frozen network; known are: {known}")
    if config_spec is None:
        raise UserError(f"importing {kind} needs --config configs/{kind}.py:NAME, the config that it was trained with")
    config = load_config(config_spec)
    if config.method != kind:
        raise UserError(f"{config_spec} is a config of {config.method}, not of {kind}")
    interop = importlib.import_module(f"reenax.interop.{kind}")
    method = make_method(config)
    variables = interop.convert(torch.read_checkpoint(file), method)
    size = config.data.size
    shapes = {name: [[1, size, size, 3], "uint8"] for name in ("source", "driving")}
    save_imported(out, config, variables, shapes)
    return f"{kind} written to {out}; use it with --checkpoint {out} or --warm-start {out}"
