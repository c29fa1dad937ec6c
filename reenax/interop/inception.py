"""The weights of FID's Inception network (``pt_inception-2015-12-05-6726825d.pth``).

Its tensors are ``Conv2d_1a_3x3.conv.weight``, ``Conv2d_1a_3x3.bn.*``, ``Mixed_5b.branch1x1.*`` and so on; the
classifier ``fc.*`` is not used. A saved state of the pytorch-fid package's network, which numbers the blocks, is read
as well.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.interop.torch import entries_of, flat_tensors, listed, read_checkpoint, to_variables
from reenax.nn.inception import frozen_inception

BLOCKS = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    tuple(f"Mixed_{n}" for n in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
IGNORED = re.compile(r"fc\..*|.*\.num_batches_tracked")
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load(path: str | pathlib.Path) -> Collections:
    """The variables of :class:`reenax.nn.inception.FidInception` from the published file.

    Raises:
        UserError: an unreadable or hostile file, or tensors that do not fit.
    """
    return convert(read_checkpoint(path))


def convert(checkpoint: Mapping[str, Any]) -> Collections:
    """The variables from the contents of the published file.

    Raises:
        UserError: the file holds another network, or tensors are missing, unknown or misshapen.
    """
    state = {_plain(n): v for n, v in flat_tensors(checkpoint).items() if not IGNORED.fullmatch(n)}
    if any(n.startswith("AuxLogits.") for n in state):
        raise UserError("the file is torchvision's inception_v3; FID needs pt_inception-2015-12-05-6726825d.pth")
    known = {module for block in BLOCKS for module in block}
    if not any(n.split(".")[0] in known for n in state):
        raise UserError(f"the file is not the Inception network of FID: it holds {listed(state) or 'no tensors'}")
    shapes = {"inception": jax.eval_shape(frozen_inception().init, jax.random.key(0))}
    entries = entries_of(shapes, lambda path: ".".join([*path[2:-1], LEAVES[path[-1]]]))
    return to_variables(state, entries, shapes)["inception"]


def _plain(name: str) -> str:
    """``blocks.2.3.branch3x3.conv.weight`` to ``Mixed_6a.branch3x3.conv.weight``; any other name as it is."""
    found = re.fullmatch(r"blocks\.([0-3])\.(\d)\.(.*)", name)
    if not found:
        return name
    block, index = BLOCKS[int(found[1])], int(found[2])
    return f"{block[index]}.{found[3]}" if index < len(block) else name
