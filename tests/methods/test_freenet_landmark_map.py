"""FReeNet's drawing of landmarks against Pillow's own arithmetic, and its crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from reenax.methods.freenet.landmark_map import (
    CROP,
    from_pixels,
    landmark_map,
    landmark_mask,
    placement,
    to_pixels,
)


@pytest.mark.parametrize(("size", "canvas"), [(64, 512), (32, 256)])
def test_the_reduction_is_pillows(size: int, canvas: int) -> None:
    points = np.random.default_rng(size).uniform(-20, canvas + 20, (2, 68, 2)).astype(np.float32)
    masks = np.asarray(jax.jit(landmark_mask, static_argnums=1)(points, canvas))
    made = np.asarray(jax.jit(landmark_map, static_argnums=(1, 2))(points * (CROP / canvas), size, canvas))
    for mask, picture in zip(masks, made, strict=True):
        image = Image.fromarray((255 * mask).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.round((picture + 1) * 127.5), np.asarray(image)[..., None].repeat(3, axis=-1))


def test_blobs_have_pointed_corners_and_are_cut_at_the_border() -> None:
    mask = np.asarray(landmark_mask(jnp.array([[[20.9, 30.2]]]), 64)[0])
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 35, 15, 25)
    assert mask.sum(axis=1)[25:36].tolist() == [1, 7, 9, 9, 9, 11, 9, 9, 9, 7, 1]
    np.testing.assert_array_equal(mask, np.roll(mask.T, (10, -10), axis=(0, 1)))
    beyond = jnp.array([[[-3.0, 5.0], [1e9, 5.0], [jnp.nan, 5.0], [-1e9, -1e9]]])
    cut = np.asarray(landmark_mask(beyond, 64)[0])
    assert cut.sum(axis=0)[:4].tolist() == [9, 7, 1, 0]
    assert cut[:, 3:].sum() == 0


def test_nothing_flows_through_a_drawing() -> None:
    gradient = jax.grad(lambda x: landmark_map(x, 16, 64).sum())(jnp.full((1, 2, 2), 200.0))
    assert float(jnp.abs(gradient).max()) == 0


def test_units_and_crops_go_back_and_forth() -> None:
    points = jax.random.uniform(jax.random.key(0), (3, 68, 2), minval=-1.2, maxval=1.2)
    np.testing.assert_allclose(from_pixels(to_pixels(points)), points, atol=1e-6)
    np.testing.assert_allclose(to_pixels(jnp.array([[[-1.0, 1.0]]])), [[[0.0, 511.0]]])
    square = placement(points)
    inside = square.enter(points)
    np.testing.assert_allclose(square.leave(inside), points, atol=1e-5)
    # the larger side of the box takes 1 / 1.2 of the crop, in its middle
    extent = jnp.max(inside, axis=1) - jnp.min(inside, axis=1)
    np.testing.assert_allclose(extent.max(axis=-1), CROP / 1.2, rtol=1e-5)
    np.testing.assert_allclose((jnp.max(inside, axis=1) + jnp.min(inside, axis=1)) / 2, CROP / 2, atol=1e-3)
