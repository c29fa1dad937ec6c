"""Published checkpoints of StarGAN (``200000-G.ckpt`` and ``200000-D.ckpt``)."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reenax.core.types import Variables
from reenax.interop.label_networks import convert_pair, module_names, read_pair
from reenax.methods.stargan import StarGAN

LEFT_OUT = re.compile(r".*\.num_batches_tracked")


def read(path: Path) -> dict[str, Any]:
    """Both files, see `reenax.interop.label_networks.read_pair`."""
    return read_pair(path)


def convert(checkpoint: Mapping[str, Any], method: StarGAN) -> Variables:
    """The variables of generator and critic, see `reenax.interop.label_networks.convert_pair`."""
    size, module = method.critic.image_size, module_name(method)
    return convert_pair(checkpoint, method, name="stargan", image_size=size, module=module, left_out=LEFT_OUT)


def module_name(method: StarGAN) -> Callable[[str], str]:
    """Our module name to the published one."""
    blocks = method.generator.blocks
    module = module_names(blocks)
    return lambda name: f"main.{15 + blocks}" if name == "last" else module(name)
