"""Modulated normalisation against its definition, and the folded layout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from reenax.nn.fold import fold
from reenax.nn.spade import Spade, SpadeBlock, SpadeDecoder


def run(module: nn.Module, *args: Any, **options: Any) -> Any:
    return module.apply(*args, **options)


def stirred(shapes: Any, dtype: Any) -> Any:
    """Variables with no bias left at zero, drawn on the host; u and v have length 1."""
    random = np.random.default_rng(0)

    def one(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=leaf.shape)
        return jnp.asarray(noise / np.linalg.norm(noise) if path[-1].key in "uv" else 0.3 * noise, dtype)

    return jax.tree_util.tree_map_with_path(one, shapes)


def test_modulation_is_the_definition() -> None:
    random = np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(2, 4, 4, 3)), jnp.float32)
    modulation = jnp.asarray(random.normal(size=(2, 2, 2, 5)), jnp.float32)
    module = Spade(hidden=6)
    variables = stirred(jax.eval_shape(module.init, jax.random.key(0), x, modulation), jnp.float32)
    shifted = jax.tree.map(jnp.zeros_like, variables)
    # gamma and beta are constants where all kernels are zero
    for name, value in (("mlp_gamma", 1.0), ("mlp_beta", 0.25)):
        shifted["params"][name]["bias"] = jnp.full(3, value)
    values = np.asarray(x)
    deviation = np.sqrt(values.var(axis=(1, 2), keepdims=True) + 1e-5)
    normal = (values - values.mean(axis=(1, 2), keepdims=True)) / deviation
    np.testing.assert_allclose(run(module, shifted, x, modulation), 2 * normal + 0.25, atol=1e-5)
    larger = jnp.repeat(jnp.repeat(modulation, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(run(module, variables, x, modulation), run(module, variables, x, larger), atol=1e-5)


@pytest.mark.parametrize("features", [4, 7])
def test_only_a_changed_number_of_channels_convolves_the_shortcut(features: int) -> None:
    x = jnp.zeros((1, 4, 4, 4))
    shapes = jax.eval_shape(lambda key: SpadeBlock(features, hidden=2).init(key, x, x, train=False), jax.random.key(0))
    assert ("conv_s" in shapes["params"]) == (features != 4)
    assert shapes["params"]["conv_0"]["kernel"].shape[-1] == 4
    if features != 4:
        assert "bias" not in shapes["params"]["conv_s"]


def test_folded_layout_computes_the_same() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(2).normal(size=(1, 4, 4, 3)))
        module = SpadeDecoder(width=4, middle=1, ups=(3, 2), hidden=2)
        variables = stirred(jax.eval_shape(lambda k: module.init(k, x, train=False), jax.random.key(0)), jnp.float64)
        folded = fold(variables)
        assert set(folded) == {"params"}
        plain = jax.jit(lambda v: run(module, v, x, train=False))(variables)
        assert plain.shape == (1, 16, 16, 3)
        again = jax.jit(lambda v: run(module.clone(folded=True), v, x, train=False))(folded)
        np.testing.assert_allclose(again, plain, rtol=1e-9, atol=1e-9)
