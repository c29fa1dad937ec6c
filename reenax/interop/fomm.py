"""Published checkpoints of the First Order Motion Model (``vox-cpk.pth.tar`` and its kin).

Top level: ``generator``, ``kp_detector``, ``discriminator``, next to optimisers and the epoch, which are left out.
"""

from collections.abc import Mapping
from typing import Any

from reenax.core.types import Variables
from reenax.interop.published import read_published
from reenax.methods.fomm import FirstOrderMotion


def convert(checkpoint: Mapping[str, Any], method: FirstOrderMotion) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    Raises:
        UserError: see `reenax.interop.published.read_published`.
    """
    blurs = {
        "kp_detector.down.weight": method.kp_detector.scale_factor,
        "generator.dense_motion_network.down.weight": method.generator.dense_motion.scale_factor,
    }
    return read_published(checkpoint, method, name="fomm", blurs=blurs)
