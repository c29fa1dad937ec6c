"""The Basel Face Model of 2009 (Paysan et al.), alone or with the expressions of Guo et al., and its front.

Three forms are read:

- ``01_MorphableModel.mat`` as the University of Basel gives it: identity and colour, in micrometres. It has neither
  expressions nor landmarks.
- ``BFM_model_front.mat``: the front of the face with expressions that monocular reconstruction uses (Deng et al. 2019),
  finished, in decimetres.
- A folder with ``01_MorphableModel.mat``, ``Exp_Pca.bin``, ``std_exp.txt`` and ``BFM_exp_idx.mat``: the model with
  expressions, on the vertices that these are defined on. With ``BFM_front_idx.mat`` and ``facemodel_info.mat`` besides,
  the front is put together from its parts.

All indexes of these files count from 1. As in the published code, the mean of the expressions is not added.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.face_model import LANDMARKS, FaceModel
from reenax.interop.face_models.assembly import Parts, assemble, basis, checked, indexes, restricted
from reenax.interop.face_models.landmark_files import Landmarks
from reenax.interop.face_models.mat_files import read_mat

LICENCE = "Basel Face Model: research only, by agreement with the University of Basel, not to be passed on"
FRONT_IDENTITY, FRONT_EXPRESSION, FRONT_COLOUR = 80, 64, 80

_MICROMETRE, _DECIMETRE = 1e-4, 10.0
_BASEL = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
_FRONT = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "keypoints")
_INFO = ("tri", "keypoints", "frontmask2_idx", "skinmask")
_MODEL_FILE, _FRONT_FILE, _INFO_FILE = "01_MorphableModel.mat", "BFM_front_idx.mat", "facemodel_info.mat"
_EXPRESSION_FILES = ("Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat")


def read(path: Path, landmarks: Landmarks | None) -> FaceModel:
    """The model of a file or folder in one of the forms above.

    Raises:
        UserError: it is none of them, damaged or inconsistent; no landmarks, where the form has none.
    """
    if path.is_dir():
        return assemble(_from_folder(path, landmarks))
    content = read_mat(path, {*_BASEL, *_FRONT, *_INFO, "segbin"})
    if "idBase" in content:
        _require(path, content, _FRONT)
        return assemble(_finished_front(content, landmarks))
    return assemble(_basel(path, content, landmarks))


def _require(path: Path, content: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in content]
    if missing:
        raise UserError(f"{path} is no Basel Face Model of 2009: it lacks {missing[0]}")


def _vector(name: str, value: np.ndarray) -> np.ndarray:
    """A vector that the file keeps as a row or a column."""
    if value.ndim != 2 or 1 not in value.shape:
        raise UserError(f"{name} is {list(value.shape)} and no vector")
    return value.reshape(-1)


def _triples(name: str, value: np.ndarray, count: int | None = None) -> np.ndarray:
    """[v 3] from a vector of interleaved coordinates or colours."""
    flat = _vector(name, value)
    if len(flat) % 3 or count not in (None, len(flat) // 3):
        raise UserError(f"{name} has {len(flat)} numbers instead of {'triples' if count is None else 3 * count}")
    return flat.reshape(-1, 3)


def _basel(path: Path, content: dict[str, np.ndarray], landmarks: Landmarks | None) -> Parts:
    _require(path, content, _BASEL)
    mean = _triples("shapeMU", content["shapeMU"])
    count = len(mean)
    faces = indexes("tl", checked("tl", content["tl"], (None, 3)), count, base=1)
    return Parts(
        name="Basel Face Model 2009",
        licence=LICENCE,
        centimetres=_MICROMETRE,
        mean=mean,
        identity=basis("shapePC", content["shapePC"], content["shapeEV"], count),
        expression=np.zeros((0, count, 3), np.float32),
        faces=faces,
        landmarks=landmarks,
        colour_mean=_triples("texMU", content["texMU"], count) / 255.0,
        colour_basis=basis("texPC", content["texPC"], content["texEV"], count) / np.float32(255),
        regions=_segments(content.get("segbin"), faces, count, landmarks),
    )


def _segments(
    masks: np.ndarray | None, faces: np.ndarray, count: int, landmarks: Landmarks | None
) -> dict[str, np.ndarray]:
    """The model's four segments, known by the landmarks that lie in them; none where that is not clear."""
    if masks is None or masks.shape != (count, 4) or landmarks is None:
        return {}
    corners = landmarks.corners(faces)[0]
    if corners.min() < 0 or corners.max() >= count:
        return {}
    spans = {"nose": slice(27, 36), "eyes": slice(36, 48), "mouth": slice(48, 68)}
    columns = {name: int((masks[corners[span]] != 0).sum((0, 1)).argmax()) for name, span in spans.items()}
    if len(set(columns.values())) < len(columns):
        return {}
    columns["cheeks"] = 6 - sum(columns.values())
    return {name: masks[:, column] != 0 for name, column in columns.items()}


def _finished_front(content: dict[str, np.ndarray], landmarks: Landmarks | None) -> Parts:
    mean = _triples("meanshape", content["meanshape"])
    count = len(mean)

    def columns(name: str) -> np.ndarray:
        value = checked(name, content[name], (3 * count, None))
        return basis(name, value, np.ones(value.shape[1]), count)

    return Parts(
        name="Basel Face Model 2009, front with expressions",
        licence=LICENCE,
        centimetres=_DECIMETRE,
        mean=mean,
        identity=columns("idBase"),
        expression=columns("exBase"),
        colour_mean=_triples("meantex", content["meantex"], count) / 255.0,
        colour_basis=columns("texBase") / np.float32(255),
        **_front_info(content, count, landmarks),
    )


def _front_info(content: dict[str, np.ndarray], count: int, landmarks: Landmarks | None) -> dict[str, Any]:
    """Triangles, landmarks and regions of the front."""
    regions = {}
    if "frontmask2_idx" in content:
        face = indexes("frontmask2_idx", content["frontmask2_idx"], count, base=1)
        regions["face"] = np.isin(np.arange(count), face)
    if "skinmask" in content:
        regions["skin"] = checked("skinmask", _vector("skinmask", content["skinmask"]), (count,)) != 0
    keypoints = indexes("keypoints", _vector("keypoints", content["keypoints"]), count, base=1)
    return {
        "faces": indexes("tri", checked("tri", content["tri"], (None, 3)), count, base=1),
        "landmarks": landmarks or Landmarks(checked("keypoints", keypoints, (LANDMARKS,))),
        "regions": regions,
    }


def _from_folder(folder: Path, landmarks: Landmarks | None) -> Parts:
    """The model put together from its parts, as far as they are there."""
    for name in (_MODEL_FILE, *_EXPRESSION_FILES):
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}; needed are {', '.join((_MODEL_FILE, *_EXPRESSION_FILES))}")
    has_front = (folder / _FRONT_FILE).is_file()
    if has_front and not (folder / _INFO_FILE).is_file():
        raise UserError(f"{folder} has {_FRONT_FILE} and lacks {_INFO_FILE}")
    whole = _basel(folder / _MODEL_FILE, read_mat(folder / _MODEL_FILE, _BASEL), None)
    components, deviations, indexes_file = (folder / name for name in _EXPRESSION_FILES)
    trim = _index_list(indexes_file, len(whole.mean))
    expression = read_expressions(components, deviations, len(trim))
    if not has_front:
        kept = _kept(whole, trim, expression)
        return dataclasses.replace(kept, name=f"{whole.name} with expressions", landmarks=landmarks)
    front = _index_list(folder / _FRONT_FILE, len(trim))
    info = read_mat(folder / _INFO_FILE, _INFO)
    _require(folder / _INFO_FILE, info, ("tri", "keypoints"))
    kept = _kept(whole, trim[front], expression[:FRONT_EXPRESSION, front])
    assert kept.colour_basis is not None
    return dataclasses.replace(
        kept,
        name="Basel Face Model 2009, front with expressions",
        identity=kept.identity[:FRONT_IDENTITY],
        colour_basis=kept.colour_basis[:FRONT_COLOUR],
        **_front_info(info, len(front), landmarks),
    )


def _kept(parts: Parts, kept: np.ndarray, expression: np.ndarray) -> Parts:
    """The model on some of its vertices, with expressions there."""
    assert parts.colour_mean is not None
    assert parts.colour_basis is not None
    return dataclasses.replace(
        parts,
        mean=parts.mean[kept],
        identity=parts.identity[:, kept],
        expression=expression,
        colour_mean=parts.colour_mean[kept],
        colour_basis=parts.colour_basis[:, kept],
        faces=restricted(parts.faces, kept, len(parts.mean)),
    )


def _index_list(path: Path, count: int) -> np.ndarray:
    """The one list of indexes of a file, under whatever name."""
    lists = [value for value in read_mat(path).values() if value.ndim == 2 and 1 in value.shape]
    if len(lists) != 1:
        raise UserError(f"{path} holds {len(lists)} lists of indexes instead of one")
    found = indexes(str(path), lists[0].reshape(-1), count, base=1)
    if len(np.unique(found)) != len(found):
        raise UserError(f"{path} names a vertex twice")
    return found


def read_expressions(components: Path, deviations: Path, vertices: int) -> np.ndarray:
    """Expressions [k v 3] in micrometres from ``Exp_Pca.bin`` and ``std_exp.txt`` (Guo et al., CNN-based Real-time
    Dense Face Reconstruction): int32 k, float32 mean [3v], float32 components [k 3v], little-endian.

    Raises:
        UserError: sizes that do not fit, or no numbers.
    """
    size = components.stat().st_size
    with components.open("rb") as file:
        count = int.from_bytes(file.read(4), "little", signed=True)
        if count < 1 or size != 4 + 12 * vertices * (count + 1):
            raise UserError(f"{components} has {size} bytes, which are no {count} expressions of {vertices} vertices")
        file.seek(4 + 12 * vertices)
        values = np.fromfile(file, "<f4", 3 * vertices * count)
    try:
        scale = np.array(deviations.read_text("ascii").replace(",", " ").split(), np.float32)
    except (ValueError, OSError):
        raise UserError(f"{deviations} holds no list of standard deviations") from None
    return basis(components.name, values.reshape(count, -1).T, scale, vertices)
