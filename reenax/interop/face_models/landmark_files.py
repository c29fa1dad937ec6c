"""Where the 68 landmarks of the iBUG order lie on a model whose own files do not say it."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reenax.core.errors import UserError
from reenax.core.unpickle import numbers, unpickle
from reenax.geometry.array_files import read_arrays
from reenax.geometry.face_model import LANDMARKS

MAX_BYTES = 2**24
FORMS = (
    "68 vertex numbers from 0 (.txt or .json), or triangle numbers with barycentric weights "
    '({"faces": [...], "weights": [[...], ...]} in .json, or FLAME\'s landmark_embedding.npy)'
)

# the names under which files of FLAME keep triangles and weights of all 68 landmarks
_EMBEDDINGS = (("full_lmk_faces_idx", "full_lmk_bary_coords"), ("lmk_face_idx", "lmk_b_coords"), ("faces", "weights"))


class Landmarks(NamedTuple):
    """Places of the landmarks on a mesh.

    Attributes:
        ids: int64 [68], vertices where ``weights`` is None, else triangles.
        weights: float32 [68 3], barycentric coordinates in the triangles, or None.
    """

    ids: np.ndarray
    weights: np.ndarray | None = None

    def corners(self, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertices int32 [68 3] and their weights float32 [68 3].

        Raises:
            UserError: a triangle that does not exist.
        """
        if self.weights is None:
            weights = np.zeros((LANDMARKS, 3), np.float32)
            weights[:, 0] = 1
            return np.repeat(self.ids[:, None], 3, 1).astype(np.int32), weights
        if self.ids.min() < 0 or self.ids.max() >= len(faces):
            raise UserError(f"the landmarks lie in triangles {self.ids.min()} to {self.ids.max()} of {len(faces)}")
        return faces[self.ids].astype(np.int32), self.weights


def read_landmarks(path: Path) -> Landmarks:
    """Reads the places of 68 landmarks, numbered from 0 in the order of the model's own file.

    Text files hold 68 vertex numbers between blanks or commas; JSON files a list of them, or an object with "faces"
    and "weights". FLAME's embeddings are taken as published (``.npy``, ``.npz``, ``.pkl`` with all 68 of them).

    Raises:
        UserError: none of these, or a damaged one.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; landmarks are {FORMS}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is too large for a file of landmarks")
    try:
        return _landmarks(_content(path))
    except UserError:
        raise
    except Exception:  # json and numpy raise what they like on content that they do not understand
        raise UserError(f"{path} holds no landmarks; they are {FORMS}") from None


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    if path.suffix == ".npz":
        return read_arrays(path, max_bytes=MAX_BYTES)
    if path.suffix == ".pkl":
        return unpickle(path, path.read_bytes())
    if path.suffix == ".npy":
        return _array_content(path)
    return [int(word) for word in path.read_text("ascii").replace(",", " ").split()]


def _array_content(path: Path) -> Any:
    """A plain array, or the one dictionary that FLAME's file wraps into an array of objects."""
    file = io.BytesIO(path.read_bytes())
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        return unpickle(path, file.read(), tensors=True).objects[0]
    return np.frombuffer(file.read(), dtype).reshape(shape)


def _landmarks(content: Any) -> Landmarks:
    if not isinstance(content, dict):
        return Landmarks(_whole(content))
    for faces, weights in _EMBEDDINGS:
        if faces in content and weights in content:
            shares = numbers(content[weights]).reshape(LANDMARKS, 3).astype(np.float32)
            if not np.isfinite(shares).all():
                raise ValueError("weights that are not finite")
            return Landmarks(_whole(content[faces]), shares)
    raise ValueError("no known names")


def _whole(values: Any) -> np.ndarray:
    ids = numbers(values).reshape(LANDMARKS)
    whole = ids.astype(np.int64)
    if (whole != ids).any():
        raise ValueError("numbers that are not whole")
    return whole
