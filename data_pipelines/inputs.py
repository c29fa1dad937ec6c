"""Which videos are prepared, whose they are, and in which split that person is.

The identity of a video is, in this order:
1. the part before the first "#" of the file name: `id10280#video#start#end.mp4` is of id10280;
2. for a file below a given folder, the name of the first folder on the way: of `VIDEOS/anna/2024/a.mp4`, found in
   VIDEOS, it is anna;
3. for a file given itself, or lying directly in a given folder, its name without the suffix: a person of its own.
"""

import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import xxhash

from reenax.core.errors import UserError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".wmv", ".asf"),
    *(".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".vob", ".y4m", ".gif", ".dv", ".divx"),
)
"""What is taken for a video within a folder; a file that is given itself is always tried."""

SAMPLED_BYTES = 1 << 20


Clip = TypeVar("Clip", bound=Hashable)


class Video(NamedTuple):
    """A file to prepare. `name` is unique in the dataset and starts the names of the clips."""

    path: Path
    name: str
    identity: str
    measured: Path | None = None
    """OpenFace's file of it, whose action units become a field of the clips."""


class Skipped(NamedTuple):
    """An input of which no clip came; kind is a word for counting: "unreadable", "empty", "faceless", "too short"..."""

    path: Path
    kind: str
    reason: str


def find_videos(inputs: Sequence[Path]) -> tuple[list[Video], list[Skipped]]:
    """Videos among files and folders, sorted by name. Raises UserError when an input does not exist."""
    videos: dict[str, Video] = {}
    skipped: list[Skipped] = []
    seen: set[Path] = set()
    for given in inputs:
        given = Path(given)
        if not os.path.exists(given):  # unlike Path.exists, False for whatever cannot be looked at
            raise UserError(f"{given}: no such file or folder; name videos or folders of videos")
        for path in _walk(given) if given.is_dir() else [given]:
            real = path.resolve()
            if real in seen:
                continue
            seen.add(real)
            video = _named(path, given)
            if video.name in videos:
                other = videos[video.name].path
                skipped.append(Skipped(path, "duplicate", f"is named {video.name!r} as {other} is; rename one"))
            else:
                videos[video.name] = video
    return sorted(videos.values(), key=lambda video: video.name), skipped


def fingerprint(path: Path) -> str:
    """Names the content of a file: its size and its first, middle and last MiB. Raises OSError."""
    size = path.stat().st_size
    digest = xxhash.xxh3_128(f"{size}\n".encode())
    with path.open("rb") as file:
        for start in sorted({0, max(0, (size - SAMPLED_BYTES) // 2), max(0, size - SAMPLED_BYTES)}):
            file.seek(start)
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


def split_identities(identities: Collection[str], test_share: float) -> dict[str, str]:
    """Identity -> "train" or "test". The same for any order; two identities or more give at least one of each.

    A person's place in the draw depends on nothing but the name, so that it rarely changes as others are added.
    """
    order = sorted(set(identities), key=lambda name: xxhash.xxh3_64_intdigest(f"split {name}".encode()))
    tested = 0
    if len(order) >= 2 and test_share > 0:
        tested = min(max(1, round(test_share * len(order))), len(order) - 1)
    return {name: "test" if place < tested else "train" for place, name in enumerate(order)}


def split_clips(owners: Mapping[Clip, str], test_share: float) -> dict[Clip, str]:
    """Clip -> "train" or "test": the last clips of every person (in the order given) are tested, never all of them."""
    clips: dict[str, list[Clip]] = {}
    for clip, person in owners.items():
        clips.setdefault(person, []).append(clip)
    tested: set[Clip] = set()
    for of_person in clips.values():
        if len(of_person) >= 2 and test_share > 0:
            tested.update(of_person[-min(max(1, round(test_share * len(of_person))), len(of_person) - 1) :])
    return {clip: "test" if clip in tested else "train" for clip in owners}


def _walk(folder: Path) -> list[Path]:
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(where) / name
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
        ]
    return found


def _named(path: Path, given: Path) -> Video:
    within = path.relative_to(given) if path != given else Path(path.name)
    if "#" in path.name and not path.name.startswith("#"):
        identity = path.name.split("#", 1)[0]
    else:
        identity = within.parts[0] if len(within.parts) > 1 else path.stem
    return Video(path, _text(within.as_posix()), _text(identity))


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()  # file names can hold bytes that are no text
