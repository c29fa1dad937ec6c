"""Published checkpoints of Monkey-Net.

Top level: ``generator``, ``kp_detector``, ``discriminator``, next to optimisers, epoch and iteration, which are left
out. The published networks see videos as volumes; their kernels are one frame deep.
"""

import re
from collections.abc import Mapping
from typing import Any

from reenax.core.errors import UserError
from reenax.core.types import Variables
from reenax.interop.published import published_module, read_published
from reenax.interop.torch import State
from reenax.methods.monkey_net import MonkeyNet

IGNORED = re.compile(r"optimizer_.*|epoch|it")
MODULES = {"kp": "predictor.decoder.conv", "masks": "hourglass.decoder.conv"}


def convert(checkpoint: Mapping[str, Any], method: MonkeyNet) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    Raises:
        UserError: the config trains a predictor, which published checkpoints lack; a kernel is several frames deep;
            else see `reenax.interop.published.read_published`.
    """
    if method.stage != "animation":
        raise UserError("published checkpoints of monkey_net have no predictor: import them with a config without one")
    return read_published(
        checkpoint, method, name="monkey_net", module=module_name, ignored=IGNORED, prepare=drop_depth
    )


def module_name(module: str) -> str:
    """Our module name to the published one, a dotted path for the convolutions at the end of an hourglass."""
    found = re.fullmatch(r"(group_blocks)_(\d+)", module)
    return f"{found[1]}.{found[2]}" if found else MODULES.get(module) or published_module(module)


def drop_depth(state: State) -> None:
    """Makes the kernels [out, in, 1, height, width] of a state flat, in place.

    Raises:
        UserError: a kernel sees more than one frame.
    """
    for name, value in state.items():
        if value.ndim == 5:
            if value.shape[2] != 1:
                raise UserError(f"the checkpoint's {name} sees {value.shape[2]} frames; those of monkey_net see one")
            state[name] = value[:, :, 0]
