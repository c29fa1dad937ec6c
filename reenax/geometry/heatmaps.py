"""Keypoints as heatmaps and back, in the plane and in space."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.geometry.grids import apply_2x2, coordinate_grid, inverse_2x2


def _offsets(points: Float[Array, "b k n"], size: tuple[int, ...]) -> Float[Array, "b *size k n"]:
    """From every point to every pixel centre."""
    between = (1,) * len(size)
    grid = coordinate_grid(*size, dtype=points.dtype)
    return grid[None, ..., None, :] - points.reshape(points.shape[0], *between, *points.shape[1:])


def gaussian_heatmap(
    points: Float[Array, "b k n"], size: tuple[int, ...], variance: float
) -> Float[Array, "b *size k"]:
    """``exp(-|z - p|^2 / (2 variance))`` at every z of a (height, width) or (depth, height, width) grid."""
    return jnp.exp((_offsets(points, size) ** 2).sum(axis=-1) * (-0.5 / variance))


def covariance_heatmap(
    points: Float[Array, "b k 2"], covariance: Float[Array, "b k 2 2"], size: tuple[int, int]
) -> Float[Array, "b {size[0]} {size[1]} k"]:
    """``exp(-1/2 (z - p)^T C^-1 (z - p))`` at every z of a (height, width) grid; 1 at the point itself."""
    offset = _offsets(points, size)
    inverse = jnp.broadcast_to(inverse_2x2(covariance)[:, None, None], (*offset.shape, 2))
    return jnp.exp(-0.5 * (offset * apply_2x2(inverse, offset)).sum(axis=-1))


def spatial_softmax(logits: Float[Array, "b *n k"], temperature: float) -> Float[Array, "b *n k"]:
    """The softmax over all positions of each channel of ``logits / temperature``."""
    return jax.nn.softmax(logits / temperature, axis=tuple(range(1, logits.ndim - 1)))


def expectation(heatmap: Float[Array, "b *n k"], values: Float[Array, "..."]) -> Float[Array, "b k m"]:
    """The mean of ``values``, [b or 1, *n, k or 1, m], under each channel of a heatmap that sums to 1."""
    return (heatmap[..., None] * values).sum(axis=tuple(range(1, heatmap.ndim - 1)))


def expected_points(heatmap: Float[Array, "b *n k"]) -> Float[Array, "b k m"]:
    """The mean position, (x, y) or (x, y, z) in [-1, 1], under each channel of a heatmap that sums to 1."""
    grid = coordinate_grid(*heatmap.shape[1:-1], dtype=heatmap.dtype)
    return expectation(heatmap, grid[None, ..., None, :])


def expected_covariance(heatmap: Float[Array, "b h w k"], points: Float[Array, "b k 2"]) -> Float[Array, "b k 2 2"]:
    """The mean of ``(z - p) (z - p)^T`` under each channel of a heatmap that sums to 1."""
    offset = _offsets(points, (heatmap.shape[1], heatmap.shape[2]))
    products = offset[..., :, None] * offset[..., None, :]
    return (heatmap[..., None, None] * products).sum(axis=(1, 2))


def mark_points(picture: Float[Array, "b h w 3"], points: Float[Array, "b k 2"]) -> Float[Array, "b h w 3"]:
    """Pictures with a dot of its own colour at every keypoint."""
    phases = np.arange(points.shape[1])[:, None] / points.shape[1] + np.array([0, 1 / 3, 2 / 3])[None]
    colours = jnp.asarray(0.5 + 0.5 * np.cos(2 * np.pi * phases), picture.dtype)
    dots = gaussian_heatmap(points, (picture.shape[1], picture.shape[2]), 8e-4) > 0.4
    for k in range(points.shape[1]):
        picture = jnp.where(dots[..., k, None], colours[None, None, None, k], picture)
    return picture
