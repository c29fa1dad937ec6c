"""Coordinates: x to the right, y down, (x, y) or (x, y, z) last, the first pixel centre at -1 and the last at +1."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def coordinate_grid(*size: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "*size n"]:
    """The coordinates of every pixel centre in [-1, 1], for (height, width) or (depth, height, width).

    ``grid[i, j] = (x_j, y_i)`` with ``x_j = 2 j / (width - 1) - 1``; ``grid[k, i, j] = (x_j, y_i, z_k)``. A side of one
    pixel lies at -1.
    """
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in size), indexing="ij")
    return jnp.asarray(np.stack(axes[::-1], axis=-1), dtype)


def inverse_2x2(matrix: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The inverse in closed form: exact gradients, and no batched LU. A singular matrix gives inf or NaN."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    adjugate = jnp.stack([jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)], axis=-2)
    return adjugate / (a * d - b * c)[..., None, None]


def matmul_2x2(left: Float[Array, "*b 2 2"], right: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The matrix product as sums of products: full float precision on every device, where a dot would be rounded."""
    return (left[..., :, :, None] * right[..., None, :, :]).sum(axis=-2)


def apply_2x2(matrix: Float[Array, "*b 2 2"], vector: Float[Array, "*b 2"]) -> Float[Array, "*b 2"]:
    """The matrix times the vector, in full float precision on every device."""
    return (matrix * vector[..., None, :]).sum(axis=-1)
