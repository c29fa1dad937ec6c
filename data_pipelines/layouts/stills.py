"""What the readers of all layouts share: pictures with what is known of them, and looking through folders."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from data_pipelines.inputs import Skipped
from reenax.core.errors import UserError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

MAX_TEXT_BYTES = 2**30

Points = Mapping[tuple[int, int], Float32[np.ndarray, "106 2"]]
"""Width and height of a picture -> 106 landmarks x, y in its pixels; (0, 0) is the centre of the first pixel."""


@dataclass(frozen=True)
class Still:
    """A picture and what the folder tells of it.

    name: unique in the folder: the relative path without the suffix.
    identity: name of the person, of the picture where nobody knows.
    split: "train" or "test" as the folder tells, "" where it does not.
    labels: field of the records -> its row for this picture.
    points: landmarks, for the sizes of the picture that somebody measured them in; None: it has none.
    """

    path: Path
    name: str
    identity: str
    split: str = ""
    labels: Mapping[str, Shaped[np.ndarray, "..."]] = field(default_factory=dict)
    points: Points | None = None


@dataclass(frozen=True)
class Plan:
    """The pictures of a folder.

    crop: how squares are cut: "points" (around the 106 landmarks), "dlib" (around the face found) or "none" (the
        middle of the picture).
    fields: labels that every picture has.
    attributes: names of the attributes that the field of this name has.
    skipped: pictures that cannot be used, with the reasons.
    """

    stills: Sequence[Still]
    crop: str
    fields: frozenset[str]
    skipped: Sequence[Skipped] = ()
    attributes: Sequence[str] = ()


@dataclass(frozen=True)
class Wish:
    """What the user asked of a reader.

    faces: "dlib", "none" or "" (as the layout does it).
    attributes: names of attributes in their order; () for the layout's own.
    test_share: share of the pictures that are tested, for layouts with a rule of their own.
    measured: action units come from elsewhere: a layout need not find any.
    """

    faces: str = ""
    attributes: tuple[str, ...] = ()
    test_share: float = 0.2
    measured: bool = False


def require_file(folder: Path, layout: str, *places: str, content: str) -> Path:
    """The first of some relative paths that is a file or folder. Raises UserError naming what the layout has."""
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise UserError(
        f"{folder / places[0]}: no such file or folder; the layout {layout} has {content} (`reenax prepare --help`)"
    )


def pictures_below(folder: Path, leave_out: str = "") -> Iterator[Path]:
    """Picture files of a folder and its folders, in the order of their names.

    leave_out: what begins the names of folders that are passed over, besides hidden ones.
    """
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not (leave_out and n.startswith(leave_out)))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(where) / name


def bytes_of(path: Path) -> int:
    """Size of a file, -1 where it cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def stem_of(folder: Path, path: Path) -> str:
    """The relative path of a picture without its suffix, as text."""
    return path.relative_to(folder).with_suffix("").as_posix().encode("utf-8", "replace").decode()


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1. Raises UserError."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise UserError(f"{path}: larger than {MAX_TEXT_BYTES >> 20} MiB; is it the right file?")
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def one_hot(place: int, count: int) -> Float32[np.ndarray, " n"]:
    """1 at one place, else 0."""
    return (np.arange(count) == place).astype(np.float32)


def no_faces(wish: Wish, layout: str) -> None:
    """Raises UserError when faces are to be found in pictures that are cut already."""
    if wish.faces == "dlib":
        raise UserError(f"--faces dlib: the pictures of the layout {layout} are cut already; leave --faces out")


def no_attributes(wish: Wish, layout: str) -> None:
    """Raises UserError when attributes are chosen where there is no choice."""
    if wish.attributes:
        raise UserError(f"--attributes: the layout {layout} has none to choose from; leave --attributes out")
