"""Published checkpoints of GANimation, made up here from the method's own shapes."""

from typing import Any

import jax
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.ganimation import convert, module_name
from reenax.interop.label_networks import entries_for, shapes_of
from reenax.interop.torch import to_state
from reenax.methods.ganimation import GANimation
from reenax.nn.label_networks import reads_labels

METHOD = from_mapping(
    GANimation,
    {
        "generator": {"features": 4, "blocks": 2},
        "critic": {"image_size": 16, "features": 4, "layers": 2},
    },
)


def published() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Both files as they are published, and the variables in them."""
    random, shapes = np.random.default_rng(0), shapes_of(METHOD, 16)
    variables = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    states: dict[str, dict[str, Any]] = {"G": {}, "D": {}}
    for name, tensor in to_state(variables, entries_for(shapes, module_name(METHOD))).items():
        states[name[0]][name[2:]] = tensor
    states["G"]["main.1.running_mean"] = np.zeros(4, np.float32)  # as old frameworks stored it
    return states, variables


def test_every_tensor_finds_its_place() -> None:
    states, variables = published()
    heads = {"img_reg.0.weight", "attetion_reg.0.weight"}
    assert heads | {"main.0.weight", "main.10.main.4.bias", "main.14.weight"} < set(states["G"])
    assert set(states["D"]) == {"main.0.weight", "main.0.bias", "main.2.weight", "main.2.bias"} | {
        "conv1.weight",
        "conv2.weight",
    }
    assert states["G"]["main.11.weight"].shape == (16, 8, 4, 4), "transposed: input channels first"
    jax.tree.map(np.testing.assert_array_equal, convert(states, METHOD), variables)
    several_devices = {n: {f"module.{k}": v for k, v in state.items()} for n, state in states.items()}
    jax.tree.map(np.testing.assert_array_equal, convert(several_devices, METHOD), variables)


def test_a_generator_without_its_critic_gets_one_that_cannot_read() -> None:
    states, variables = published()
    for alone in ({"G": states["G"]}, states["G"]):
        made: Any = convert(alone, METHOD)
        jax.tree.map(np.testing.assert_array_equal, made["generator"], variables["generator"])
        assert np.abs(made["critic"]["params"]["conv_0"]["kernel"]).max() > 0, "training can go on from it"
        assert not reads_labels(made)
    assert reads_labels(variables)


def test_another_config_is_told() -> None:
    states, _ = published()
    states["G"].pop("attetion_reg.0.weight")
    states["D"]["main.4.weight"] = np.zeros((1,), np.float32)
    with pytest.raises(UserError, match=r"1 missing: G.attetion_reg.0.weight; 1 unknown: D.main.4.weight"):
        convert(states, METHOD)
    with pytest.raises(UserError, match="no generator of ganimation"):
        convert({"epoch": 3}, METHOD)
