"""Licensed face models: the published files of each, read safely and turned into our own `FaceModel` file.

The files come from their owners, by registration or agreement; what is made of them stays under the same terms.
"""

import importlib
from pathlib import Path

from reenax.core.errors import UserError
from reenax.geometry.face_model import FaceModel, save_face_model
from reenax.interop.face_models.landmark_files import read_landmarks

KINDS = ("bfm2009", "bfm2017", "flame", "ict")


def read_face_model(kind: str, path: Path, landmarks: Path | None = None) -> FaceModel:
    """A published model in centimetres, upright, facing the camera, with its standard deviations folded in.

    Args:
        kind: one of `KINDS`.
        path: the published file, or the folder of its parts; each kind's module says which.
        landmarks: a file of the 68 landmarks, see `read_landmarks`; needed where the model's own files have none.

    Raises:
        UserError: an unknown kind; a file that is missing, damaged, of another kind, hostile or inconsistent.
    """
    if kind not in KINDS:
        raise UserError(f"{kind!r} is no kind of face model; known are: {', '.join(KINDS)}")
    places = None if landmarks is None else read_landmarks(landmarks)
    loader = importlib.import_module(f"reenax.interop.face_models.{kind}")
    return loader.read(path, places)


def convert_face_model(kind: str, path: Path, out: Path, landmarks: Path | None = None) -> str:
    """Turns a published model into our own file; returns one line on what was made.

    Raises:
        UserError: as `read_face_model`; ``out`` exists or does not end in ``.npz``. Nothing is left half written.
    """
    if out.suffix != ".npz":
        raise UserError(f"{out}: give --out a name that ends in .npz")
    if out.exists():
        raise UserError(f"{out} exists already; give --out a new name")
    model = read_face_model(kind, path, landmarks)
    save_face_model(model, out)
    sizes = f"{len(model.mean)} vertices, {len(model.identity_basis)} identity"
    sizes += f" and {len(model.expression_basis)} expression coefficients"
    return f"{model.name} ({sizes}) written to {out}; its licence: {model.licence}"
