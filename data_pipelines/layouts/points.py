"""Text files of 106 landmarks, as the detector of Face++ gives them, and the square that FReeNet cuts around them.

One line per picture: `name W-H x-y x-y ...`, the size of the picture and 106 points in its pixels, a minus sign between
two numbers; what comes after the points is passed over. Zhang et al., "FReeNet: Multi-Identity Face Reenactment", CVPR
2020.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from data_pipelines.inputs import Skipped
from data_pipelines.layouts.stills import PICTURE_SUFFIXES, Points, lines_of

COUNT = 106
MARGIN = 1.2
"""Half the side of the square over half the longer side of the points' box."""

_PAIR = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


def square_around(points: Float32[np.ndarray, "106 2"]) -> Float64[np.ndarray, "3"]:
    """Centre x, y and half the side of the square that FReeNet cuts around landmarks, in pixels and not rounded."""
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    return np.array([*(low + high) / 2, MARGIN * (high - low).max() / 2])


def find_points(folder: Path) -> tuple[dict[str, Points], list[Skipped]]:
    """Name of a picture (without folders and suffix) -> its landmarks, from all text files of a folder.

    Text files of something else are passed over; lines that are not as they should be are told. Raises UserError when a
    file cannot be read.
    """
    found: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    skipped: list[Skipped] = []
    for path in sorted(folder.rglob("*.txt")):
        for number, line in lines_of(path):
            name, *pairs = line.split()
            if number == 1 and (not pairs or _PAIR.fullmatch(pairs[0]) is None):
                break  # of something else
            matches = [_PAIR.fullmatch(pair) for pair in pairs[: COUNT + 1]]
            if len(matches) != COUNT + 1 or not all(matches):
                skipped.append(Skipped(path, "damaged line", f"line {number}: not a name, W-H and {COUNT} points x-y"))
                continue
            values = np.array([match.groups() for match in matches if match], np.float64)
            stem = name.rsplit("/", 1)[-1]
            if Path(stem).suffix.lower() in PICTURE_SUFFIXES:
                stem = Path(stem).stem
            width, height = (int(value) for value in values[0])
            found.setdefault(stem, {})[width, height] = values[1:].astype(np.float32)
    return dict(found), skipped
