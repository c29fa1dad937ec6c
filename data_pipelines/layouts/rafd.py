"""The Radboud Faces Database (Langner et al. 2010): 67 people act eight expressions for five cameras, with three gazes.

Two forms of folders are read, at any depth:

    Rafd<camera>_<person>_<group>_<sex>_<expression>_<gaze>.jpg    as the database names its files
    <class>/<anything>.jpg                                         a folder per class, as StarGAN uses them

Below folders called `train` and `test` the pictures belong to these splits. Text files of 106 landmarks (`points`) in
the folder decide what is cut, as FReeNet does it, and become `landmarks_106`; without them faces are found
(`--faces dlib`, which misses profiles) or the middle of the pictures is taken (`--faces none`).

Records of the first form: one per person. `acted` says expression, view and gaze:

    expression   0 neutral, 1 angry, 2 contemptuous, 3 disgusted, 4 fearful, 5 happy, 6 sad, 7 surprised
    view         0 camera 090 (frontal), 1 camera 045, 2 camera 135, 3 camera 000, 4 camera 180
    gaze         0 frontal, 1 left, 2 right

People without a usable picture that is all zeros are left out. `attributes` is 1 for the expression and 0 for the other
seven, in the order of the alphabet: angry, contemptuous, disgusted, fearful, happy, neutral, sad, surprised. Records of
the second form: one per picture, with `attributes` in the order of the names of the folders.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines.inputs import Skipped
from data_pipelines.layouts.points import find_points
from data_pipelines.layouts.stills import Plan, Points, Still, Wish, no_attributes, one_hot, pictures_below, stem_of
from reenax.core.errors import UserError

EXPRESSIONS = ("neutral", "angry", "contemptuous", "disgusted", "fearful", "happy", "sad", "surprised")
VIEWS = ("090", "045", "135", "000", "180")
GAZES = ("frontal", "left", "right")

_NAME = re.compile(r"rafd(\d{3})_(\d+)_[^_]+_[^_]+_([a-z]+)_([a-z]+)", re.IGNORECASE)


def read(folder: Path, wish: Wish) -> Plan:
    """The pictures of a folder. Raises UserError."""
    no_attributes(wish, "rafd")
    paths = list(pictures_below(folder, leave_out="landmark"))  # FReeNet keeps drawn landmarks in landmark_crop/
    if not any(_NAME.fullmatch(path.stem) for path in paths):
        return _classes(folder, paths, wish)
    points, skipped = ({}, []) if wish.faces else find_points(folder)
    stills: dict[str, Still] = {}
    for path in paths:
        name = _NAME.fullmatch(path.stem)
        acting = None if name is None else _acting(*name.group(3, 1, 4))
        if name is None or acting is None:
            what = "is not named Rafd<camera>_<person>_<group>_<sex>_<expression>_<gaze>"
            skipped.append(Skipped(path, "unknown name", what))
        elif path.stem in stills:
            skipped.append(Skipped(path, "duplicate", f"is named as {stills[path.stem].path} is"))
        else:
            expression = sorted(EXPRESSIONS).index(EXPRESSIONS[acting[0]])
            labels = {"acted": np.array(acting, np.int32), "attributes": one_hot(expression, len(EXPRESSIONS))}
            person = name.group(2).zfill(2)
            stills[path.stem] = Still(path, path.stem, person, _split(folder, path), labels)
    plan = with_points(list(stills.values()), points, skipped, wish, frozenset({"acted", "attributes"}))
    return replace(plan, attributes=sorted(EXPRESSIONS))


def with_points(
    stills: Sequence[Still],
    points: Mapping[str, Points],
    skipped: Sequence[Skipped],
    wish: Wish,
    fields: frozenset[str],
) -> Plan:
    """The plan of pictures of whom some files tell the landmarks, or of whom the faces have to be found."""
    if wish.faces or not points:
        return Plan(stills, wish.faces or "dlib", fields, skipped)
    known, unknown = [], list(skipped)
    for still in stills:
        if found := points.get(still.path.stem):
            known.append(Still(still.path, still.name, still.identity, still.split, still.labels, found))
        else:
            unknown.append(Skipped(still.path, "unlabelled", "has no line in the text files of landmarks"))
    return Plan(known, "points", fields, unknown)


def _acting(expression: str, camera: str, gaze: str) -> tuple[int, int, int] | None:
    """The numbers of what is acted; None where it is none of the database's."""
    try:
        return EXPRESSIONS.index(expression.lower()), VIEWS.index(camera), GAZES.index(gaze.lower())
    except ValueError:
        return None


def _split(folder: Path, path: Path) -> str:
    first = path.relative_to(folder).parts[0]
    return first if first in ("train", "test") else ""


def _classes(folder: Path, paths: Sequence[Path], wish: Wish) -> Plan:
    """A folder per class."""
    within = {path: path.relative_to(folder).parts for path in paths}
    owners = {path: parts[1:] if _split(folder, path) else parts for path, parts in within.items()}
    classes = sorted({parts[0] for parts in owners.values() if len(parts) > 1})
    if len(classes) < 2:
        raise UserError(
            f"{folder}: no pictures named as RaFD's (Rafd090_01_Caucasian_female_angry_frontal.jpg), and no two "
            f"folders of pictures, one per class (`reenax prepare --help`)"
        )
    stills: dict[str, Still] = {}
    skipped: list[Skipped] = []
    for path, parts in owners.items():
        name = stem_of(folder, path)
        if name in stills:
            skipped.append(Skipped(path, "duplicate", f"is named as {stills[name].path} is"))
        elif len(parts) > 1:
            labels = {"attributes": one_hot(classes.index(parts[0]), len(classes))}
            stills[name] = Still(path, name, name, _split(folder, path), labels)
        else:
            skipped.append(Skipped(path, "unknown name", "lies in no folder of a class"))
    return Plan(list(stills.values()), wish.faces or "dlib", frozenset({"attributes"}), skipped, classes)
