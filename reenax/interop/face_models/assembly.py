"""From the numbers of a published file to a `FaceModel`: units, winding, colours, and whether the result is a face."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.face_model import FaceModel, Skeleton, check_face_model
from reenax.interop.face_models.landmark_files import FORMS, Landmarks

MAX_VERTICES = 2**20

# places in the iBUG order
_RIGHT_EYE, _LEFT_EYE, _MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)
_NOSE_TIP, _JAW_ENDS, _FRONT = 30, [0, 16], slice(17, 36)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a published file holds, in its own unit of length.

    Attributes:
        name: of the model.
        licence: its terms in a line.
        centimetres: one unit of the file in centimetres.
        mean: [v 3], x to the subject's left, y up, z forwards.
        identity: [i v 3], standard deviations folded in.
        expression: [e v 3], likewise.
        faces: [f 3], from 0, wound either way.
        landmarks: where they are, or None where neither the file nor the user says it.
        colour_mean: [v 3], display RGB in [0, 1], or None.
        colour_basis: [a v 3], standard deviations folded in, or None.
        uv: [v 2], or None.
        regions: name to bool [v].
        skeleton: with its pose basis in the file's unit, or None.
        expression_names: one for each expression, or ().
    """

    name: str
    licence: str
    centimetres: float
    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    faces: np.ndarray
    landmarks: Landmarks | None
    colour_mean: np.ndarray | None = None
    colour_basis: np.ndarray | None = None
    uv: np.ndarray | None = None
    regions: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    skeleton: Skeleton | None = None
    expression_names: tuple[str, ...] = ()


def assemble(parts: Parts) -> FaceModel:
    """The model in centimetres, its triangles counter-clockwise from outside, its colours linear.

    Colours of published models are those of a display. Linear ones are not linear in their coefficients, so the basis
    is carried over by the slope of the curve at the mean: exact there, and within a few percent a standard deviation
    away.

    Raises:
        UserError: no landmarks, inconsistent numbers, or landmarks that make no upright face of human size.
    """
    if parts.landmarks is None:
        raise UserError(f"the files of {parts.name} hold no landmarks: give them with --landmarks FILE, {FORMS}")
    if not 3 <= len(parts.mean) <= MAX_VERTICES:
        raise UserError(f"{len(parts.mean)} vertices are no face model")
    scale = parts.centimetres
    skeleton = parts.skeleton
    if skeleton is not None:
        skeleton = skeleton.replace(
            joint_regressor=_float32(skeleton.joint_regressor),
            skinning=_float32(skeleton.skinning),
            pose_basis=_float32(skeleton.pose_basis, scale),
        )
    corners, weights = parts.landmarks.corners(parts.faces)
    colour_mean, colour_basis = _linear(parts.colour_mean, parts.colour_basis)
    model = FaceModel(
        mean=_float32(parts.mean, scale),
        identity_basis=_float32(parts.identity, scale),
        expression_basis=_float32(parts.expression, scale),
        faces=parts.faces.astype(np.int32),
        landmark_vertices=corners,
        landmark_weights=weights,
        albedo_mean=colour_mean,
        albedo_basis=colour_basis,
        uv=None if parts.uv is None else _float32(parts.uv),
        regions=dict(parts.regions),
        skeleton=skeleton,
        name=parts.name,
        licence=parts.licence,
        expression_names=parts.expression_names,
    )
    check_face_model(model)
    check_landmarks(model.mean, corners, weights)
    model = model.replace(faces=outward(model.faces, model.mean, corners))
    return jax.tree.map(jnp.asarray, model)


def _float32(value: np.ndarray, scale: float = 1.0) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name later
        return np.asarray(value * np.asarray(scale, value.dtype), np.float32)


def _linear(mean: np.ndarray | None, basis: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Linear RGB of display colours (the curve of sRGB, IEC 61966-2-1), to first order around the mean."""
    if mean is None or basis is None:
        return None, None
    shade = np.clip(mean, 0, 1)
    dark = shade <= 0.04045
    lifted = (shade + 0.055) / 1.055
    slope = np.where(dark, 1 / 12.92, 2.4 / 1.055 * lifted**1.4)
    return _float32(np.where(dark, shade / 12.92, lifted**2.4)), _float32(basis * slope.astype(basis.dtype)[None])


def check_landmarks(mean: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> None:
    """Do the landmarks of the mean face make an upright face of human size that looks along z?

    Raises:
        UserError: they do not, and what is wrong with them.
    """
    places = np.einsum("lc,lcd->ld", weights, mean[corners])
    right, left, mouth = places[_RIGHT_EYE].mean(0), places[_LEFT_EYE].mean(0), places[_MOUTH].mean(0)
    between = float(np.linalg.norm(left - right))
    wrong = None
    if not 4.5 <= between <= 8.5:
        wrong = f"the eyes are {between:.3g} cm apart"
    elif left[0] - right[0] < 0.8 * between:
        wrong = "the eyes do not lie side by side along x, the subject's right one first"
    elif (right[1] + left[1]) / 2 - mouth[1] < 2:
        wrong = "the mouth is not below the eyes"
    elif places[_NOSE_TIP, 2] - places[_JAW_ENDS, 2].mean() < 2:
        wrong = "the tip of the nose is not in front of the ends of the jaw"
    if wrong is not None:
        raise UserError(f"the landmarks do not fit the model: {wrong}; are they for another mesh, or numbered from 1?")


def outward(faces: np.ndarray, mean: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The triangles turned so that those around the brows and the nose look forwards, and with them all the rest."""
    near = np.isin(faces, corners[_FRONT]).any(1)
    a, b, c = (mean[faces[near, i]] for i in range(3))
    forwards = np.cross(b - a, c - a)[:, 2].sum()
    return np.ascontiguousarray(faces if forwards >= 0 else faces[:, ::-1])


def checked(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of numbers of a certain shape (None where any size will do).

    Raises:
        UserError: it has another shape or holds something else.
    """
    got = np.shape(value)
    fits = len(got) == len(shape) and all(want in (None, n) for want, n in zip(shape, got, strict=True))
    if not fits:
        wanted = " ".join("?" if n is None else str(n) for n in shape)
        raise UserError(f"{name} is [{' '.join(map(str, got))}] instead of [{wanted}]")
    if np.asarray(value).dtype.kind not in "biuf":
        raise UserError(f"{name} holds {np.asarray(value).dtype} and not numbers")
    return np.asarray(value)


def indexes(name: str, value: Any, count: int, base: int = 0) -> np.ndarray:
    """Whole numbers from ``base`` to ``base + count - 1``, also when kept as floats, as int64 from 0.

    Raises:
        UserError: some are not.
    """
    value = np.asarray(value)
    if value.dtype.kind not in "iuf" or not value.size:
        raise UserError(f"{name} holds no indexes")
    low, high = value.min(), value.max()
    if not (low >= base and high < base + count) or (value != np.floor(value)).any():
        raise UserError(f"{name} runs from {low} to {high} instead of whole numbers from {base} to {base + count - 1}")
    return value.astype(np.int64) - base


def basis(name: str, value: Any, deviations: Any, vertices: int) -> np.ndarray:
    """[k v 3] from columns of interleaved coordinates [3v k], each times its standard deviation [k].

    Raises:
        UserError: sizes that do not fit, or a deviation that is not finite or negative.
    """
    value = checked(name, value, (3 * vertices, None))
    deviations = np.asarray(deviations).reshape(-1)
    if deviations.shape != value.shape[1:]:
        raise UserError(f"{name} has {value.shape[1]} components and {len(deviations)} standard deviations")
    if not (deviations >= 0).all():
        raise UserError(f"the standard deviations of {name} are not all positive numbers")
    columns = value.T.astype(np.float32) * deviations.astype(np.float32)[:, None]
    return columns.reshape(-1, vertices, 3)


def restricted(faces: np.ndarray, kept: np.ndarray, vertices: int) -> np.ndarray:
    """The triangles whose corners are all among the vertices that are kept, in the new numbers of these."""
    place = np.full(vertices, -1)
    place[kept] = np.arange(len(kept))
    renamed = place[faces]
    return renamed[(renamed >= 0).all(1)]
