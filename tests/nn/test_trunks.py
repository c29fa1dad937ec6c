"""The trunks behind metrics: pools at the borders, and what comes out where."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.types import FrozenNetwork
from reenax.metrics.lpips import frozen_lpips
from reenax.metrics.sync import frozen_syncnet
from reenax.metrics.weights import draw
from reenax.nn.inception import ConvNorm, FidInception, MixedA, MixedE, frozen_inception
from reenax.nn.squeezenet import max_pool_ceil


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 11])
def test_pooling_that_reaches_beyond_the_edge(size):
    x = -1 - np.random.default_rng(0).uniform(size=(1, size, size + 1, 2)).astype(np.float32)
    rows, columns = (-(-max(n - 3, -1) // 2) + 1 for n in x.shape[1:3])
    expected = [
        [x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(columns)] for i in range(rows)
    ]
    np.testing.assert_array_equal(max_pool_ceil(jnp.asarray(x))[0], expected)


def pooled_branch(block, x):
    """What a block adds for its pooled branch, and the convolution in that branch."""
    variables = draw(FrozenNetwork("block", lambda rng: block.init(rng, x)))
    branch = {n: v["branch_pool"] for n, v in variables.items()}
    width = branch["params"]["bn"]["bias"].shape[0]
    made: Any = jax.jit(block.apply)(variables, x)

    def convolution(y) -> Any:
        return ConvNorm(width).apply(branch, y)

    return made[..., -width:], convolution


def test_averages_count_no_padding():
    x = jnp.asarray(np.random.default_rng(1).uniform(size=(1, 4, 5, 6)), jnp.float32)
    made, convolution = pooled_branch(MixedA(8), x)
    average = np.array(
        [
            [np.asarray(x)[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(axis=(0, 1)) for j in range(5)]
            for i in range(4)
        ]
    )
    np.testing.assert_allclose(made, convolution(jnp.asarray(average)[None]), rtol=1e-4, atol=1e-6)


def test_the_last_block_takes_the_maximum():
    x = jnp.asarray(np.random.default_rng(2).uniform(-2, -1, size=(1, 3, 3, 6)), jnp.float32)
    made, convolution = pooled_branch(MixedE(maximum=True), x)
    largest = jnp.broadcast_to(x.max(axis=(1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(made[:, 1, 1], convolution(largest)[:, 1, 1], rtol=1e-4, atol=1e-6)
    corner = jnp.broadcast_to(x[:, :2, :2].max(axis=(1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(made[:, 0, 0], convolution(corner)[:, 0, 0], rtol=1e-4, atol=1e-6)


def test_inception_has_the_published_shapes():
    picture = jax.ShapeDtypeStruct((2, 96, 80, 3), jnp.float32)
    variables = jax.eval_shape(FidInception().init, jax.random.key(0), picture)
    assert sum(v.size for v in jax.tree.leaves(variables["params"])) == 21_785_568
    maps = jax.eval_shape(FidInception().apply, variables, picture)
    shapes = {name: x.shape for name, x in maps.items()}
    assert shapes == {
        "pool1": (2, 73, 73, 64),
        "pool2": (2, 35, 35, 192),
        "mixed_6": (2, 17, 17, 768),
        "pool3": (2, 2048),
    }


@pytest.mark.parametrize("network", [frozen_lpips("vgg"), frozen_inception(), frozen_syncnet()], ids=lambda n: n.kind)
def test_networks_of_metrics_compute_in_full_precision_on_every_device(network):
    program = str(jax.make_jaxpr(network.init)(jax.random.key(0)))
    convolutions = re.findall(r"conv_general_dilated\[.*?\n\s*\]", program, re.DOTALL)
    assert len(convolutions) > 10
    assert all("Precision.HIGHEST" in c for c in convolutions)
