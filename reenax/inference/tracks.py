"""Drivers that are not pictures: action units, head poses, speech and labels, from short texts or from files.

A text names what is asked for, ``AU12=1,AU6=0.5`` or ``yaw=-30..30``; a range A..B runs evenly from A to B. What a text
does not name stays as it is in the source.
"""

import csv
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipelines.media import AUDIO_RATE, read_audio
from data_pipelines.openface import read_action_units
from reenax.core.drives import kind_of, length_of, part_of
from reenax.core.errors import UserError
from reenax.core.reenact import parts
from reenax.core.types import ActionUnitDrive, AudioDrive, Drive, LabelDrive, PoseDrive
from reenax.geometry.head.action_units import ACTION_UNITS, MAXIMUM
from reenax.inference.driving import Part

FPS = 25.0
FRAMES = 25  # of a range, where nothing else is said
SHORTEST, LONGEST = 1e-3, 3600.0  # s from one frame to the next
ANGLES = ("pitch", "yaw", "roll")
TIMES = ("time", "timestamp")

Values = dict[str, tuple[float, float]]
"""What a text asks of every name: where to begin and where to end."""


@dataclasses.dataclass(frozen=True)
class Track:
    """A driver without pictures.

    Attributes:
        drive: all of it.
        times: of its frames, in seconds.
        fps: their number per second, on average.
        sound: a file whose sound goes with it.
    """

    drive: Drive
    times: tuple[float, ...]
    fps: float = FPS
    sound: Path | None = None

    @property
    def kind(self) -> str:
        """A key of `reenax.core.types.DRIVES`."""
        return kind_of(self.drive)

    @property
    def count(self) -> int:
        """Number of frames."""
        return length_of(self.drive)

    def anchor(self, index: int) -> Drive:
        """One row."""
        return part_of(self.drive, index, index + 1)

    def parts(self, size: int) -> Iterator[Part]:
        """All of it in parts of one size."""
        for number, (part, count) in enumerate(parts(self.drive, size)):
            begin = number * size
            yield Part(part, count, self.times[begin : begin + count], None)


def action_unit_track(given: str, frames: int | None, still: bool) -> Track:
    """Expressions from a CSV file of OpenFace, or from a text such as ``AU12=1.0,AU6=0.5``: 0 is absent, 1 maximal.

    Args:
        given: the file or the text.
        frames: how many to make of a text.
        still: whether one picture is wanted. A text without a range then is the expression; in a video it is what the
            source's own expression turns into.

    Raises:
        UserError: neither a file nor such a text.
    """
    if _is_file(given):
        if not Path(given).is_file():
            raise UserError(
                f"--action-units {given}: no such file; give one of OpenFace, or a text such as AU12=1.0,AU6=0.5"
            )
        _no_frames(given, frames)
        times, units = read_action_units(Path(given))
        return _filed(ActionUnitDrive(jnp.asarray(units / MAXIMUM)), times, given, still)
    asked = _read_text(given, "--action-units", ACTION_UNITS, _unit_name, (0.0, 1.0))
    ranged = any(low != high for low, high in asked.values())
    count = _length(given, ranged, frames, still)
    rows = _rows(asked, ACTION_UNITS, count)
    amount = jnp.linspace(0, 1, count) if count > 1 and not ranged else None
    return _even(ActionUnitDrive(jnp.asarray(rows, jnp.float32), amount))


def pose_track(given: str, frames: int | None, still: bool) -> Track:
    """Head poses from a CSV file with columns pitch, yaw, roll (and time, in s), or from a text like ``yaw=-30..30``.

    Angles are in degrees; pitch is up, yaw to the right of the picture, roll clockwise. Of an angle that a file lacks
    the source's own is kept.

    Args:
        given: the file or the text.
        frames: how many to make of a text.
        still: whether one picture is wanted.

    Raises:
        UserError: neither a file nor such a text; a video of one pose.
    """
    if _is_file(given):
        _no_frames(given, frames)
        times, rows = _read_poses(Path(given))
        return _filed(PoseDrive(jnp.asarray(np.deg2rad(rows), jnp.float32)), times, given, still)
    asked = _read_text(given, "--pose", ANGLES, lambda name: name.lower(), (-180.0, 180.0))
    if not still and all(low == high for low, high in asked.values()):
        raise UserError(f"--pose {given} is one pose: give a range such as yaw=-30..30, or --out a name ending in .png")
    count = _length(given, any(low != high for low, high in asked.values()), frames, still)
    return _even(PoseDrive(jnp.asarray(np.deg2rad(_rows(asked, ANGLES, count)), jnp.float32)))


def audio_track(path: Path) -> Track:
    """Speech from the first sound of a file (of a video too), 25 frames per second.

    Raises:
        UserError: no sound, or less than a frame of it.
    """
    sound = read_audio(path)
    if sound is None:
        raise UserError(f"{path}: no sound in it; give --audio a file that has some")
    count = int(sound.size * FPS / AUDIO_RATE)
    if not count:
        raise UserError(f"{path}: its sound is shorter than one frame of {1000 / FPS:g} ms; give --audio a longer one")
    times = np.arange(count) / FPS
    drive = AudioDrive(jnp.asarray(sound, jnp.float32) / 32768, jnp.asarray(times, jnp.float32))
    return Track(drive, tuple(times.tolist()), FPS, path)


def label_track(given: str, names: Sequence[str], method: str) -> Track:
    """One set of labels from a text: the name of a class, or ``Black_Hair=1,Male=0``; other labels are left open.

    The method keeps those as they are in the source, or clears them where what is asked for excludes them.

    Args:
        given: the text.
        names: the method's labels.
        method: its name, for messages.

    Raises:
        UserError: no such label; a value that is neither 0 nor 1.
    """
    known = {name.lower(): name for name in names}
    text = f"{given}=1" if given in names else given
    asked = _read_text(text, "--labels", tuple(names), lambda name: known.get(name.lower(), name), (0.0, 1.0))
    if not set(asked.values()) <= {(0.0, 0.0), (1.0, 1.0)}:
        raise UserError(f"--labels {given}: a label of {method} is 0 or 1, and no range")
    return _even(LabelDrive(jnp.asarray(_rows(asked, tuple(names), 1), jnp.float32)))


def _is_file(given: str) -> bool:
    """Whether a file is meant and not a text; one that is missing is named by whoever reads it."""
    try:
        return Path(given).is_file() or "=" not in given
    except OSError:  # longer than the name of any file
        return False


def _unit_name(name: str) -> str:
    """``au6`` to ``AU06``."""
    found = re.fullmatch(r"(?i)au0*(\d{1,2})", name)
    return f"AU{int(found.group(1)):02d}" if found else name


def _read_text(
    text: str, option: str, names: Sequence[str], named: Callable[[str], str], limits: tuple[float, float]
) -> Values:
    """``NAME=A`` and ``NAME=A..B``, with commas between."""
    asked: Values = {}
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        name = named(name)
        ends = [_number(end) if _PLAIN.fullmatch(end.strip()) else math.nan for end in value.split("..")]
        if name not in names:
            raise UserError(f"{option} {text}: there is no {name or part!r}; there are {', '.join(names)}")
        if not sign or len(ends) > 2 or not all(limits[0] <= end <= limits[1] for end in ends):
            low, high = (f"{end:g}" for end in limits)
            raise UserError(f"{option} {text}: {name} takes a number from {low} to {high}, or a range A..B")
        if name in asked:
            raise UserError(f"{option} {text}: {name} is given twice; leave one out")
        asked[name] = (ends[0], ends[-1])
    return asked


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # beyond all limits


def _rows(asked: Mapping[str, tuple[float, float]], names: Sequence[str], count: int) -> Float[np.ndarray, "t n"]:
    rows = np.full((count, len(names)), np.nan)
    for name, ends in asked.items():
        rows[:, names.index(name)] = np.linspace(*ends, count)
    return rows


def _length(given: str, ranged: bool, frames: int | None, still: bool) -> int:
    if still and ranged:
        raise UserError(f"{given} is a range, a .png holds one picture; give --out a name ending in .mp4")
    if still and frames is not None:
        raise UserError(f"--frames {frames}: a .png holds one picture; give --out a name ending in .mp4")
    if frames is not None and frames < 2:
        raise UserError(f"--frames {frames}: a video of {given} has at least 2; for one picture, name a .png as --out")
    return 1 if still else frames or FRAMES


def _no_frames(given: str, frames: int | None) -> None:
    if frames is not None:
        raise UserError(f"--frames {frames} is for ranges; {given} has frames of its own, leave it out")


def _even(drive: Drive) -> Track:
    return Track(drive, tuple(k / FPS for k in range(length_of(drive))))


_PLAIN = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)  # "1...3" is no range up to .3


def _filed(drive: Drive, times: Float[np.ndarray, " t"] | None, given: str, still: bool) -> Track:
    """The track of a file."""
    count = length_of(drive)
    if still and count > 1:
        raise UserError(f"{given} has {count} frames, a .png holds one; give --out a name ending in .mp4")
    if times is None or count < 2:
        return _even(drive)
    begun = times - times[0]
    gaps = np.diff(times)
    if gaps.min() < SHORTEST or gaps.max() > LONGEST:
        raise UserError(
            f"{given}: frames are {gaps.min():g} to {gaps.max():g} s apart; times are in seconds, from {SHORTEST:g} to "
            f"{LONGEST:g} from one frame to the next"
        )
    return Track(drive, tuple(begun.tolist()), float((count - 1) / begun[-1]))


def _read_poses(path: Path) -> tuple[Float[np.ndarray, " t"] | None, Float[np.ndarray, "t 3"]]:
    """Times in s (None without such a column) and pitch, yaw, roll in degrees (NaN for a missing column)."""
    if not path.is_file():
        raise UserError(f"--pose {path}: no such file; give one, or angles such as yaw=-30..30")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from error
    columns = {str(name).strip().lower(): name for name in (lines[0] if lines else {})}
    present = [name for name in ANGLES if name in columns]
    if not present:
        raise UserError(f"{path}: no rows with columns {', '.join(ANGLES)}, in degrees")
    timed = next((name for name in TIMES if name in columns), None)
    rows = np.full((len(lines), len(ANGLES)), np.nan)
    times = np.zeros(len(lines))
    for k, line in enumerate(lines):
        for name in present:
            rows[k, ANGLES.index(name)] = _number(line[columns[name]] or "")
        times[k] = k if timed is None else _number(line[columns[timed]] or "")
    if (np.abs(rows) > 180).any():
        raise UserError(f"{path}: {np.nanmax(np.abs(rows)):g} is no angle; they are in degrees, from -180 to 180")
    wanted = rows[:, [ANGLES.index(name) for name in present]]
    if not np.isfinite(wanted).all() or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise UserError(f"{path}: every row must have a number for {', '.join(present)}, and times must increase")
    return (None if timed is None else times), rows
