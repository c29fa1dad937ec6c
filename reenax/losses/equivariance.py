"""Equivariance of learned keypoints and of their local affine frames under a known warp."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.grids import inverse_2x2, matmul_2x2


def equivariance_value_loss(points: Float[Array, "b k 2"], warped_points: Float[Array, "b k 2"]) -> Float[Array, ""]:
    """Mean absolute difference of the keypoints of a frame and the warped keypoints of the warped frame.

    First Order Motion Model, equation 9; units of [-1, 1].
    """
    return jnp.mean(jnp.abs(points - warped_points))


def equivariance_jacobian_loss(
    jacobian: Float[Array, "b k 2 2"],
    warp_jacobian: Float[Array, "b k 2 2"],
    transformed_jacobian: Float[Array, "b k 2 2"],
) -> Float[Array, ""]:
    """Mean absolute difference of J^-1 (dT/dz) J^T from the identity (First Order Motion Model, equation 11).

    The plain difference of both sides would be smallest for a Jacobian of zero.

    Args:
        jacobian: of the frame's keypoints.
        warp_jacobian: dT/dz at the keypoints of the warped frame.
        transformed_jacobian: of the warped frame's keypoints.
    """
    product = matmul_2x2(inverse_2x2(jacobian), matmul_2x2(warp_jacobian, transformed_jacobian))
    identity = jnp.broadcast_to(jnp.eye(2, dtype=product.dtype), product.shape)
    return jnp.mean(jnp.abs(identity - product))
