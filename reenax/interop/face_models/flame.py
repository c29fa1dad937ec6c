"""FLAME (Li et al. 2017) in its releases of 2017 to 2023: ``generic_model.pkl`` and its like, or ``.npz``, in metres.

A pickle is read without running anything in it, see `unpickle`. Of the shape directions the first 300 are identity, the
rest expression; a file of 300 or fewer has no expressions. The landmarks come from the user: FLAME's own
``landmark_embedding.npy`` fits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reenax.core.errors import UserError
from reenax.core.unpickle import numbers, read_pickle
from reenax.geometry.array_files import read_arrays
from reenax.geometry.face_model import FaceModel, Skeleton
from reenax.interop.face_models.assembly import Parts, assemble, checked, indexes
from reenax.interop.face_models.landmark_files import Landmarks

LICENCE = "FLAME: the terms of the page that the file came from; 2017 to 2020 non-commercial research only"
IDENTITY = 300

_METRE = 100.0
_NAMES = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")


def read(path: Path, landmarks: Landmarks | None) -> FaceModel:
    """The model of a file.

    Raises:
        UserError: the file is missing, damaged, hostile, of another kind or inconsistent; no landmarks.
    """
    content = read_arrays(path, _NAMES) if path.suffix == ".npz" else read_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and no FLAME model")
    missing = [name for name in _NAMES if name not in content]
    if missing:
        raise UserError(f"{path} is no FLAME model: it lacks {missing[0]}")
    return assemble(_parts(lambda name: _numbers(path, content, name), landmarks))


def _numbers(path: Path, content: dict[str, Any], name: str) -> np.ndarray:
    try:
        return numbers(content[name])
    except Exception:  # records of a hostile pickle can hold anything
        raise UserError(f"{path}: {name} is no array of numbers") from None


def _parts(array: Callable[[str], np.ndarray], landmarks: Landmarks | None) -> Parts:
    mean = checked("v_template", array("v_template"), (None, 3))
    count = len(mean)
    directions = checked("shapedirs", array("shapedirs"), (count, 3, None)).transpose(2, 0, 1)
    skinning = checked("weights", array("weights"), (count, None))
    joints = skinning.shape[1]
    correctives = checked("posedirs", array("posedirs"), (count, 3, 9 * (joints - 1)))
    tree = checked("kintree_table", array("kintree_table"), (2, joints))
    # the root has none: -1, or what that becomes without a sign
    parents = indexes("kintree_table", tree[0, 1:], joints) if joints > 1 else ()
    return Parts(
        name="FLAME",
        licence=LICENCE,
        centimetres=_METRE,
        mean=mean,
        identity=directions[:IDENTITY],
        expression=directions[IDENTITY:],
        faces=indexes("f", checked("f", array("f"), (None, 3)), count),
        landmarks=landmarks,
        skeleton=Skeleton(
            joint_regressor=checked("J_regressor", array("J_regressor"), (joints, count)),
            skinning=skinning,
            pose_basis=correctives.transpose(2, 0, 1),
            parents=(-1, *(int(parent) for parent in parents)),
        ),
    )
