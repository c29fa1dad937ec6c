"""Sampling of images: bilinear warps by a grid, bilinear resizing and anti-aliased downsampling.

The warp is four clipped gathers, which XLA fuses into one loop over the output, and its gradient to the image is ONE
scatter-add of all four corners. Its gradient to the grid is the derivative to the right of a knot, as floor() gives it:
weights of the form ``max(0, 1 - |t|)`` have another, wrong one wherever a coordinate meets a pixel centre.
"""

import functools
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Padding = Literal["zeros", "border", "reflection"]


def grid_sample(
    image: Float[Array, "b h w c"],
    grid: Float[Array, "b i j 2"],
    *,
    padding: Padding = "zeros",
    align_corners: bool = True,
) -> Float[Array, "b i j c"]:
    """The image at the grid's (x, y) in [-1, 1], bilinear: what ``torch.nn.functional.grid_sample`` computes.

    ``align_corners``: -1 and 1 are the centres of the first and last pixel (True) or the outer edges (False).
    ``padding``: outside the image lie zeros, the nearest pixel, or the image mirrored (about the pixel centres or the
    edges, by ``align_corners``). Keep the grid in float32 where the image is bfloat16: weights are computed in the
    grid's type, the result has the image's. To warp one image by K grids reshape them to ``[b, K * i, j, 2]``: no
    copies of the image are needed. Reverse-mode differentiable, any number of times.

    Raises:
        ValueError: an unknown padding.
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
    return _grid_sample(image, grid, padding, align_corners)


def warp(image: Float[Array, "s h w c"], grid: Float[Array, "b i j 2"], align_corners: bool) -> Float[Array, "b i j c"]:
    """Samples pictures at a grid, zeros outside; one picture may serve a whole batch of grids, and is not copied."""
    if image.shape[0] == grid.shape[0]:
        return grid_sample(image, grid, align_corners=align_corners)
    joined = grid.reshape(1, -1, *grid.shape[2:])
    return grid_sample(image, joined, align_corners=align_corners).reshape(*grid.shape[:3], image.shape[-1])


class _Corners(NamedTuple):
    """The four pixels around every sampling point, on a last axis of size 4 in the order (y0x0, y0x1, y1x0, y1x1)."""

    index: Int[Array, "b p 4"]  # y * w + x, clipped to the image
    inside: Bool[Array, "b p 4"]  # whether the pixel exists
    fraction: Float[Array, "b p 2"]  # the point relative to the first corner, (x, y) in [0, 1)
    slope: Float[Array, "b p 2"]  # d pixel coordinate / d grid coordinate


def pixel_coordinate(
    coordinate: Float[Array, "*n"], size: int, padding: Padding, align_corners: bool
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The pixel coordinate of a grid coordinate, and its derivative (0 where it is clipped)."""
    if align_corners:
        low, span = 0.0, size - 1.0
        pixel = (coordinate + 1) * ((size - 1) / 2)
        slope = jnp.full_like(coordinate, (size - 1) / 2)
    else:
        low, span = -0.5, float(size)
        pixel = (coordinate + 1) * (size / 2) - 0.5
        slope = jnp.full_like(coordinate, size / 2)
    if padding == "zeros":
        # Far outside it does not matter where; an integer could not hold it.
        return jnp.clip(pixel, -2, size + 1), slope
    if padding == "reflection":
        if span == 0:
            return jnp.zeros_like(pixel), jnp.zeros_like(slope)
        offset = pixel - low
        folded = jnp.mod(jnp.abs(offset), 2 * span)
        slope = slope * jnp.where((offset < 0) ^ (folded >= span), -1, 1)
        pixel = jnp.where(folded >= span, 2 * span - folded, folded) + low
    slope = jnp.where((pixel > 0) & (pixel < size - 1), slope, 0)
    return jnp.clip(pixel, 0, size - 1), slope


def _corners(shape: tuple[int, ...], grid: Float[Array, "b i j 2"], padding: Padding, align_corners: bool) -> _Corners:
    _, height, width, _ = shape
    points = grid.reshape(grid.shape[0], -1, 2)
    x, slope_x = pixel_coordinate(points[..., 0], width, padding, align_corners)
    y, slope_y = pixel_coordinate(points[..., 1], height, padding, align_corners)
    floor_x, floor_y = jnp.floor(x), jnp.floor(y)
    x0, y0 = floor_x.astype(jnp.int32), floor_y.astype(jnp.int32)
    xs = jnp.stack([x0, x0 + 1, x0, x0 + 1], axis=-1)
    ys = jnp.stack([y0, y0, y0 + 1, y0 + 1], axis=-1)
    return _Corners(
        index=jnp.clip(ys, 0, height - 1) * width + jnp.clip(xs, 0, width - 1),
        inside=(xs >= 0) & (xs < width) & (ys >= 0) & (ys < height),
        fraction=jnp.stack([x - floor_x, y - floor_y], axis=-1),
        slope=jnp.stack([slope_x, slope_y], axis=-1),
    )


def _weights(corners: _Corners) -> Float[Array, "b p 4"]:
    x, y = corners.fraction[..., 0], corners.fraction[..., 1]
    weights = jnp.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=-1)
    return jnp.where(corners.inside, weights, 0)


def _rows(image: Float[Array, "b h w c"], index: Int[Array, "b p"]) -> Float[Array, "b p c"]:
    """Pixels by flat index. Under vmap, so that the batch stays a batch dimension to the partitioner."""
    pixels = image.reshape(image.shape[0], -1, image.shape[-1])
    return jax.vmap(lambda p, i: p.at[i].get(mode="promise_in_bounds"))(pixels, index)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _grid_sample(image, grid, padding, align_corners):
    corners = _corners(image.shape, grid, padding, align_corners)
    weights = _weights(corners)
    first, *rest = (weights[..., n, None] * _rows(image, corners.index[..., n]) for n in range(4))
    sampled = sum(rest, start=first)
    return sampled.reshape(*grid.shape[:3], image.shape[-1]).astype(image.dtype)


def _grid_sample_forward(image, grid, padding, align_corners):
    return _grid_sample(image, grid, padding, align_corners), (image, grid)


def _grid_sample_backward(padding, align_corners, saved, cotangent):
    image, grid = saved
    corners = _corners(image.shape, grid, padding, align_corners)
    flat = cotangent.reshape(cotangent.shape[0], -1, cotangent.shape[-1])  # b p c

    updates = _weights(corners)[..., None] * flat[:, :, None, :]
    updates = updates.transpose(0, 2, 1, 3).reshape(flat.shape[0], -1, flat.shape[-1])
    index = corners.index.transpose(0, 2, 1).reshape(flat.shape[0], -1)
    pixels = jnp.zeros((image.shape[0], image.shape[1] * image.shape[2], image.shape[3]), updates.dtype)
    to_image = jax.vmap(lambda p, i, u: p.at[i].add(u, mode="promise_in_bounds"))(pixels, index, updates)

    # How the cotangent meets each corner's pixel; the bilinear weights are differentiated by hand.
    met = [(flat * _rows(image, corners.index[..., n])).sum(axis=-1, dtype=grid.dtype) for n in range(4)]
    met = jnp.where(corners.inside, jnp.stack(met, axis=-1), 0)
    x, y = corners.fraction[..., 0], corners.fraction[..., 1]
    along_x = (1 - y) * (met[..., 1] - met[..., 0]) + y * (met[..., 3] - met[..., 2])
    along_y = (1 - x) * (met[..., 2] - met[..., 0]) + x * (met[..., 3] - met[..., 1])
    to_grid = jnp.stack([along_x, along_y], axis=-1) * corners.slope
    return to_image.reshape(image.shape).astype(image.dtype), to_grid.reshape(grid.shape).astype(grid.dtype)


_grid_sample.defvjp(_grid_sample_forward, _grid_sample_backward)


def _separable(
    image: Float[Array, "b h w c"], rows: Float[np.ndarray, "i h"], columns: Float[np.ndarray, "j w"]
) -> Float[Array, "b i j c"]:
    """A linear map of the rows and one of the columns, as two matrix products in full precision."""
    # These constants are no rounding noise: in bfloat16 they would shift the picture's brightness.
    precision = lax.Precision.HIGHEST
    image = jnp.einsum("ih,bhwc->biwc", jnp.asarray(rows, image.dtype), image, precision=precision)
    return jnp.einsum("jw,biwc->bijc", jnp.asarray(columns, image.dtype), image, precision=precision)


def _bilinear_matrix(size: int, out: int, align_corners: bool = False) -> Float[np.ndarray, "{out} {size}"]:
    half_pixel = (np.arange(out) + 0.5) * (size / out) - 0.5
    position = np.linspace(0, size - 1, out) if align_corners else np.clip(half_pixel, 0, size - 1)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(size)[None, :]))


def resize_bilinear(
    image: Float[Array, "b h w c"], size: tuple[int, int], *, align_corners: bool = False
) -> Float[Array, "b {size[0]} {size[1]} c"]:
    """Bilinear resize to (height, width) without anti-aliasing.

    With half-pixel centres, or so that the centres of the border's pixels stay where they are (``align_corners``): what
    ``torch.nn.functional.interpolate(mode="bilinear")`` computes.
    """
    if image.shape[1:3] == tuple(size):
        return image
    rows, columns = (_bilinear_matrix(n, m, align_corners) for n, m in zip(image.shape[1:3], size, strict=True))
    return _separable(image, rows, columns)


def resize_nearest(image: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b {size[0]} {size[1]} c"]:
    """Row i of the result is row ``floor(i * height / size[0])``, columns likewise: PyTorch's "nearest".

    To a quarter of the size that is every fourth pixel, beginning with the first, without a blur.
    """
    rows, columns = (np.arange(new) * old // new for old, new in zip(image.shape[1:3], size, strict=True))
    return image[:, rows][:, :, columns]


def antialias_taps(step: int) -> Float[np.ndarray, " n"]:
    """The Gaussian of :func:`antialias_downsample` along one axis: sigma (step - 1) / 2, cut at four sigmas, sum 1."""
    sigma = (step - 1) / 2
    if not sigma:
        return np.ones(1)
    radius = round(4 * sigma)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def _antialias_matrix(size: int, step: int) -> Float[np.ndarray, "out {size}"]:
    """The Gaussian around every step-th pixel."""
    taps = antialias_taps(step)
    radius = taps.size // 2
    matrix = np.zeros((-(-size // step), size))
    for row in range(matrix.shape[0]):
        first = row * step - radius
        inside = slice(max(first, 0), min(first + taps.size, size))
        matrix[row, inside] = taps[inside.start - first : inside.stop - first]
    return matrix


def antialias_downsample(image: Float[Array, "b h w c"], scale: float | int) -> Float[Array, "b i j c"]:
    """The image blurred and reduced to ``scale`` of its size (First Order Motion's pyramid and 64x64 inputs).

    The same numbers as a depthwise convolution with the normalised Gaussian of sigma ``(1 / scale - 1) / 2`` and size
    ``2 * round(4 * sigma) + 1``, zeros outside the image, of which every ``1 / scale``-th row and column is kept,
    starting with the first: here as two banded matrices, 4 to 30 times as fast. ``scale=1`` changes nothing.

    Raises:
        ValueError: ``1 / scale`` is no whole number.
    """
    step = round(1 / scale)
    if step < 1 or abs(step * scale - 1) > 1e-6:
        raise ValueError(f"scale must be 1 over a whole number, such as 0.5 or 0.25, got {scale}")
    if step == 1:
        return image
    return _separable(image, _antialias_matrix(image.shape[1], step), _antialias_matrix(image.shape[2], step))
