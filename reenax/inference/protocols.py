"""What is animated by what, and which pictures the result is compared with.

A synthetic dataset has the split "cross": person A doing what a clip of person B shows, rendered, hence the exact truth
of cross-identity reenactment. Videos of people have no such thing: there only self-reenactment can be measured.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from data_pipelines.clips import describe
from data_pipelines.loader import Clips, decode_clip, open_clips
from reenax.core.errors import UserError

TEST, CROSS = "test", "cross"  # the splits


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        name: how it is asked for.
        title: how tables call it.
        mode: whether motion is taken as it is or relative to the driver's first frame.
        about: source, driver and truth in words.
    """

    name: str
    title: str
    mode: Literal["absolute", "relative"]
    about: str

    @property
    def crosses(self) -> bool:
        """Whether source and driver are different people."""
        return self.name != "self"


PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "self",
            "self",
            "absolute",
            "source: first frame; driving: all frames, absolute; mean over frames, then over clips",
        ),
        Protocol(
            "cross",
            "cross, absolute",
            "absolute",
            "source: first frame of another clip of A; driving: all frames of a clip of B, absolute; "
            "truth: A rendered with B's motion; mean over frames, then over clips",
        ),
        Protocol(
            "cross_relative",
            "cross, relative, aligned start",
            "relative",
            "source: A rendered as B's first frame is; driving: all frames of a clip of B, relative to the first; "
            "truth: A rendered with B's motion; mean over frames, then over clips",
        ),
    )
}
"""By name, in the order of reports."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One source, one driver and the truth.

    Attributes:
        protocol: how it is measured.
        source: the picture to animate, as a batch of one.
        origin: the record whose first frame that is.
        driving: the record whose frames drive.
        truth: the record whose frames are the truth, one for one.
        frames: how many of them are used.
    """

    protocol: Protocol
    source: UInt8[np.ndarray, "1 h w 3"]
    origin: Mapping[str, Any]
    driving: Mapping[str, Any]
    truth: Mapping[str, Any]
    frames: int


def available(clips: Clips) -> tuple[str, ...]:
    """The names of the protocols that a split of a dataset can be measured by."""
    splits = describe(clips.directory)["splits"]
    crosses = clips.split == TEST and splits.get(CROSS, {}).get("clips", 0) > 0
    return tuple(p.name for p in PROTOCOLS.values() if crosses or not p.crosses)


def open_tests(data: Clips | Path) -> Clips:
    """The clips to measure on: those given, or the test split of a dataset folder.

    Raises:
        UserError: no such dataset, or no such split.
    """
    return data if isinstance(data, Clips) else open_clips(data, TEST)


@dataclasses.dataclass(frozen=True)
class Trials:
    """All trials of one protocol on one dataset.

    Attributes:
        protocol: how it is measured.
        clips: sources and drivers.
        cross: the truth where source and driver differ, else None.
        max_frames: use only so many frames of each clip.
        person: use only the clips that show this person; empty for all.
    """

    protocol: Protocol
    clips: Clips
    cross: Clips | None
    max_frames: int | None = None
    person: str = ""

    @classmethod
    def open(cls, name: str, clips: Clips, max_frames: int | None = None, person: str = "") -> "Trials":
        """The trials of the protocol called ``name``.

        Raises:
            UserError: there is no such protocol, or the dataset has no exact truth for it.
        """
        protocol = PROTOCOLS.get(name)
        if protocol is None:
            raise UserError(f"there is no protocol {name!r}; the protocols are: {', '.join(PROTOCOLS)}")
        if not protocol.crosses:
            return cls(protocol, clips, None, max_frames, person)
        if name not in available(clips):
            raise UserError(
                f"{clips.directory}, split {clips.split}: protocol {name!r} needs the split {CROSS!r} beside the split "
                f"{TEST!r}, the exact truth of one person moving like another; `reenax prepare synthetic` makes it"
            )
        cross = open_clips(clips.directory, CROSS, needs=("source_clip", "driving_clip"))
        return cls(protocol, clips, cross, max_frames, person)

    @functools.cached_property
    def _truths(self) -> tuple[Clips, Sequence[int]]:
        """The clips that are the truth, and which of them are meant."""
        clips = self.clips if self.cross is None else self.cross
        rows = [k for k, name in enumerate(clips.clip_identities) if self.person in ("", name)]
        if not rows:
            raise UserError(f"{clips.directory}, split {clips.split}: no clip shows {self.person}")
        return clips, rows

    def __len__(self) -> int:
        return len(self._truths[1])

    def __iter__(self) -> Iterator[Trial]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Trial:
        """Reads one trial.

        Raises:
            UserError: a record is damaged, or names a clip that does not exist.
        """
        clips, rows = self._truths
        truth = clips[rows[index]]
        if self.cross is None:
            return self._trial(truth, truth, truth)
        driving = self._named(truth, "driving_clip")
        # the aligned start: the truth's own first frame shows A in B's first pose
        source = truth if self.protocol.mode == "relative" else self._named(truth, "source_clip")
        return self._trial(source, driving, truth)

    def _trial(self, source: Mapping[str, Any], driving: Mapping[str, Any], truth: Mapping[str, Any]) -> Trial:
        count = min(len(driving["frames"]), len(truth["frames"]))
        count = count if self.max_frames is None else min(count, self.max_frames)
        return Trial(self.protocol, frames_of(source, [0]), source, driving, truth, count)

    def _named(self, record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
        if record[field] not in self.clips.clip_ids:
            raise UserError(
                f"{self.clips.directory}: the clip {record['clip_id']} names {record[field]} as its {field}, which is "
                f"not in the split {self.clips.split!r}; prepare the dataset again"
            )
        return self.clips[self.clips.clip_ids.index(record[field])]


def frames_of(record: Mapping[str, Any], chosen: Sequence[int]) -> UInt8[np.ndarray, "t h w 3"]:
    """Some frames of a record.

    Raises:
        UserError: one of them is damaged.
    """
    try:
        return decode_clip(record, chosen)
    except ValueError as error:
        raise UserError(f"a frame of {record['clip_id']} is damaged ({error}); prepare the dataset again") from error


def spread(count: int, total: int) -> Sequence[int]:
    """``count`` indices spread evenly over ``total`` items, or all when there are fewer."""
    return sorted(set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))
