"""Action units that OpenFace measured: the CSV files of its tools, read and laid on the frames of a video.

`FeatureExtraction` writes a row per frame of a video ("frame, face_id, timestamp, confidence, success, ..., AU01_r"),
`FaceLandmarkImg` a row per face of a picture ("face, confidence, ..., AU01_r"). Columns are found by their names, in
any order; columns of other measurements are passed over. Where several faces share a frame, the one of the highest
confidence counts. Baltrušaitis, Zadeh, Lim, Morency, "OpenFace 2.0: Facial Behavior Analysis Toolkit", FG 2018.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from reenax.core.errors import UserError
from reenax.geometry.head.action_units import ACTION_UNITS, MAXIMUM

MAX_BYTES = 2**30
MAX_ROWS = 1_000_000

MAX_GAP = 5
"""Frames in a row without a face that are filled in from their neighbours; clips with longer gaps are left out."""


class Track(NamedTuple):
    """What a file says: one row per frame, in their order."""

    numbers: Int64[np.ndarray, " t"] | None
    """Of the frames, the first of the video is 0; None where the file has none."""
    times: Float64[np.ndarray, " t"] | None
    """Seconds from the start of the video, strictly increasing; None where the file has none."""
    intensities: Float32[np.ndarray, "t 17"]
    """0 to 5, in the order of ACTION_UNITS; what a row without a face says means nothing."""
    seen: Bool[np.ndarray, " t"]
    """Whether a face was found."""


class _Row(NamedTuple):
    """A face of a line: the frame that it belongs to, and its measurements."""

    key: float
    time: float
    rank: tuple[bool, float]
    intensities: list[float]


def read_action_units(path: Path) -> tuple[Float64[np.ndarray, " t"] | None, Float32[np.ndarray, "t 17"]]:
    """Times in seconds (None when the file has none) and intensities 0..5 in the order of ACTION_UNITS.

    Frames in which no face was found get what lies between their neighbours; a picture of several faces is one frame.

    Raises:
        UserError: the file is none of OpenFace's, lacks a unit, or has no face in any frame.
    """
    track = read_track(path)
    return track.times, filled(track.intensities, track.seen)


def read_track(path: Path) -> Track:
    """A file as it is. Raises UserError when it is none of OpenFace's, lacks a unit or shows no face at all."""
    path = Path(path)
    rows: dict[float, _Row] = {}
    kind = ""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MiB; cut the video and run OpenFace on the parts")
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            columns = {name.strip().lower(): at for at, name in enumerate(next(lines, []))}
            kind = _check(path, columns)
            for row in _rows(path, lines, columns, kind):
                if row.key not in rows or row.rank > rows[row.key].rank:
                    rows[row.key] = row
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); give a CSV file of OpenFace") from error
    ordered = [rows[key] for key in sorted(rows)]
    seen = np.array([row.rank[0] for row in ordered], bool)
    if not seen.any():
        raise UserError(f"{path}: OpenFace found no face in its {len(ordered)} frames")
    intensities = np.array([row.intensities for row in ordered], np.float32)
    times = np.array([row.time for row in ordered], np.float64)
    if "timestamp" not in columns or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        times = None  # of picture sequences OpenFace tells no times: zeros
    numbers = None
    if kind == "frame":
        numbers = np.array([row.key for row in ordered], np.int64)
        numbers = numbers - min(1, int(numbers[0]))  # counted from 1, by some versions from 0
    return Track(numbers, times, np.clip(np.nan_to_num(intensities), 0, MAXIMUM), seen)


def on_frames(
    track: Track, times: Float64[np.ndarray, " t"]
) -> tuple[Float32[np.ndarray, "t 17"], Bool[np.ndarray, " t"]]:
    """A track laid on all frames of its video: intensities, and whether they were measured.

    By the numbers of the frames when the file has as many as the video (one more or less), else by time, within 0.6 of
    a frame's length, else by the numbers again; a file that has neither must have a row per frame.

    times: of the video's frames in seconds.
    """
    count = len(times)
    numbers = track.numbers
    if numbers is None and track.times is None:
        numbers = np.arange(len(track.seen))
    intensities, seen = np.zeros((count, len(ACTION_UNITS)), np.float32), np.zeros(count, bool)
    if numbers is not None and (track.times is None or abs(int(numbers[-1]) + 1 - count) <= 1):
        held = (numbers >= 0) & (numbers < count)
        intensities[numbers[held]], seen[numbers[held]] = track.intensities[held], track.seen[held]
        return intensities, seen
    assert track.times is not None
    step = float(np.median(np.diff(times))) if count > 1 else 1.0
    right = np.searchsorted(track.times, times).clip(0, len(track.times) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(np.abs(track.times[left] - times) <= np.abs(track.times[right] - times), left, right)
    close = np.abs(track.times[nearest] - times) <= 0.6 * step
    return track.intensities[nearest], track.seen[nearest] & close


def longest_gap(seen: Bool[np.ndarray, " t"]) -> int:
    """The largest number of frames in a row without a measurement."""
    edges = np.flatnonzero(np.concatenate([[True], seen, [True]]))
    return int(np.diff(edges).max() - 1)


def filled(intensities: Float32[np.ndarray, "t 17"], seen: Bool[np.ndarray, " t"]) -> Float32[np.ndarray, "t 17"]:
    """The same with what lies between the neighbours in place of rows that were not seen; the ends are held."""
    at, known = np.arange(len(seen)), np.flatnonzero(seen)
    return np.stack([np.interp(at, known, column[known]) for column in intensities.T], axis=1).astype(np.float32)


def measured_files(folder: Path) -> dict[str, Path]:
    """The CSV files of a folder and its folders: relative path without the suffix -> file. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of the CSV files that OpenFace wrote")
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.csv"))}
    if not found:
        raise UserError(f"{folder}: no CSV file in it; run OpenFace's FeatureExtraction with -aus -out_dir {folder}")
    return found


def files_of(names: Sequence[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """Name (relative path without the suffix) -> its file of `measured_files`, for the names that have one.

    A file of the same relative path, else one of that file name directly in the folder when no other name ends alike;
    none where two names are the same.
    """
    ends = [name.rsplit("/", 1)[-1] for name in names]
    alone = {word for words in (ends, names) for word, count in Counter(words).items() if count == 1}
    found = {}
    for name, end in zip(names, ends, strict=True):
        if name in files and name in alone:
            found[name] = files[name]
        elif end in files and end in alone:
            found[name] = files[end]
    return found


def _check(path: Path, columns: Mapping[str, int]) -> str:
    """What tells the rows of one frame: "frame", "timestamp", "face" (all are of one picture) or "" (nothing)."""
    if not columns:
        raise UserError(f"{path}: the file is empty; give a CSV file of OpenFace")
    missing = [f"{unit}_r" for unit in ACTION_UNITS if f"{unit}_r".lower() not in columns]
    if len(missing) == len(ACTION_UNITS):
        raise UserError(f"{path}: no column of action units (AU01_r); run OpenFace's FeatureExtraction with -aus")
    if missing:
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; all {len(ACTION_UNITS)} units are needed")
    return next((name for name in ("frame", "timestamp", "face") if name in columns), "")


def _rows(path: Path, lines: Iterator[list[str]], columns: Mapping[str, int], kind: str) -> Iterator[_Row]:
    units = [columns[f"{unit}_r".lower()] for unit in ACTION_UNITS]
    names = {at: name for name, at in columns.items()}
    last = max(*units, *(columns.get(name, 0) for name in ("frame", "timestamp", "success", "confidence")))

    def value(line: list[str], at: int, number: int) -> float:
        try:
            return float(line[at])
        except ValueError:
            if "nan" in line[at].lower():  # Windows writes -nan(ind)
                return math.nan
            raise UserError(f"{path}: line {number}: {names[at]} is {line[at]!r:.40}, no number") from None

    def named(line: list[str], name: str, number: int, default: float) -> float:
        return value(line, columns[name], number) if name in columns else default

    for count, line in enumerate(lines):
        number = count + 2
        if not any(part.strip() for part in line):
            continue
        if count >= MAX_ROWS:
            raise UserError(f"{path}: more than {MAX_ROWS:,} rows; cut the video and run OpenFace on the parts")
        if len(line) <= last:
            raise UserError(f"{path}: line {number} has {len(line)} columns of {len(columns)}; run OpenFace again")
        intensities = [value(line, at, number) for at in units]
        confidence = named(line, "confidence", number, 1.0)
        found = named(line, "success", number, 1.0) > 0 and all(map(math.isfinite, intensities))
        time = named(line, "timestamp", number, math.nan)
        key = {"frame": named(line, "frame", number, 0.0), "timestamp": time, "face": 0.0}.get(kind, float(count))
        if not math.isfinite(key) or abs(key) > 2**53:
            raise UserError(f"{path}: line {number}: {kind} is {key:g}, no place in a video")
        yield _Row(key, time, (found, confidence if math.isfinite(confidence) else -1.0), intensities)
