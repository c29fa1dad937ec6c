"""ICT-FaceKit (Li et al. 2020): a folder of OBJ files, one for each shape, in centimetres; the MIT licence.

The folder is a checkout of the repository or ``FaceXModel`` in it: ``generic_neutral_mesh.obj``, ``identity000.obj``
and on, one file for each expression, ``vertex_indices.json`` with the names of the expressions and the landmarks.
"""

import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.array_files import MAX_BYTES
from reenax.geometry.face_model import LANDMARKS, FaceModel
from reenax.interop.face_models.assembly import MAX_VERTICES, Parts, assemble, checked, indexes
from reenax.interop.face_models.landmark_files import Landmarks

LICENCE = "ICT-FaceKit: MIT, see the repository"

_NEUTRAL, _NAMES = "generic_neutral_mesh.obj", "vertex_indices.json"
_IDENTITY = re.compile(r"identity(\d+)\.obj")
_FILE_BYTES = 2**26

_VERTICES = 26719
_REGIONS = {  # first vertex and the one after the last, from the repository's README
    "face": (0, 9409),
    "narrow face": (0, 6706),
    "skin": (0, 11248),
    "mouth": (11248, 13294),
    "eye sockets": (13294, 14062),
    "gums and tongue": (14062, 17039),
    "teeth": (17039, 21451),
    "eyes": (21451, 24591),
    "lacrimal fluid": (24591, 24999),
    "eye blend": (24999, 25047),
    "eye occlusion": (25047, 25351),
    "eyelashes": (25351, 26719),
}


class Mesh(NamedTuple):
    """What an OBJ file says.

    Attributes:
        vertices: float64 [v 3].
        faces: int64 [f 3], triangles from 0.
        uv: float64 [v 2], texture coordinates, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None


def read(path: Path, landmarks: Landmarks | None) -> FaceModel:
    """The model of a folder.

    Raises:
        UserError: a file is missing, damaged or does not fit the others.
    """
    folder = path / "FaceXModel" if (path / "FaceXModel" / _NEUTRAL).is_file() else path
    if not (folder / _NEUTRAL).is_file():
        raise UserError(f"{path} is no folder of ICT-FaceKit: it lacks {_NEUTRAL}")
    neutral = read_obj(folder / _NEUTRAL)
    count = len(neutral.vertices)
    described = _described(folder / _NAMES)
    files = sorted(p.name for p in folder.iterdir() if _IDENTITY.fullmatch(p.name))
    if files != [f"identity{i:03d}.obj" for i in range(len(files))] or not files:
        raise UserError(f"{folder} holds {len(files)} identity shapes, not numbered from 000 without a gap")
    shapes = described["expressions"]
    if landmarks is None:
        places = indexes("idx_to_landmark_verts", described["idx_to_landmark_verts"], count)
        landmarks = Landmarks(checked("idx_to_landmark_verts", places, (LANDMARKS,)))
    return assemble(
        Parts(
            name="ICT-FaceKit",
            licence=LICENCE,
            centimetres=1.0,
            mean=neutral.vertices,
            identity=_differences(folder, files, neutral.vertices),
            expression=_differences(folder, [f"{name}.obj" for name in shapes], neutral.vertices),
            faces=neutral.faces,
            landmarks=landmarks,
            uv=neutral.uv,
            regions=_regions(count),
            expression_names=tuple(apple_name(name) for name in shapes),
        )
    )


def apple_name(name: str) -> str:
    """``eyeBlink_L`` in the spelling of ARKit: eyeBlinkLeft.

    The model parts two shapes that ARKit does not: browInnerUpLeft and Right, cheekPuffLeft and Right.
    """
    stem, _, side = name.rpartition("_")
    return stem + {"L": "Left", "R": "Right"}[side] if stem and side in ("L", "R") else name


def _described(path: Path) -> dict[str, Any]:
    """Names of the expressions and landmarks, every one of the type that it should have."""
    if not path.is_file():
        raise UserError(f"{path.parent} is no folder of ICT-FaceKit: it lacks {path.name}")
    try:
        if path.stat().st_size > _FILE_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_bytes())
        names, places = content["expressions"], content["idx_to_landmark_verts"]
        if not isinstance(names, list) or not isinstance(places, list):
            raise ValueError("no lists")
        if not all(re.fullmatch(r"\w{1,60}", name) for name in names) or len(set(names)) != len(names) or not names:
            raise ValueError("no names of files")
        if not all(type(place) is int for place in places):
            raise ValueError("no numbers of vertices")
        return {"expressions": names, "idx_to_landmark_verts": np.array(places, np.float64)}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise UserError(f"{path} is damaged: it lacks the names of the expressions or the landmarks") from None


def _differences(folder: Path, files: list[str], neutral: np.ndarray) -> np.ndarray:
    """Each file's shape less the neutral one, float32 [k v 3]."""
    if len(files) * neutral.size * 4 > MAX_BYTES:
        raise UserError(f"{folder}: {len(files)} shapes are too many")
    shapes = np.empty((len(files), *neutral.shape), np.float32)
    for i, name in enumerate(files):
        vertices = _vertices(folder / name, _lines(folder / name))
        shapes[i] = checked(str(folder / name), vertices, neutral.shape) - neutral
    return shapes


def _regions(count: int) -> dict[str, np.ndarray]:
    """The parts of the full topology; none for another one."""
    if count != _VERTICES:
        return {}
    place = np.arange(count)
    return {name: (place >= first) & (place < end) for name, (first, end) in _REGIONS.items()}


def read_obj(path: Path) -> Mesh:
    """A mesh of a Wavefront OBJ file; polygons are split into triangles around their first corner.

    Of the texture coordinates of a vertex on a seam the first is taken.

    Raises:
        UserError: the file is missing or damaged, or points to vertices that it does not have.
    """
    lines = _lines(path)
    vertices = _vertices(path, lines)
    textures = _numbers(path, lines, b"vt ", 2)
    corners, marks = _triangles(path, lines)
    faces = indexes(f"{path}: triangles", np.array(corners, np.int64).reshape(-1, 3), len(vertices), base=1)
    if not len(textures) or min(marks, default=0) < 1:
        return Mesh(vertices, faces, None)
    chosen = indexes(f"{path}: texture coordinates", np.array(marks), len(textures), base=1)
    uv = np.zeros((len(vertices), 2))
    uv[faces.ravel()[::-1]] = textures[chosen[::-1]]  # the last one written stays: the first in the file
    return Mesh(vertices, faces, uv)


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        raise UserError(f"{path.parent} lacks {path.name}")
    if path.stat().st_size > _FILE_BYTES:
        raise UserError(f"{path} is larger than {_FILE_BYTES >> 20} MiB and is not read")
    content = path.read_bytes()
    if content.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is only a pointer of Git LFS; run git lfs pull in its repository")
    return content.splitlines()


def _vertices(path: Path, lines: list[bytes]) -> np.ndarray:
    vertices = _numbers(path, lines, b"v ", 3)
    if not 3 <= len(vertices) <= MAX_VERTICES:
        raise UserError(f"{path} has {len(vertices)} vertices and is no mesh")
    return vertices


def _numbers(path: Path, lines: list[bytes], mark: bytes, count: int) -> np.ndarray:
    """The first numbers of all lines with a mark, float64 [n count]."""
    chosen = b"\n".join(line for line in lines if line.startswith(mark))
    if not chosen:
        return np.zeros((0, count))
    try:
        return np.loadtxt(io.BytesIO(chosen), usecols=range(1, count + 1), ndmin=2, comments=None)
    except (ValueError, IndexError):
        raise UserError(f"{path} is damaged: a line {mark.decode().strip()!r} lacks its {count} numbers") from None


def _triangles(path: Path, lines: list[bytes]) -> tuple[list[int], list[int]]:
    """Vertex and texture numbers of the triangles' corners, from 1, one after another; 0 for no texture."""
    corners: list[int] = []
    marks: list[int] = []
    try:
        for line in lines:
            if line.startswith(b"f "):
                polygon = [word.split(b"/") for word in line.split()[1:]]
                for i in range(1, len(polygon) - 1):
                    for word in (polygon[0], polygon[i], polygon[i + 1]):
                        corners.append(int(word[0]))
                        marks.append(int(word[1]) if len(word) > 1 and word[1] else 0)
        np.array([corners, marks], np.int64)
    except (ValueError, OverflowError):
        raise UserError(f"{path} is damaged: a line 'f' holds no numbers of vertices") from None
    return corners, marks
