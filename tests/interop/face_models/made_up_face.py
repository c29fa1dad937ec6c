"""A face of formulas, to be written in the formats of the published models: a bump of human size with a nose."""

import dataclasses

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.face_model import FaceModel

ROWS, COLUMNS = 25, 21
IDENTITY, EXPRESSION, COLOUR = 4, 3, 2


@dataclasses.dataclass(frozen=True)
class MadeUpFace:
    """In centimetres; triangles counter-clockwise from outside; colours of a display in [0, 1]."""

    mean: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    colour_mean: np.ndarray
    colour_basis: np.ndarray

    @property
    def count(self) -> int:
        return len(self.mean)


def landmark_targets() -> np.ndarray:
    """Where the 68 landmarks of the iBUG order lie on a face, [68 2] in centimetres."""

    def arc(x: float, y: float, width: float, height: float, turns: np.ndarray) -> np.ndarray:
        return np.stack([x + width * np.cos(turns), y + height * np.sin(turns)], -1)

    pi = np.pi
    return np.concatenate(
        [
            arc(0, 1, 7, 9.5, np.linspace(pi, 2 * pi, 17)),  # jaw, from the subject's right
            arc(-3.2, 4.3, 2, 0.8, np.linspace(pi, 0, 5)),
            arc(3.2, 4.3, 2, 0.8, np.linspace(pi, 0, 5)),
            np.stack([np.zeros(4), np.linspace(2.5, -1, 4)], -1),  # bridge of the nose, its tip last
            np.stack([np.linspace(-1.4, 1.4, 5), np.full(5, -2.0)], -1),
            arc(-3.1, 2.8, 1.2, 0.7, pi - np.arange(6) * pi / 3),
            arc(3.1, 2.8, 1.2, 0.7, pi - np.arange(6) * pi / 3),
            arc(0, -4.5, 2.4, 1.2, pi - np.arange(12) * pi / 6),
            arc(0, -4.5, 1.6, 0.5, pi - np.arange(8) * pi / 4),
        ]
    )


def made_up_face() -> MadeUpFace:
    rng = np.random.default_rng(7)
    y, x = np.meshgrid(np.linspace(11, -11, ROWS), np.linspace(-7.6, 7.6, COLUMNS), indexing="ij")
    z = 9 * np.sqrt(np.clip(1 - (x / 9) ** 2 - (y / 14) ** 2, 0, None)) + 2.5 * np.exp(-(x**2) - ((y + 1) / 2) ** 2)
    mean = np.stack([x, y, z], -1).reshape(-1, 3)
    corner = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)[None]).reshape(-1)
    below = corner + COLUMNS
    faces = np.concatenate([np.stack([corner, below, below + 1], -1), np.stack([corner, below + 1, corner + 1], -1)])
    distance = np.linalg.norm(mean[None, :, :2] - landmark_targets()[:, None], axis=-1)
    return MadeUpFace(
        mean=mean,
        faces=faces,
        landmarks=distance.argmin(1),
        identity=0.3 * rng.normal(size=(IDENTITY, len(mean), 3)),
        expression=0.2 * rng.normal(size=(EXPRESSION, len(mean), 3)),
        colour_mean=rng.uniform(0.02, 0.9, (len(mean), 3)),
        colour_basis=0.05 * rng.normal(size=(COLOUR, len(mean), 3)),
    )


def to_linear(colour: np.ndarray) -> np.ndarray:
    """The curve of sRGB."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def assert_same_face(model: FaceModel, face: MadeUpFace, kept: np.ndarray | None = None, atol: float = 2e-5) -> None:
    """The model is the made-up face in our units: places, bases, winding, landmarks."""
    kept = np.arange(face.count) if kept is None else kept
    np.testing.assert_allclose(model.mean, face.mean[kept], atol=atol)
    np.testing.assert_allclose(model.identity_basis, face.identity[:, kept], atol=atol)
    if len(model.expression_basis):
        np.testing.assert_allclose(model.expression_basis, face.expression[:, kept], atol=atol)
    landmarks = np.asarray(model.landmarks(model.mean))
    np.testing.assert_allclose(landmarks, face.mean[face.landmarks], atol=atol)
    eyes = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    assert 5 < np.linalg.norm(eyes[1] - eyes[0]) < 7
    a, b, c = (np.asarray(model.mean)[np.asarray(model.faces)[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    assert (normals[:, 2] > 0).all()  # the sheet looks forwards everywhere
    assert model.licence
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model))


def assert_same_colours(model: FaceModel, face: MadeUpFace) -> None:
    """At the mean exactly, a small step from there to first order."""
    np.testing.assert_allclose(model.albedo_mean, to_linear(face.colour_mean), atol=1e-5)
    step = 1e-4
    moved = to_linear(face.colour_mean + step * face.colour_basis[1]) - to_linear(face.colour_mean)
    np.testing.assert_allclose(np.asarray(model.albedo_basis)[1], moved / step, atol=1e-3)


def one_line(error) -> str:
    """The text of a `UserError`, which is one line and not too long."""
    text = str(error.value)
    assert isinstance(error.value, UserError)
    assert "\n" not in text
    assert len(text) < 500
    return text


def flat(array: np.ndarray) -> np.ndarray:
    """[.. v 3] as columns of interleaved numbers [3v ..]."""
    return array.reshape(*array.shape[:-2], -1).T if array.ndim == 3 else array.reshape(-1, 1)
