"""Published checkpoints of StarGAN, made up here from the method's own shapes."""

from typing import Any

import jax
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.label_networks import entries_for, shapes_of
from reenax.interop.stargan import convert, module_name
from reenax.interop.torch import to_state
from reenax.methods.stargan import StarGAN

METHOD = from_mapping(
    StarGAN,
    {
        "label_names": ("angry", "happy"),
        "exclusive_labels": True,
        "label_groups": (),
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
    states["G"]["main.1.num_batches_tracked"] = np.zeros((), np.int64)
    return states, variables


def test_every_tensor_finds_its_place() -> None:
    states, variables = published()
    assert {"main.1.running_var", "main.9.main.1.running_mean", "main.10.main.3.weight", "main.17.weight"} < set(
        states["G"]
    )
    jax.tree.map(np.testing.assert_array_equal, convert(states, METHOD), variables)


def test_a_generator_can_come_alone() -> None:
    states, variables = published()
    made: Any = convert({"G": states["G"]}, METHOD)
    jax.tree.map(np.testing.assert_array_equal, made["generator"], variables["generator"])
    assert not np.any(made["critic"]["params"]["label"]["kernel"])


def test_another_number_of_labels_is_told() -> None:
    states, _ = published()
    states["G"]["main.0.weight"] = np.zeros((4, 8, 7, 7), np.float32)
    with pytest.raises(UserError, match=r"of another shape: G.main.0.weight \[4, 8, 7, 7\] instead of \[4, 5, 7, 7\]"):
        convert(states, METHOD)
