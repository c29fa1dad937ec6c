"""Hopenet's file: names, and batch norms as scales and shifts."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.interop.hopenet import convert
from reenax.nn.hopenet import Bottleneck, Hopenet, frozen_hopenet


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """A published state: every tensor one small number, so that 24 million of them cost nothing."""
    shapes = jax.eval_shape(frozen_hopenet().init, jax.random.key(0))["params"]
    made: dict[str, np.ndarray] = {"fc_finetune.weight": np.zeros((3, 2051)), "fc_finetune.bias": np.zeros(3)}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        *modules, name = (key.key for key in path)
        module = re.sub(r"(layer\d|downsample)_", r"\1.", ".".join(modules))
        shape = tuple(leaf.shape)
        if name == "kernel":
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
            made[f"{module}.weight"] = np.broadcast_to(np.float32(0.01), shape)
        elif name == "scale":
            made[f"{module}.weight"] = np.full(shape, 2.0, np.float32)
            made[f"{module}.running_mean"] = np.full(shape, 0.5, np.float32)
            made[f"{module}.running_var"] = np.full(shape, 4.0, np.float32)
            made[f"{module}.num_batches_tracked"] = np.zeros((), np.int64)
        else:
            made[f"{module}.bias"] = np.full(shape, 0.25, np.float32)
    return made


def test_norms_become_scales_and_shifts(state):
    params = convert(state)["params"]
    scale = 2 / np.sqrt(4 + 1e-5)
    norm = params["layer2_0"]["downsample_1"]
    np.testing.assert_allclose(norm["scale"], scale, rtol=1e-6)
    np.testing.assert_allclose(norm["bias"], 0.25 - 0.5 * scale, rtol=1e-5)
    assert params["layer4_2"]["conv2"]["kernel"].shape == (3, 3, 512, 512)
    assert set(params) >= {"fc_yaw", "fc_pitch", "fc_roll"}
    assert "fc_finetune" not in params


def test_what_is_no_hopenet_is_refused(state):
    with pytest.raises(UserError, match="not Hopenet"):
        convert({"layer1.0.conv1.weight": np.zeros((64, 64, 1, 1))})
    with pytest.raises(UserError, match=r"1 missing: layer3\.2\.conv1\.weight"):
        convert({n: v for n, v in state.items() if n != "layer3.2.conv1.weight"})


def test_it_reads_pictures_of_any_size():
    shapes = jax.eval_shape(frozen_hopenet().init, jax.random.key(0))
    for side in (64, 256):
        read = jax.eval_shape(Hopenet().apply, shapes, jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
        assert {n: x.shape for n, x in read.items()} == dict.fromkeys(("yaw", "pitch", "roll"), (2, 66))


def test_shortcuts_are_convolved_where_shapes_change():
    def params(block: Bottleneck, channels: int) -> set[str]:
        return set(jax.eval_shape(block.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))["params"])

    assert "downsample_0" not in params(Bottleneck(4), 16)
    assert "downsample_0" in params(Bottleneck(4), 8)
    assert "downsample_0" in params(Bottleneck(4, stride=2), 16)
