"""Folders for GANimation: faces that are cut already, and their action units.

    FOLDER/imgs/<id>.jpg        faces, commonly of 128 pixels
    FOLDER/aus_openface.pkl     pickled dictionary: id -> intensities 0 to 5 of the 17 action units, in FACS order
    FOLDER/train_ids.csv        one file name per line, with its extension; likewise test_ids.csv

Records: one per picture, for nobody tells who is seen; field `action_units`, raw intensities from 0 to 5. Pictures that
are in a list but not in the dictionary are left out, and counted. Without lists every picture of the dictionary is
used; with `--openface` its files stand in for the dictionary. The pickle, of Python 2 or 3, is read without running
anything that is in it.

Pumarola et al., "GANimation: Anatomically-aware Facial Animation from a Single Image", ECCV 2018.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from data_pipelines.inputs import Skipped
from data_pipelines.layouts.stills import (
    Plan,
    Still,
    Wish,
    lines_of,
    no_attributes,
    no_faces,
    pictures_below,
    require_file,
)
from reenax.core.errors import UserError
from reenax.core.unpickle import numbers, read_pickle
from reenax.geometry.head.action_units import ACTION_UNITS, MAXIMUM

CONTENT = "imgs/, aus_openface.pkl (aus.pkl), train_ids.csv and test_ids.csv"
LISTS = {"test": "test_ids.csv", "train": "train_ids.csv"}


def read(folder: Path, wish: Wish) -> Plan:
    """The pictures of a folder. Raises UserError."""
    no_faces(wish, "ganimation")
    no_attributes(wish, "ganimation")
    pictures = require_file(folder, "ganimation", "imgs", "images", content=CONTENT)
    units: Mapping[str, Any] | None = None
    if not wish.measured:
        path = require_file(folder, "ganimation", "aus_openface.pkl", "aus.pkl", content=CONTENT)
        units = read_pickle(path)
        if not isinstance(units, dict) or not units:
            raise UserError(
                f"{path}: no dictionary of file names and action units; give what OpenFace's files say, or --openface"
            )
    stills: dict[str, Still] = {}
    skipped: list[Skipped] = []
    for split, name in _listed(folder, pictures):
        path, stem = pictures / name, name[:-4]  # the dictionary's ids: file names without their last four characters
        if units is None or stem not in units:
            stem = Path(name).stem
        labels = {}
        if stem in stills:
            skipped.append(Skipped(path, "duplicate", f"is listed twice; counted as {stills[stem].split or 'once'}"))
        elif not path.is_file():
            skipped.append(Skipped(path, "missing", "is listed, but there is no such file"))
        elif units is not None and stem not in units:
            skipped.append(Skipped(path, "unlabelled", "has no action units in the dictionary"))
        elif units is not None and (row := _row(units[stem])) is None:
            skipped.append(Skipped(path, "unlabelled", f"has no {len(ACTION_UNITS)} finite action units"))
        else:
            if units is not None:
                labels["action_units"] = row
            stills[stem] = Still(path, stem, stem, split, labels)
    return Plan(list(stills.values()), "none", frozenset() if wish.measured else frozenset({"action_units"}), skipped)


def _listed(folder: Path, pictures: Path) -> Iterator[tuple[str, str]]:
    """Splits and file names."""
    lists = {split: folder / name for split, name in LISTS.items() if (folder / name).is_file()}
    for split, path in lists.items():
        for _, line in lines_of(path):
            yield split, Path(line.strip("\"' ,")).name
    if not lists:
        yield from (("", path.name) for path in pictures_below(pictures) if path.parent == pictures)


def _row(value: Any) -> Float32[np.ndarray, "17"] | None:
    """Intensities of a value of the dictionary; None where it has none."""
    try:
        row = numbers(value).astype(np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    if row.shape != (len(ACTION_UNITS),) or not np.isfinite(row).all():
        return None
    return row.clip(0, MAXIMUM).astype(np.float32)
