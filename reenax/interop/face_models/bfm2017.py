"""The Basel Face Models of 2017 and 2019 (Gerig et al. 2018): HDF5 files with shape, expression and colour, in
millimetres, for example ``model2017-1_bfm_nomouth.h5`` or ``model2017-1_face12_nomouth.h5``.

Each of the three groups has ``model/{mean, pcaBasis, pcaVariance}``; the mean face is that of the shape plus that of
the expressions. Triangles (``representer/cells``) count from 0. The landmarks come from the user.
"""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reenax.core.errors import UserError
from reenax.geometry.array_files import MAX_BYTES
from reenax.geometry.face_model import FaceModel
from reenax.interop.face_models.assembly import Parts, assemble, basis, checked, indexes
from reenax.interop.face_models.landmark_files import Landmarks

LICENCE = "Basel Face Model: research only, by agreement with the University of Basel, not to be passed on"

_MILLIMETRE = 0.1
_GROUPS = ("shape", "expression", "color")
_MODEL = ("mean", "pcaBasis", "pcaVariance")
_POINTS, _CELLS = "shape/representer/points", "shape/representer/cells"


def read(path: Path, landmarks: Landmarks | None) -> FaceModel:
    """The model of a file.

    Raises:
        UserError: the file is missing, damaged, of another kind or inconsistent; no landmarks.
    """
    arrays = _read_arrays(path)
    points = checked(_POINTS, arrays[_POINTS], (3, None))
    count = points.shape[1]
    means = {group: checked(f"{group}/mean", arrays[f"{group}/model/mean"], (3 * count,)) for group in _GROUPS}
    bases = {group: _basis(group, arrays, count) for group in _GROUPS}
    faces = checked(_CELLS, arrays[_CELLS], (3, None)).T
    colour = means["color"].reshape(-1, 3)
    if colour.max() > 2:
        raise UserError(f"{path}: the mean colour reaches {colour.max():.3g} and should lie in 0 to 1")
    return assemble(
        Parts(
            name=f"Basel Face Model ({path.stem:.60})",
            licence=LICENCE,
            centimetres=_MILLIMETRE,
            mean=(means["shape"] + means["expression"]).reshape(-1, 3),
            identity=bases["shape"],
            expression=bases["expression"],
            faces=indexes(_CELLS, faces, count),
            landmarks=landmarks,
            colour_mean=colour,
            colour_basis=bases["color"],
        )
    )


def _basis(group: str, arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    variance = checked(f"{group}/pcaVariance", arrays[f"{group}/model/pcaVariance"], (None,))
    if not (variance >= 0).all():
        raise UserError(f"{group}/pcaVariance holds numbers that are no variances")
    return basis(f"{group}/pcaBasis", arrays[f"{group}/model/pcaBasis"], np.sqrt(variance), count)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that the model consists of, by their paths in the file."""
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is no HDF5 file")
    names = [_POINTS, _CELLS, *(f"{group}/model/{name}" for group in _GROUPS for name in _MODEL)]
    try:
        with h5py.File(path, "r") as file:
            found = {name: _dataset(path, file, name) for name in names}
            if sum(math.prod(d.shape) * d.dtype.itemsize for d in found.values()) > MAX_BYTES:
                raise UserError(f"{path} declares arrays of more than {MAX_BYTES >> 20} MiB and is not read")
            return {name: dataset[()] for name, dataset in found.items()}
    except UserError:
        raise
    except Exception:  # h5py raises what it likes on bytes that it does not understand
        raise UserError(f"{path} is a truncated or damaged HDF5 file") from None


def _dataset(path: Path, file: Any, name: str) -> Any:
    """An array that lies in this very file: links can name any other file of the machine."""
    place = file
    for step in name.split("/"):
        if not isinstance(place, h5py.Group) or step not in place:
            raise UserError(f"{path} is no Basel Face Model of 2017: it lacks {name}")
        if not isinstance(place.get(step, getlink=True), h5py.HardLink):
            raise UserError(f"{path}: {name} is a link to elsewhere and is not followed")
        place = place[step]
    if not isinstance(place, h5py.Dataset) or place.dtype.kind not in "iuf" or place.shape is None:
        raise UserError(f"{path}: {name} is no array of numbers")
    if place.is_virtual or place.external:
        raise UserError(f"{path}: {name} lies in another file and is not read")
    return place
