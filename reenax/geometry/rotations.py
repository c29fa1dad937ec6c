"""Rotations given by an axis times an angle."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rotation_matrices(axis_angles: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rodrigues' formula; differentiable everywhere, at no rotation too.

    Args:
        axis_angles: axis times angle in radians.
    """
    square = jnp.sum(axis_angles**2, -1)[..., None, None]
    small = square < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    # below: the first terms of the series, exact in float32 there, since the root has no gradient at zero
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    versine = jnp.where(small, 0.5 - square / 24, (1 - jnp.cos(angle)) / angle**2)
    x, y, z = axis_angles[..., 0], axis_angles[..., 1], axis_angles[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    identity = jnp.broadcast_to(jnp.eye(3, dtype=cross.dtype), cross.shape)
    return identity + sine * cross + versine * jnp.matmul(cross, cross, precision="highest")
