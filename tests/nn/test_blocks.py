"""The keypoint family's blocks: names, sizes, and the folded layout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from reenax.nn.blocks import ConvNorm, Down, Hourglass, Res, Up
from reenax.nn.fold import fold

BLOCKS = [ConvNorm(8, kernel_size=7, slope=0.01), Down(6), Up(5), Res(), Hourglass(4, 2, 8, last=True)]
SHAPES = {"pictures": (2, 16, 8, 3), "volumes": (2, 3, 16, 8, 3)}


def run(module: nn.Module, *args: Any, **options: Any) -> Any:
    return module.apply(*args, **options)


def folded_variables(block: nn.Module, variables: Any) -> Any:
    """Folded below the name that the networks give to such a block."""
    name = "up_blocks_0" if isinstance(block, Up) else "block"
    below = {collection: {name: tree} for collection, tree in variables.items()}
    return {"params": fold(below)["params"][name]}


def stirred(block: nn.Module, x: jax.Array) -> Any:
    """Variables with no statistic, scale or bias left at its neutral start, drawn on the host."""
    shapes = jax.eval_shape(lambda key: block.init(key, x, train=False), jax.random.key(0))
    random = np.random.default_rng(0)

    def one(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=leaf.shape)
        return jnp.asarray(1 + 0.5 * np.abs(noise) if path[-1].key in ("scale", "var") else 0.2 * noise, x.dtype)

    return jax.tree_util.tree_map_with_path(one, shapes)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_folded_layout_computes_the_same(block: nn.Module, kind: str) -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).normal(size=SHAPES[kind]))
        variables = stirred(block, x)
        plain = jax.jit(lambda v: run(block, v, x, train=False))(variables)
        folded = jax.jit(lambda v: run(block.clone(folded=True), folded_variables(block, v), x, train=False))(variables)
        assert plain.dtype == jnp.float64
        np.testing.assert_allclose(folded, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_folding_gives_exactly_the_folded_params(block: nn.Module, kind: str) -> None:
    x = jnp.zeros(SHAPES[kind])

    def shapes(module: nn.Module) -> Any:
        return jax.eval_shape(lambda key: module.init(key, x, train=False), jax.random.key(0))

    assert jax.eval_shape(lambda v: folded_variables(block, v), shapes(block)) == shapes(block.clone(folded=True))


def test_hourglass_has_the_published_names_and_channels() -> None:
    x = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda k: Hourglass(32, 5, 1024).init(k, x, train=False), jax.random.key(0))
    kernels = {
        f"{side}.{block}": leaf["conv"]["kernel"].shape[2:]
        for side, blocks in shapes["params"].items()
        for block, leaf in blocks.items()
    }
    assert kernels == {
        "encoder.down_blocks_0": (3, 64),
        "encoder.down_blocks_1": (64, 128),
        "encoder.down_blocks_2": (128, 256),
        "encoder.down_blocks_3": (256, 512),
        "encoder.down_blocks_4": (512, 1024),
        "decoder.up_blocks_0": (1024, 512),
        "decoder.up_blocks_1": (1024, 256),
        "decoder.up_blocks_2": (512, 128),
        "decoder.up_blocks_3": (256, 64),
        "decoder.up_blocks_4": (128, 32),
    }
    out = jax.eval_shape(lambda v: run(Hourglass(32, 5, 1024), v, x, train=False), shapes)
    assert out.shape == (1, 32, 32, 35)


def test_the_last_channels_of_an_hourglass_are_its_input() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    net = Hourglass(4, 2, 16)
    out = run(net, stirred(net, x), x, train=False)
    np.testing.assert_array_equal(out[..., 4:], x)


def test_indivisible_pictures_are_refused_with_their_size() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 12 x 16"):
        Hourglass(4, 3).init(jax.random.key(0), jnp.zeros((1, 12, 16, 3)), train=False)


def test_down_averages_and_up_repeats() -> None:
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    norm = {"scale": jnp.full(1, np.sqrt(1 + 1e-5)), "bias": jnp.zeros(1)}
    stats = {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}
    variables = {"params": {"conv": {"kernel": centre, "bias": jnp.zeros(1)}, "norm": norm}, "batch_stats": stats}
    halved = run(Down(1), variables, x, train=False)
    np.testing.assert_allclose(halved[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]], rtol=1e-6)
    doubled = run(Up(1), variables, x, train=False)
    np.testing.assert_allclose(doubled, np.repeat(np.repeat(x, 2, axis=1), 2, axis=2), rtol=1e-6)


def test_blocks_of_volumes_leave_the_depth_alone() -> None:
    """A volume whose slices are alike, under kernels of which only the middle slice is not zero, is a picture."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), jnp.float32)
    volume = jnp.broadcast_to(x[:, None], (1, 4, 8, 8, 3))
    for block in (Down(5), Up(5), Hourglass(4, 1, 8, last=True)):
        variables = stirred(block, x)

        def deepened(path: Any, leaf: jax.Array) -> jax.Array:
            if path[-1].key != "kernel":
                return leaf
            return jnp.asarray(np.stack([np.zeros_like(leaf), leaf, np.zeros_like(leaf)]))

        both = jax.jit(lambda v, w, block=block: (run(block, v, volume, train=False), run(block, w, x, train=False)))
        deep, flat = both(jax.tree_util.tree_map_with_path(deepened, variables), variables)
        assert deep.shape == (1, 4, *flat.shape[1:])
        for i in range(4):
            np.testing.assert_allclose(deep[:, i], flat, rtol=1e-4, atol=1e-5)
