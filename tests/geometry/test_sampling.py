"""Warps and resizes against slow references written from their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from reenax.geometry.sampling import Padding, antialias_downsample, grid_sample, resize_bilinear, resize_nearest, warp

PADDINGS = ("zeros", "border", "reflection")


@pytest.fixture
def image() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 5, 7, 3))


def unnormalise(grid: np.ndarray, size: int, align_corners: bool) -> np.ndarray:
    return (grid + 1) / 2 * (size - 1) if align_corners else ((grid + 1) * size - 1) / 2


def reflect(v: float, size: int, align_corners: bool) -> float:
    low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
    while v < low or v > high:
        v = 2 * low - v if v < low else 2 * high - v
    return v


def reference(image: np.ndarray, grid: np.ndarray, padding: Padding, align_corners: bool) -> np.ndarray:
    """One point and one corner at a time."""
    _, height, width, channels = image.shape
    out = np.zeros((*grid.shape[:3], channels))
    for b, i, j in np.ndindex(grid.shape[:3]):
        x = float(unnormalise(grid[b, i, j, 0], width, align_corners))
        y = float(unnormalise(grid[b, i, j, 1], height, align_corners))
        if padding == "reflection":
            x, y = reflect(x, width, align_corners), reflect(y, height, align_corners)
        if padding != "zeros":
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        for row, column in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
            if 0 <= row < height and 0 <= column < width:
                out[b, i, j] += (1 - abs(x - column)) * (1 - abs(y - row)) * image[b, row, column]
    return out


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_grid_sample_is_the_definition(image: jax.Array, padding: Padding, align_corners: bool) -> None:
    grid = jax.random.uniform(jax.random.key(1), (2, 6, 4, 2), minval=-3.7, maxval=3.7)
    out = jax.jit(grid_sample, static_argnames=("padding", "align_corners"))(
        image, grid, padding=padding, align_corners=align_corners
    )
    np.testing.assert_allclose(out, reference(np.asarray(image), np.asarray(grid), padding, align_corners), atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_agree_with_finite_differences(padding: Padding, align_corners: bool) -> None:
    with jax.enable_x64(True):
        image = jax.random.normal(jax.random.key(0), (1, 5, 7, 2), "float64")
        grid = jax.random.uniform(jax.random.key(1), (1, 6, 4, 2), "float64", minval=-1.7, maxval=1.7)
        towards = jax.random.normal(jax.random.key(2), (1, 6, 4, 2), "float64")

        def loss(image: jax.Array, grid: jax.Array) -> jax.Array:
            return (grid_sample(image, grid, padding=padding, align_corners=align_corners) * towards).sum()

        check_grads(jax.jit(loss), (image, grid), order=1, modes=["rev"], eps=1e-7, atol=1e-5, rtol=1e-5)


def test_gradient_to_the_image_can_be_differentiated_again(image: jax.Array) -> None:
    grid = jax.random.uniform(jax.random.key(1), (2, 6, 4, 2), minval=-1, maxval=1)

    def slope(grid: jax.Array) -> jax.Array:
        return (jax.grad(lambda x: (grid_sample(x, grid) ** 2).sum())(image) ** 2).sum()

    gradient = jax.grad(slope)(grid)
    step = 1e-3 * jnp.sign(gradient)
    assert jnp.isfinite(gradient).all()
    assert slope(grid + step) > slope(grid)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradient_to_the_grid_at_pixel_centres(padding: Padding) -> None:
    """A sample at a centre has the slope to its right; at the last centre the slope out of the picture."""
    row = jnp.asarray([1.0, 4.0, 2.0, 7.0, 3.0])
    image = jnp.broadcast_to(row[None, None, :, None], (1, 5, 5, 1))
    grid = jnp.stack([jnp.linspace(-1, 1, 5), jnp.full(5, 0.25)], axis=-1)[None, None]
    slopes = jax.grad(lambda g: grid_sample(image, g, padding=padding).sum())(grid)[0, 0, :, 0] / 2
    inner = [-2.0, 5.0, -4.0]
    # Zeros outside: the picture falls off behind the last pixel. Else clipped there, at both ends, as in PyTorch.
    expected = [3.0, *inner, -3.0] if padding == "zeros" else [0.0, *inner, 0.0]
    np.testing.assert_allclose(slopes, expected, atol=1e-5)


def test_far_and_undefined_coordinates_stay_harmless(image: jax.Array) -> None:
    grid = jnp.asarray([[[[1e30, 0.0], [-1e30, 1e30], [jnp.inf, 0.0]]]] * 2)
    out, back = jax.value_and_grad(lambda x: grid_sample(x, grid).sum())(image)
    assert out == 0
    assert not back.any()
    at_nan = jax.grad(lambda x: jnp.nansum(grid_sample(x, grid * jnp.nan)))(image)
    assert at_nan.shape == image.shape


def test_bfloat16_images_keep_exact_coordinates() -> None:
    image = jax.random.normal(jax.random.key(0), (1, 64, 64, 4))
    grid = jax.random.uniform(jax.random.key(1), (1, 9, 9, 2), minval=-1, maxval=1)
    out = grid_sample(image.astype(jnp.bfloat16), grid)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), grid_sample(image, grid), atol=0.03)


def test_unknown_padding_is_refused(image: jax.Array) -> None:
    with pytest.raises((TypeError, ValueError), match="mirror"):
        grid_sample(image, jnp.zeros((2, 1, 1, 2)), padding="mirror")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
@pytest.mark.parametrize("size", [(32, 24), (17, 31)])
def test_antialias_is_the_strided_gaussian_filter(scale: float, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(1, *size, 2)).astype(np.float32)
    sigma = (1 / scale - 1) / 2
    radius = round(4 * sigma)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    blurred = scipy.ndimage.correlate1d(image.astype(np.float64), taps, axis=1, mode="constant")
    blurred = scipy.ndimage.correlate1d(blurred, taps, axis=2, mode="constant")
    step = round(1 / scale)
    np.testing.assert_allclose(antialias_downsample(jnp.asarray(image), scale), blurred[:, ::step, ::step], atol=1e-5)


def test_antialias_by_one_and_by_a_fraction(image: jax.Array) -> None:
    assert antialias_downsample(image, 1) is image
    with pytest.raises(ValueError, match=r"0\.3"):
        antialias_downsample(image, 0.3)


@pytest.mark.parametrize("size", [(10, 14), (3, 4), (5, 7), (13, 2)])
def test_resize_bilinear_has_half_pixel_centres(image: jax.Array, size: tuple[int, int]) -> None:
    """It is the warp by the grid of the new pixel centres, edges at -1 and 1."""
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in size)
    grid = np.broadcast_to(np.stack(np.meshgrid(x, y), axis=-1)[None], (2, *size, 2))
    expected = grid_sample(image, jnp.asarray(grid, jnp.float32), padding="border", align_corners=False)
    np.testing.assert_allclose(resize_bilinear(image, size), expected, atol=1e-5)


def test_resize_nearest_takes_the_pixel_at_the_floor(image: jax.Array) -> None:
    height, width = image.shape[1:3]
    for size in ((height // 2, width), (2 * height, 3 * width), (height + 1, width - 1)):
        rows = [i * height // size[0] for i in range(size[0])]
        columns = [j * width // size[1] for j in range(size[1])]
        np.testing.assert_array_equal(resize_nearest(image, size), np.asarray(image)[:, rows][:, :, columns])


def test_one_picture_serves_a_batch_of_grids(image: jax.Array) -> None:
    grid = jax.random.uniform(jax.random.key(3), (4, 5, 6, 2), minval=-1.2, maxval=1.2)
    copies = jnp.broadcast_to(image[:1], (4, *image.shape[1:]))
    np.testing.assert_allclose(warp(image[:1], grid, False), warp(copies, grid, False), atol=1e-6)
