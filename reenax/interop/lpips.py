"""Published weights of LPIPS: torchvision's trunk, and the lpips package's own linear layers.

The trunks are ``alexnet-owt-7be5be79.pth``, ``vgg16-397923af.pth`` and ``squeezenet1_1-b8a52dc0.pth``, whose
convolutions are ``features.N.*``; the linear layers are ``alex.pth``, ``vgg.pth`` and ``squeeze.pth`` of version 0.1,
with ``linN.model.1.weight`` [1, C, 1, 1]. A saved state of the package's whole network (``net.sliceK.N.*``) is read as
well.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.interop.torch import Entry, flat_tensors, leaves, listed, read_checkpoint, to_variables
from reenax.metrics.lpips import frozen_lpips, trunk
from reenax.nn import squeezenet, vgg

# positions of the convolutions in torchvision's `features`
ALEXNET = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
# the classifier, the package's copies of the linear layers and its fixed shift and scale
IGNORED = re.compile(r"classifier\..*|lins\..*|scaling_layer\..*")


def load(net: str, trunk: str | pathlib.Path, lins: str | pathlib.Path) -> Collections:
    """The weights from two files, for :func:`reenax.metrics.lpips.lpips`.

    Args:
        net: "alex", "vgg" or "squeeze".
        trunk: torchvision's network.
        lins: the lpips package's linear layers, ``lpips/weights/v0.1/alex.pth`` inside it.

    Raises:
        UserError: an unreadable or hostile file, tensors that do not fit, or an unknown ``net``.
    """
    return convert(read_checkpoint(trunk), net, read_checkpoint(lins))


def convert(checkpoint: Mapping[str, Any], net: str, lins: Mapping[str, Any] | None = None) -> Collections:
    """``{"params": ...}`` of LPIPS from the contents of the published files.

    Args:
        checkpoint: the trunk, or the package's whole network.
        net: "alex", "vgg" or "squeeze".
        lins: the linear layers, when the first does not hold them.

    Raises:
        UserError: the files hold another network, or tensors are missing, unknown, misshapen or negative.
    """
    trunk(net)
    tensors = {**flat_tensors(checkpoint), **flat_tensors(lins or {})}
    state = {_plain(n): v for n, v in tensors.items() if not IGNORED.fullmatch(n)}
    if not any(n.startswith("lin") for n in state):
        raise UserError(f"there are no linear layers of LPIPS; give the lpips package's weights/v0.1/{net}.pth as well")
    state = {n: v.reshape(-1) if n.startswith("lin") else v for n, v in state.items()}
    negative = [n for n, v in state.items() if n.startswith("lin") and (v < 0).any()]
    if negative:
        raise UserError(f"linear layers of LPIPS have no negative weights, {listed(negative)} has")
    shapes = {"lpips": jax.eval_shape(frozen_lpips(net).init, jax.random.key(0))}
    entries = [_entry(path, leaf, net) for path, leaf in leaves(shapes)]
    return to_variables({n: np.asarray(v) for n, v in state.items()}, entries, shapes)["lpips"]


def _plain(name: str) -> str:
    return re.sub(r"^net\.slice\d+\.", "features.", name)


def _entry(path: tuple[str, ...], leaf: Any, net: str) -> Entry:
    if path[2].startswith("lin"):
        return Entry(f"{path[2]}.model.1.weight", path)
    *modules, last = path[3:]
    modules[0] = str(_position(modules[0], net))
    name = ".".join(["features", *modules, "weight" if last == "kernel" else "bias"])
    return Entry(name, path, "conv" if last == "kernel" else "same")


def _position(module: str, net: str) -> int:
    if net == "vgg":
        return vgg.layer_names("vgg16").index(module)
    if net == "alex":
        return ALEXNET[module]
    return squeezenet.FIRES[module][2] if module in squeezenet.FIRES else 0
