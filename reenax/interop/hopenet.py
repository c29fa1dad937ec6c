"""Hopenet's file (``hopenet_robust_alpha1.pkl``) as a frozen network.

Its tensors have torchvision's names of a ResNet-50, with three dense layers ``fc_yaw``, ``fc_pitch``, ``fc_roll`` at
the end and one, ``fc_finetune``, that is not used.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.interop.torch import State, entries_of, flat_tensors, listed, to_variables
from reenax.nn.hopenet import frozen_hopenet

IGNORED = re.compile(r"fc_finetune\..*|.*\.num_batches_tracked")
EPSILON = 1e-5
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def convert(checkpoint: Mapping[str, Any]) -> Collections:
    """``{"params": ...}`` of :class:`reenax.nn.hopenet.Hopenet` from the published state.

    Raises:
        UserError: the file holds another network, or tensors are missing, unknown or misshapen.
    """
    state = {n: v for n, v in flat_tensors(checkpoint).items() if not IGNORED.fullmatch(n)}
    if "fc_yaw.weight" not in state:
        raise UserError(f"the file is not Hopenet: it has no fc_yaw; it holds {listed(state) or 'no tensors'}")
    shapes = {"hopenet": jax.eval_shape(frozen_hopenet().init, jax.random.key(0))}
    return to_variables(_folded(state), entries_of(shapes, _published), shapes)["hopenet"]


def _published(path: tuple[str, ...]) -> str:
    modules = (re.sub(r"(layer\d|downsample)_", r"\1.", module) for module in path[2:-1])
    return ".".join([*modules, LEAVES[path[-1]]])


def _folded(state: State) -> State:
    """Batch norms as a scale and a shift, in double precision."""
    folded = dict(state)
    for name in state:
        norm, found, _ = name.rpartition(".running_mean")
        parts = [folded.get(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        if not found or any(part is None for part in parts):
            continue
        weight, bias, mean, var = (np.asarray(part, np.float64) for part in parts)
        scale = weight / np.sqrt(var + EPSILON)
        folded[f"{norm}.weight"], folded[f"{norm}.bias"] = scale, bias - mean * scale
        del folded[f"{norm}.running_mean"], folded[f"{norm}.running_var"]
    return folded
