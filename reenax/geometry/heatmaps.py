"""Keypoints as heatmaps and back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.grids import coordinate_grid


def gaussian_heatmap(
    points: Float[Array, "b k 2"], size: tuple[int, int], variance: float
) -> Float[Array, "b {size[0]} {size[1]} k"]:
    """``exp(-|z - p|^2 / (2 variance))`` at every pixel z of a (height, width) grid; 1 at the point itself."""
    grid = coordinate_grid(*size, dtype=points.dtype)
    offset = grid[None, :, :, None, :] - points[:, None, None, :, :]
    return jnp.exp((offset**2).sum(axis=-1) * (-0.5 / variance))


def spatial_softmax(logits: Float[Array, "b h w k"], temperature: float) -> Float[Array, "b h w k"]:
    """The softmax over all positions of each channel of ``logits / temperature``."""
    return jax.nn.softmax(logits / temperature, axis=(1, 2))


def expectation(heatmap: Float[Array, "b h w k"], values: Float[Array, "#b h w #k n"]) -> Float[Array, "b k n"]:
    """The mean of ``values`` under each channel of a heatmap that sums to 1."""
    return (heatmap[..., None] * values).sum(axis=(1, 2))


def expected_points(heatmap: Float[Array, "b h w k"]) -> Float[Array, "b k 2"]:
    """The mean position (x, y) in [-1, 1] under each channel of a heatmap that sums to 1."""
    grid = coordinate_grid(*heatmap.shape[1:3], dtype=heatmap.dtype)
    return expectation(heatmap, grid[None, :, :, None, :])
