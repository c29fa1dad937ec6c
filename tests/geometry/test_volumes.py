"""Warps of volumes against slow references written from their definitions, and what their gradients cost."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from reenax.geometry.sampling import Padding, grid_sample
from reenax.geometry.volumes import grid_sample_3d, translated

PADDINGS = ("zeros", "border", "reflection")
SIZE = (4, 5, 6)


@pytest.fixture
def volume() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, *SIZE, 3)), jnp.float32)


def unnormalise(coordinate: float, size: int, align_corners: bool) -> float:
    return (coordinate + 1) / 2 * (size - 1) if align_corners else ((coordinate + 1) * size - 1) / 2


def placed(v: float, size: int, padding: Padding, align_corners: bool) -> float:
    low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
    while padding == "reflection" and (v < low or v > high):
        v = 2 * low - v if v < low else 2 * high - v
    return v if padding == "zeros" else min(max(v, 0), size - 1)


def reference(volume: np.ndarray, grid: np.ndarray, padding: Padding, align_corners: bool) -> np.ndarray:
    """One point and one corner at a time."""
    out = np.zeros((*grid.shape[:4], volume.shape[-1]))
    for b, *place in np.ndindex(*grid.shape[:4]):
        point = grid[(b, *place)][::-1]  # z, y, x
        at = [
            placed(unnormalise(float(v), n, align_corners), n, padding, align_corners)
            for v, n in zip(point, volume.shape[1:4], strict=True)
        ]
        low = np.floor(at).astype(int)
        for steps in np.ndindex(2, 2, 2):
            corner = low + steps
            if (corner >= 0).all() and (corner < volume.shape[1:4]).all():
                weight = np.prod(1 - np.abs(np.asarray(at) - corner))
                out[(b, *place)] += weight * volume[(b, *corner)]
    return out


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_grid_sample_is_the_definition(volume: jax.Array, padding: Padding, align_corners: bool) -> None:
    grid = np.random.default_rng(1).uniform(-2.7, 2.7, size=(2, 3, 2, 4, 3)).astype(np.float32)
    sample = jax.jit(functools.partial(grid_sample_3d, padding=padding, align_corners=align_corners))
    expected = reference(np.asarray(volume), grid, padding, align_corners)
    np.testing.assert_allclose(sample(volume, jnp.asarray(grid)), expected, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_agree_with_finite_differences(padding: Padding, align_corners: bool) -> None:
    random = np.random.default_rng(2)
    with jax.enable_x64(True):
        volume = jnp.asarray(random.normal(size=(1, *SIZE, 2)))
        grid = jnp.asarray(random.uniform(-1.7, 1.7, size=(1, 3, 2, 4, 3)))
        towards = jnp.asarray(random.normal(size=(1, 3, 2, 4, 2)))

        def loss(volume: jax.Array, grid: jax.Array) -> jax.Array:
            return (grid_sample_3d(volume, grid, padding=padding, align_corners=align_corners) * towards).sum()

        check_grads(jax.jit(loss), (volume, grid), order=1, modes=["rev"], eps=1e-7, atol=1e-5, rtol=1e-5)


def test_slices_are_sampled_as_pictures(volume: jax.Array) -> None:
    """On planes through voxel centres, trilinear is bilinear."""
    flat = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, size=(2, 3, 4, 2)), jnp.float32)
    for i, z in ((0, -1.0), (3, 1.0)):
        grid = jnp.concatenate([flat, jnp.full((*flat.shape[:3], 1), z, jnp.float32)], axis=-1)
        ours = jax.jit(grid_sample_3d)(volume, grid[:, None])[:, 0]
        np.testing.assert_allclose(ours, jax.jit(grid_sample)(volume[:, i], flat), atol=1e-5)


def centres(offset: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """The voxel centres plus offsets, (x, y, z): [n d h w 3] of [n 3]."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    return jnp.asarray(np.stack([x, y, z], axis=-1), dtype)[None] + offset[:, None, None, None]


@pytest.mark.parametrize(("batch", "align_corners"), [(1, True), (2, False)])
def test_translations_are_warps_with_their_gradients(volume: jax.Array, batch: int, align_corners: bool) -> None:
    random = np.random.default_rng(4)
    offsets = jnp.asarray(random.uniform(-0.9, 0.9, size=(2, 3, 3)), jnp.float32).at[:, 0].set(0.0)
    towards = jnp.asarray(random.normal(size=(2, 3, *SIZE, 3)), jnp.float32)
    volume = volume[:batch]

    @jax.jit
    def warped(volume: jax.Array, offsets: jax.Array) -> Any:
        def all_of_them(volume: jax.Array, offsets: jax.Array) -> jax.Array:
            whole = jnp.broadcast_to(volume, (2, *volume.shape[1:]))
            sample = functools.partial(grid_sample_3d, align_corners=align_corners)
            return jax.vmap(lambda offset: sample(whole, centres(offset)), 1, 1)(offsets)

        made, back = jax.vjp(all_of_them, volume, offsets)
        return made, back(towards)

    @jax.jit
    def moved(volume: jax.Array, offsets: jax.Array) -> Any:
        made, back = jax.vjp(functools.partial(translated, align_corners=align_corners), volume, offsets)
        return made, back(towards)

    ours, theirs = moved(volume, offsets), warped(volume, offsets)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    # Where the offset is 0 a sample lies on a knot: rounding decides which side the slope is of.
    np.testing.assert_allclose(ours[1][0], theirs[1][0], atol=1e-4)
    np.testing.assert_allclose(ours[1][1][:, 1:], theirs[1][1][:, 1:], atol=1e-3)


def test_slope_of_a_translation_at_the_knots() -> None:
    """No offset at all: the slope to the right everywhere, as that of any warp, not that of a kink."""
    row = jnp.asarray([1.0, 4.0, 2.0, 7.0, 3.0])
    volume = jnp.broadcast_to(row[None, None, None, :, None], (1, 2, 2, 5, 1))

    def slope(voxel: jax.Array) -> jax.Array:
        return jax.grad(lambda offsets: translated(volume, offsets)[0, 0, 0, 0, voxel, 0])(jnp.zeros((1, 1, 3)))

    slopes = jax.jit(jax.vmap(slope))(jnp.arange(5))[:, 0, 0, 0]
    np.testing.assert_allclose(slopes / 2, [3.0, -2.0, 5.0, -4.0, -3.0], atol=1e-5)


def test_far_and_undefined_coordinates_stay_harmless(volume: jax.Array) -> None:
    far = jnp.asarray([[[1e30, 0.0, 0.0], [0.0, -1e30, 1e30], [jnp.inf, 0.0, 0.0]]] * 2)
    out, back = jax.jit(jax.value_and_grad(lambda x: grid_sample_3d(x, far[:, None, None]).sum()))(volume)
    assert out == 0
    assert not back.any()
    assert not jax.jit(translated)(volume, far).any()


def test_bfloat16_volumes_keep_exact_coordinates() -> None:
    volume = jnp.asarray(np.random.default_rng(5).normal(size=(1, 4, 32, 32, 2)), jnp.float32)
    offsets = jnp.asarray([[[0.31, -0.17, 0.05]]], jnp.float32)
    move = jax.jit(translated)
    out = move(volume.astype(jnp.bfloat16), offsets)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), move(volume, offsets), atol=0.06)


def compiled_memory(function: Any, *shapes: tuple[int, ...]) -> int:
    """Bytes that a compiled program needs beside its inputs and outputs."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes  # pyright: ignore[reportOptionalMemberAccess]


def test_memory_of_translations_does_not_grow_with_their_number() -> None:
    volume = (1, 8, 16, 16, 4)
    size = 4 * int(np.prod(volume))

    def backward(volume: jax.Array, offsets: jax.Array, towards: jax.Array) -> Any:
        return jax.vjp(translated, volume, offsets)[1](towards)

    for count in (5, 20):
        needed = compiled_memory(backward, volume, (1, count, 3), (1, count, *volume[1:]))
        # the map turns its axis to the front: one copy of the cotangent where it cannot read it in place
        assert needed < (12 + count) * size
    forward = compiled_memory(translated, volume, (1, 20, 3))
    assert forward < 6 * size


def test_memory_of_a_warp_is_that_of_a_few_volumes() -> None:
    volume = (1, 16, 16, 16, 8)

    def backward(volume: jax.Array, grid: jax.Array, towards: jax.Array) -> Any:
        return jax.vjp(grid_sample_3d, volume, grid)[1](towards)

    assert compiled_memory(backward, volume, (*volume[:4], 3), volume) < 4 * 4 * np.prod(volume)


def test_unknown_padding_is_refused(volume: jax.Array) -> None:
    with pytest.raises((TypeError, ValueError), match="mirror"):
        grid_sample_3d(volume, jnp.zeros((2, 1, 1, 1, 3)), padding="mirror")  # pyright: ignore[reportArgumentType]
