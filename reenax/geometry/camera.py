"""Pinhole cameras: from centimetres to pixels, and rotations by Euler angles.

The world has x to the right of the picture, y up and z towards the camera. Pictures have u to the right and v down, the
top left corner at (0, 0) and pixel centres at half numbers; coordinates "in units" call the centres of the first and
last pixel -1 and 1. A camera stands on the z axis and looks along -z; any other place is a rotation and translation of
the points. Two forms: `Camera` (distance and field) and a 3x3 matrix of intrinsics, as cameras in files have.
"""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, PyTree


class Camera(struct.PyTreeNode):
    """A camera at (0, height, distance) that looks along -z, for square pictures. All float32 [] in centimetres.

    Attributes:
        half_field: half of what it sees at z = 0, > 0.
        distance: from the plane z = 0, > 0.
        height: of the optical axis.
    """

    half_field: PyTree = 15.5  # a tree of the same form holds axes, shapes or gradients, hence no array types
    distance: PyTree = 75.0
    height: PyTree = -2.2


def view(points: Float[Array, "*n 3"], camera: Camera) -> Float[Array, "*n 3"]:
    """World points as the camera sees them: x to the right, y DOWN, z the depth in front of it."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return jnp.stack([x, camera.height - y, camera.distance - z], axis=-1)


def intrinsics(camera: Camera, size: int) -> Float[Array, "3 3"]:
    """The K matrix of a camera for pictures of size x size pixels: ``depth (u, v, 1) = K view(point)``."""
    focal = jnp.asarray(size / 2 * camera.distance / camera.half_field)
    zero, one = jnp.zeros_like(focal), jnp.ones_like(focal)
    centre = one * (size / 2)
    return jnp.stack([focal, zero, centre, zero, focal, centre, zero, zero, one]).reshape(3, 3)


def project_intrinsics(
    points: Float[Array, "*n 3"], matrix: Float[Array, "3 3"]
) -> tuple[Float[Array, "*n 2"], Float[Array, "*n"]]:
    """Points seen by a camera (x right, y down, z depth) to pixels (u, v) and depth, by its intrinsics.

    Points at depth 0 and behind have no picture: their depth says so (<= 0), their pixels mean nothing but are finite.
    """
    homogeneous = rotate(points, matrix)
    depth = homogeneous[..., 2]
    return homogeneous[..., :2] / jnp.where(jnp.abs(depth) < 1e-6, 1e-6, depth)[..., None], depth


def project(points: Float[Array, "*n 3"], camera: Camera, size: int) -> tuple[Float[Array, "*n 2"], Float[Array, "*n"]]:
    """World points to pixels (u right, v down) of a picture of size x size, and depth in front of the camera (cm)."""
    return project_intrinsics(view(points, camera), intrinsics(camera, size))


def pixels_to_unit(pixels: Float[Array, "*n 2"], size: int) -> Float[Array, "*n 2"]:
    """Pixels (centres at half numbers) to [-1, 1], where -1 and 1 are the centres of the first and last pixel."""
    return (pixels - 0.5) * (2 / (size - 1)) - 1


def unit_to_pixels(unit: Float[Array, "*n 2"], size: int) -> Float[Array, "*n 2"]:
    """The inverse of `pixels_to_unit`."""
    return (unit + 1) * ((size - 1) / 2) + 0.5


def euler_rotation(angles: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Right-handed ``Rz(roll) Ry(yaw) Rx(pitch)`` of (pitch, yaw, roll) in radians, for column vectors."""
    (ca, cb, cc), (sa, sb, sc) = jnp.moveaxis(jnp.cos(angles), -1, 0), jnp.moveaxis(jnp.sin(angles), -1, 0)
    rows = [
        [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
        [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
        [-sb, cb * sa, cb * ca],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotate(points: Float[Array, "*n 3"], rotation: Float[Array, "3 3"]) -> Float[Array, "*n 3"]:
    """A matrix times points as column vectors, in full float precision on every device."""
    return jnp.einsum("ij,...j->...i", rotation, points, precision="highest")
