"""Published checkpoints of GANimation (``net_epoch_30_id_G.pth`` and ``net_epoch_30_id_D.pth``)."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reenax.core.types import Variables
from reenax.interop.label_networks import convert_pair, module_names, read_pair
from reenax.methods.ganimation import GANimation

# statistics that PyTorch 0.3 stored with instance norms and never used
LEFT_OUT = re.compile(r".*\.(running_mean|running_var|num_batches_tracked)")
HEADS = {"colour": "img_reg.0", "attention": "attetion_reg.0"}  # the published spelling


def read(path: Path) -> dict[str, Any]:
    """Both files, see `reenax.interop.label_networks.read_pair`."""
    return read_pair(path)


def convert(checkpoint: Mapping[str, Any], method: GANimation) -> Variables:
    """The variables of generator and critic, see `reenax.interop.label_networks.convert_pair`."""
    size = method.critic.image_size
    module = module_name(method)
    return convert_pair(checkpoint, method, name="ganimation", image_size=size, module=module, left_out=LEFT_OUT)


def module_name(method: GANimation) -> Callable[[str], str]:
    """Our module name to the published one."""
    module = module_names(method.generator.blocks)
    return lambda name: HEADS.get(name) or module(name)
