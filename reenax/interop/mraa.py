"""Published checkpoints of Motion Representations for Articulated Animation (``vox256.pth`` and its kin).

Top level: ``generator``, ``region_predictor``, ``bg_predictor`` and, after the second stage, ``avd_network``, next to
optimisers and the epoch, which are left out.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from reenax.core.types import Variables
from reenax.interop.published import published_module, read_published, tensor_entries
from reenax.interop.torch import to_state
from reenax.methods.mraa import MotionRepresentations
from reenax.methods.mraa.networks import Regions

IGNORED = re.compile(r"optimizer.*|epoch")


def convert(checkpoint: Mapping[str, Any], method: MotionRepresentations) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    A checkpoint of the first stage has no AVD network: it gets a fresh one, with which mode "avd" refuses to run.

    Raises:
        UserError: see `reenax.interop.published.read_published`.
    """
    content = dict(checkpoint)
    if "avd_network" not in content:
        content["avd_network"] = _fresh_avd_network(method)
    if method.bg_predictor.bg_type == "zero" and not content.get("bg_predictor"):
        content.pop("bg_predictor", None)  # a network without tensors
    blurs = {
        "region_predictor.down.weight": method.region_predictor.scale_factor,
        "generator.pixelwise_flow_predictor.down.weight": method.generator.pixelwise_flow_predictor.scale_factor,
    }
    return read_published(content, method, name="mraa", module=module_name, ignored=IGNORED, blurs=blurs)


def module_name(module: str) -> str:
    """Ours to the published one; layers of a perceptron are numbered with norms and activations between them."""
    if found := re.fullmatch(r"(dense|norm)_(\d+)", module):
        return str(3 * int(found[2]) + (found[1] == "norm"))
    return published_module(module)


def _fresh_avd_network(method: MotionRepresentations) -> dict[str, Any]:
    """Its tensors under their published names."""
    network, count = method.game.avd_network, method.num_regions
    regions = Regions(jnp.zeros((1, count, 2)), *(jnp.broadcast_to(jnp.eye(2), (1, count, 2, 2)) for _ in range(2)))
    made: Any = jax.jit(lambda key: network.init(key, regions, regions, train=False))(jax.random.key(0))
    state = to_state({"avd_network": made}, tensor_entries({"avd_network": made}, module_name))
    return {name.removeprefix("avd_network."): tensor for name, tensor in state.items()}
