"""Checkpoints of face vid2vid as the published implementation writes them (``00000189-checkpoint.pth.tar``).

Top level: ``generator``, ``kp_detector``, ``he_estimator``, ``discriminator``, next to optimisers and the epoch, which
are left out. The config says with which generator (SPADE or not) and with which rotations a file was trained: the file
itself does not.
"""

import re
from collections.abc import Mapping
from typing import Any

from reenax.core.types import Variables
from reenax.interop.published import published_module, read_published
from reenax.methods.face_vid2vid import FaceVid2Vid

SWAPPED = {"fc_yaw": "fc_roll", "fc_roll": "fc_yaw"}  # the file's layers have each other's names


def module_name(module: str) -> str:
    """Our module name to the published one: ``block1_b1_0`` to ``block1.b1_0``, ``resblocks_3d_0`` to
    ``resblocks_3d.3dr0``, ``fc_yaw`` to ``fc_roll``.
    """
    if found := re.fullmatch(r"resblocks_([23]d)_(\d+)", module):
        return f"resblocks_{found[1]}.{found[1]}r{found[2]}"
    if found := re.fullmatch(r"(block\d|mlp_shared)_(.+)", module):
        return f"{found[1]}.{found[2]}"
    return SWAPPED.get(module) or published_module(module)


def convert(checkpoint: Mapping[str, Any], method: FaceVid2Vid) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    Raises:
        UserError: see `reenax.interop.published.read_published`.
    """
    blurs = {"kp_detector.down.weight": method.kp_detector.scale_factor}
    return read_published(checkpoint, method, name="face_vid2vid", module=module_name, blurs=blurs)
