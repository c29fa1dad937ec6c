"""The published weights of SyncNet (``syncnet_v2.model``): ``netcnnaud.N.*``, ``netfcaud.N.*``, ``netcnnlip.N.*`` and
``netfclip.N.*``, numbered by position.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.interop.torch import entries_of, flat_tensors, listed, read_checkpoint, to_variables
from reenax.metrics.sync import frozen_syncnet

NETWORKS = {"audio_net": ("netcnnaud", "netfcaud"), "lip_net": ("netcnnlip", "netfclip")}
# a norm stands right behind its convolution
POSITIONS = {"conv1": 0, "conv2": 4, "conv3": 8, "conv4": 11, "conv5": 14, "conv6": 18}
DENSE = {"hidden": 0, "bn": 1, "out": 3}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load(path: str | pathlib.Path) -> Collections:
    """The variables of :class:`reenax.metrics.sync.SyncNet` from the published file.

    Raises:
        UserError: an unreadable or hostile file, or tensors that do not fit.
    """
    return convert(read_checkpoint(path))


def convert(checkpoint: Mapping[str, Any]) -> Collections:
    """The variables from the contents of the published file.

    Raises:
        UserError: the file holds another network, or tensors are missing, unknown or misshapen.
    """
    tensors = flat_tensors(checkpoint)
    prefixes = tuple(f"{p}." for pair in NETWORKS.values() for p in pair)
    if not any(n.startswith(prefixes) for n in tensors):
        raise UserError(f"the file is not SyncNet: it holds {listed(tensors) or 'no tensors'}")
    state = {n: _flat(v) for n, v in tensors.items() if not n.endswith(".num_batches_tracked")}
    shapes = {"syncnet": jax.eval_shape(frozen_syncnet().init, jax.random.key(0))}
    return to_variables(state, entries_of(shapes, _published), shapes)["syncnet"]


def _published(path: tuple[str, ...]) -> str:
    _, _, network, part, module, leaf = path
    convolutions, dense = NETWORKS[network]
    if part == "head":
        return f"{dense}.{DENSE[module]}.{LEAVES[leaf]}"
    return f"{convolutions}.{POSITIONS[part] + (module == 'bn')}.{LEAVES[leaf]}"


def _flat(tensor: np.ndarray) -> np.ndarray:
    """A kernel over time with the moments of the window as channels, the channels of a moment together."""
    if tensor.ndim != 5:
        return tensor
    out, channels, time, *size = tensor.shape
    return tensor.transpose(0, 2, 1, 3, 4).reshape(out, time * channels, *size)
