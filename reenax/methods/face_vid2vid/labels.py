"""From the exact pose labels of synthetic heads to the angles and translations that this method estimates.

A label is (pitch, yaw, roll) in radians and a translation in centimetres, in axes of which y points up: positive pitch
looks down, positive yaw to the right of the picture, and the rotation is ``Rz(roll) Ry(yaw) Rx(pitch)`` about a pivot
in the neck. Here y points down, depth grows towards the camera, the rotation is ``Rx Ry Rz`` about the middle of the
picture: positive pitch looks up, positive yaw to the right, positive roll turns clockwise.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.camera import euler_rotation
from reenax.methods.face_vid2vid.keypoints import RotationParams, rotation_angles, turned


@dataclasses.dataclass(frozen=True)
class LabelParams:
    """What the labels mean.

    Attributes:
        unit: centimetres from the middle of the picture to its edge.
        pivot: where the head turns, (x, y, z) in these units; the defaults are those of the built-in head.
    """

    unit: float = 15.5
    pivot: tuple[float, float, float] = (0.0, 6.8 / 15.5, -3.0 / 15.5)


class LabelledPose(NamedTuple):
    """A pose in this method's conventions.

    Attributes:
        angles: "yaw", "pitch", "roll" in degrees.
        translation: (x, y, z) in units of [-1, 1].
    """

    angles: Mapping[str, Float[Array, " b"]]
    translation: Float[Array, "b 3"]


def labelled_pose(pose: Float[Array, "b 6"], label: LabelParams, rotation: RotationParams) -> LabelledPose:
    """Angles and translation of pose labels; a point p of the head in the middle of the picture goes to R p + t."""
    flip = jnp.asarray([1.0, -1.0, 1.0], pose.dtype)  # y points down: both matrices are the other's mirror image
    matrix = euler_rotation(pose[:, :3]) * flip[None, :, None] * flip[None, None, :]
    angles = (angle * (180 / rotation.half_turn) for angle in rotation_angles(matrix))
    pivot = jnp.asarray(label.pivot, pose.dtype)[None]
    carried = pivot - turned(matrix, pivot[:, None])[:, 0]
    translation = pose[:, 3:] * flip[None] / label.unit + carried
    return LabelledPose(dict(zip(rotation.axes, angles, strict=True)), translation)
