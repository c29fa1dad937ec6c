"""Head rotations and expressions: how far those of a picture are from those of the truth.

Rotations are matrices R = Rz(roll) Ry(yaw) Rx(pitch) that act on column vectors.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rotation_error(a: Float[Array, "b 3 3"], b: Float[Array, "b 3 3"]) -> Float[Array, " b"]:
    """The angle in degrees, 0 to 180, of the rotation that takes one to the other (the geodesic distance)."""
    # |a - b| = 2 sqrt(2) sin(angle / 2): the trace alone loses small angles in float32
    half = jnp.sqrt(jnp.sum((a - b) ** 2, axis=(-2, -1))) / (2 * jnp.sqrt(2.0))
    # and the sine alone those near 180 degrees: 1 + trace = 4 cos^2(angle / 2)
    trace = jnp.sum(a * b, axis=(-2, -1))
    return jnp.rad2deg(2 * jnp.arctan2(half, jnp.sqrt(jnp.maximum(1 + trace, 0)) / 2))


def euler_angles(rotation: Float[Array, "b 3 3"]) -> Float[Array, "b 3"]:
    """Pitch, yaw and roll in degrees; yaw lies in [-90, 90]."""
    pitch = jnp.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    yaw = jnp.arctan2(-rotation[:, 2, 0], jnp.hypot(rotation[:, 2, 1], rotation[:, 2, 2]))
    roll = jnp.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return jnp.rad2deg(jnp.stack([pitch, yaw, roll], axis=-1))


def rotation_of_landmarks(landmarks: Float[Array, "b n 3"], mean_shape: Float[Array, "n 3"]) -> Float[Array, "b 3 3"]:
    """The rotation of 3-D landmarks against a mean shape: that of the least-squares similarity (Umeyama, 1991).

    Args:
        landmarks: points of every frame, in the axes of ``mean_shape``.
        mean_shape: the same points of a head that looks straight ahead.
    """
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    mean_shape = mean_shape - mean_shape.mean(axis=0, keepdims=True)
    product = jnp.einsum("bni,nj->bij", centred, mean_shape, precision="highest")
    u, _, vt = jnp.linalg.svd(product)
    sign = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(vt))
    # a reflection would fit better than any rotation where the sign is negative
    u = jnp.concatenate([u[:, :, :2], u[:, :, 2:] * sign[:, None, None]], axis=-1)
    return jnp.matmul(u, vt, precision="highest")


def expression_error(output: Float[Array, "b e"], truth: Float[Array, "b e"]) -> Float[Array, " b"]:
    """Mean absolute difference of expression coefficients or action unit intensities, in their unit."""
    return jnp.mean(jnp.abs(output - truth), axis=-1)


def expression_correlation(output: Float[Array, "t e"], truth: Float[Array, "t e"]) -> Float[Array, " e"]:
    """Pearson's correlation over time of every coefficient; NaN for one that does not move in either sequence."""
    output, truth = (x - x.mean(axis=0, keepdims=True) for x in (output, truth))
    norms = jnp.linalg.norm(output, axis=0) * jnp.linalg.norm(truth, axis=0)
    moving = norms > 0
    return jnp.where(moving, jnp.sum(output * truth, axis=0) / jnp.where(moving, norms, 1), jnp.nan)
