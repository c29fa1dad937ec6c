"""Distances of keypoints, landmarks, head poses and action units; detections are inputs here.

Faces have the 68 landmarks of iBUG's order, zero-based: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer lip 48-59,
inner lip 60-67.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from reenax.core.errors import UserError
from reenax.metrics.pose import euler_angles, rotation_of_landmarks

EYE_CORNERS = (36, 45)
LIPS = tuple(range(48, 68))
JAW_LIPS = (*range(3, 14), *LIPS)
INNER_LIP = tuple(range(60, 68))
LIP_CORNERS = (48, 54)
FACE_SIDES = (0, 16)
RIGID = tuple(range(27, 48))  # nose and eyes: what speech moves least


def detected(keypoints: Float[Array, "b k d"]) -> Bool[Array, "b k"]:
    """Which keypoints were found: the first coordinate of a missing one is -1."""
    return keypoints[..., 0] != -1


def akd(
    output: Float[Array, "b k d"],
    truth: Float[Array, "b k d"],
    visible: Bool[Array, "b k"] | None = None,
    *,
    norm: str = "l1mean",
) -> Float[Array, " b"]:
    """Average keypoint distance of frames (AKD; Monkey-Net, First Order Motion), published in pixels at 256 x 256.

    Args:
        output, truth: keypoints in the made frame and the true one, in pixels.
        visible: those that count: for bodies the ones found in both, ``detected(output) & detected(truth)``. All when
            None. A frame without any gives NaN.
        norm: "l1mean" for the mean absolute difference over points and coordinates, which the published script
            computes; "l2" for the Euclidean distance, of which the papers speak.

    Raises:
        UserError: an unknown norm.
    """
    if norm not in ("l1mean", "l2"):
        raise UserError(f"norm must be 'l1mean' or 'l2', got {norm!r}")
    difference = output - truth
    distance = jnp.mean(jnp.abs(difference), axis=-1) if norm == "l1mean" else _length(difference)
    if visible is None:
        return jnp.mean(distance, axis=-1)
    return jnp.sum(jnp.where(visible, distance, 0), axis=-1) / jnp.sum(visible, axis=-1).astype(distance.dtype)


def mkr(output: Bool[Array, "b k"], truth: Bool[Array, "b k"]) -> Float[Array, " b"]:
    """Missing keypoint rate: of the keypoints found in the true frame the share that was not found in the output.

    NaN for frames in which no true keypoint was found; they do not count to the mean.

    Args:
        output, truth: whether each keypoint was found, see :func:`detected`.
    """
    return jnp.sum(truth & ~output, axis=-1).astype(jnp.float32) / jnp.sum(truth, axis=-1).astype(jnp.float32)


def nme(
    output: Float[Array, "b n d"],
    truth: Float[Array, "b n d"],
    visible: Bool[Array, "b n"] | None = None,
    *,
    eyes: tuple[int, int] = EYE_CORNERS,
    smallest: float = 0.0,
) -> Float[Array, " b"]:
    """Mean Euclidean distance of landmarks divided by the distance of the outer eye corners of the truth.

    Args:
        output, truth: landmarks in any one unit.
        visible: those that count; all when None. A face without any gives NaN.
        eyes: the two landmarks whose distance is the unit.
        smallest: the unit is not taken below this.
    """
    unit = jnp.maximum(_length(truth[:, eyes[0]] - truth[:, eyes[1]]), smallest)
    return akd(output, truth, visible, norm="l2") / unit


def pose_error(
    output: Float[Array, "b n 2"], truth: Float[Array, "b n 2"], *, align: bool = False
) -> Float[Array, " b"]:
    """Pose reconstruction error (P_T; Latent Pose Descriptors): :func:`nme` with a unit of 0.01 pixels at least.

    Args:
        output, truth: the 68 landmarks in pixels.
        align: first move and scale each output by least squares, one scale and one shift per frame.
    """
    return nme(_fitted(output, truth) if align else output, truth, smallest=0.01)


def _fitted(points: Float[Array, "b n d"], truth: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """The points scaled and moved onto the truth by least squares."""
    centre, target = (x.mean(axis=1, keepdims=True) for x in (points, truth))
    points, wanted = points - centre, truth - target
    scale = jnp.sum(points * wanted, axis=(1, 2)) / jnp.maximum(jnp.sum(points**2, axis=(1, 2)), 1e-12)
    return points * scale[:, None, None] + target


def lmd(
    output: Float[Array, "b n d"], truth: Float[Array, "b n d"], *, lips: tuple[int, ...] = LIPS
) -> Float[Array, " b"]:
    """Landmark distance of talking heads: mean Euclidean distance of the lips, their mean points laid together.

    In the unit of the landmarks, pixels as a rule.
    """
    output, truth = (x[:, np.array(lips)] for x in (output, truth))
    output, truth = (x - x.mean(axis=1, keepdims=True) for x in (output, truth))
    return akd(output, truth, norm="l2")


def prmse(output: Float[Array, "b 3"], truth: Float[Array, "b 3"], *, root: str = "set") -> Float[Array, ""]:
    """Root of the mean squared difference of head angles (PRMSE; MarioNETte), in their unit, degrees as published.

    Angles that are not those of OpenFace (see :func:`reenax.metrics.pose.rotation_of_landmarks`) give a number that
    cannot be compared with published ones: report it as PRMSE-lm.

    Args:
        output, truth: pitch, yaw and roll of every frame.
        root: "set" for one root over all frames and angles; "frame" for a root per frame and their mean.

    Raises:
        UserError: an unknown ``root``.
    """
    if root not in ("set", "frame"):
        raise UserError(f"root must be 'set' or 'frame', got {root!r}")
    squares = jnp.mean((output - truth) ** 2, axis=-1)
    return jnp.sqrt(squares.mean()) if root == "set" else jnp.sqrt(squares).mean()


def aucon(output: Bool[Array, "b u"], truth: Bool[Array, "b u"]) -> Float[Array, " b"]:
    """Share of action units that are equally present or absent (AUCON; MarioNETte: the 18 of OpenFace)."""
    return jnp.mean((output == truth).astype(jnp.float32), axis=-1)


class LandmarkSuite(NamedTuple):
    """MakeItTalk's landmark metrics of one sequence (Zhou et al., 2020); per cent unless said, smaller is better.

    Attributes:
        lips: D-LL, distance of the lip points, of the largest lip width.
        lip_velocity: D-VL, the same of frame differences.
        mouth_area: D-A, difference of the open mouth's area, of the largest area.
        face: D-L, distance of all points, of the face width.
        velocity: D-V, the same of frame differences.
        rotation: D-Rot, mean absolute difference of the three head angles in degrees.
        position: D-Pos, distance of the head's position, of the face width.
    """

    lips: Float[Array, ""]
    lip_velocity: Float[Array, ""]
    mouth_area: Float[Array, ""]
    face: Float[Array, ""]
    velocity: Float[Array, ""]
    rotation: Float[Array, ""]
    position: Float[Array, ""]


@functools.partial(jax.jit, static_argnames=("lips", "inner_lip", "lip_corners", "face_sides", "rigid"))
def landmark_suite(
    output: Float[Array, "t n 3"],
    truth: Float[Array, "t n 3"],
    *,
    mean_shape: Float[Array, "n 3"] | None = None,
    lips: tuple[int, ...] = LIPS,
    inner_lip: tuple[int, ...] = INNER_LIP,
    lip_corners: tuple[int, int] = LIP_CORNERS,
    face_sides: tuple[int, int] = FACE_SIDES,
    rigid: tuple[int, ...] = RIGID,
) -> LandmarkSuite:
    """All landmark metrics of a sequence. There is no public script: points and units are arguments.

    The units, lip width, face width and area, are the largest of the true sequence; a mouth that never opens in it
    gives an infinite or undefined ``mouth_area``.

    Args:
        output, truth: 3-D landmarks of every frame.
        mean_shape: a head that looks straight ahead, against which angles are measured; the mean of the true sequence
            when None, which suits heads that turn little.
        lips: the points of D-LL and D-VL; ``JAW_LIPS`` for the form with the jaw.
        inner_lip: the polygon of the open mouth, seen along the third axis.
        lip_corners: the points whose distance is the lip width.
        face_sides: the points whose distance is the face width.
        rigid: the points that give the head's rotation and position (their mean).

    Raises:
        UserError: fewer than two frames.
    """
    if output.shape[0] < 2:
        raise UserError("landmark metrics need two frames at least, for the velocities")
    lip_width = _length(truth[:, lip_corners[0]] - truth[:, lip_corners[1]]).max()
    face_width = _length(truth[:, face_sides[0]] - truth[:, face_sides[1]]).max()
    difference, chosen = output - truth, np.array(lips)
    moved = jnp.diff(difference, axis=0)
    areas, true_areas = (_polygon_area(x[:, np.array(inner_lip), :2]) for x in (output, truth))
    heads, true_heads = output[:, np.array(rigid)], truth[:, np.array(rigid)]
    reference = true_heads.mean(axis=0) if mean_shape is None else mean_shape[np.array(rigid)]
    turned = (euler_angles(rotation_of_landmarks(x, reference)) for x in (heads, true_heads))
    angle = next(turned) - next(turned)
    angle = (angle + 180) % 360 - 180
    return LandmarkSuite(
        lips=100 * _length(difference[:, chosen]).mean() / lip_width,
        lip_velocity=100 * _length(moved[:, chosen]).mean() / lip_width,
        mouth_area=100 * jnp.abs(areas - true_areas).mean() / true_areas.max(),
        face=100 * _length(difference).mean() / face_width,
        velocity=100 * _length(moved).mean() / face_width,
        rotation=jnp.abs(angle).mean(),
        position=100 * _length(heads.mean(axis=1) - true_heads.mean(axis=1)).mean() / face_width,
    )


def _polygon_area(points: Float[Array, "t n 2"]) -> Float[Array, " t"]:
    following = jnp.roll(points, -1, axis=1)
    return jnp.abs(jnp.sum(points[..., 0] * following[..., 1] - points[..., 1] * following[..., 0], axis=-1)) / 2


def _length(vectors: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))
