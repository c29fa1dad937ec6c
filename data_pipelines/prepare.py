"""Videos to a dataset of clips: find, cut in parallel, build, report. An interrupted run continues where it was."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from data_pipelines import building, openface, schema
from data_pipelines import faces as face_finding
from data_pipelines.clips import DIGEST_FILE, describe, open_clips
from data_pipelines.cutting import OUTCOME_FILE, Outcome, Settings, outcome_of, read_records
from data_pipelines.inputs import Skipped, Video, find_videos, fingerprint, split_clips, split_identities
from data_pipelines.progress import Progress
from data_pipelines.workers import Task, cut_all
from reenax.core.errors import UserError

MOST_LINES = 100
"""Of skipped inputs that are told one by one."""


@dataclass(frozen=True)
class PrepareReport:
    """What a run did. `splits`: split -> {"clips", "frames", "identities"}, of the whole dataset."""

    out: Path
    splits: Mapping[str, Mapping[str, Any]]
    digest: str
    skipped: Sequence[Skipped]
    unchanged: bool
    """Nothing new among the inputs: the dataset was left as it is."""
    seconds: float

    def text(self) -> str:
        """Some lines for people: what there is, and every skipped input with the reason, counted."""
        lines = [f"{self.out}: {'nothing new, left as it is' if self.unchanged else 'dataset written'}"]
        for split, about in self.splits.items():
            people = about["identities"]
            lines.append(f"  {split}: {about['clips']} clips, {about['frames']} frames, {len(people)} identities")
        if self.skipped:
            counts = Counter(skipped.kind for skipped in self.skipped)
            lines.append(
                f"skipped {len(self.skipped)} inputs: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())
            )
            lines += [f"  {skipped.path}: {skipped.kind}: {skipped.reason}" for skipped in self.skipped[:MOST_LINES]]
            if len(self.skipped) > MOST_LINES:
                lines.append(f"  and {len(self.skipped) - MOST_LINES} more")
        return "\n".join(lines)


class _Plan(NamedTuple):
    """What is to be cut, and what is known already: sources by name as in sources.json."""

    tasks: list[Task]
    known: dict[str, Any]
    contents: dict[str, str]
    skipped: list[Skipped]


def prepare(
    videos: Sequence[Path],
    out: Path,
    *,
    size: int = 256,
    faces: str = "dlib",
    workers: int = 1,
    test_share: float = 0.2,
    split: str = "identity",
    min_frames: int = 16,
    max_frames: int = 128,
    measured: Path | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Cut videos (files, or folders that are walked) into clips of faces and write them as a dataset.

    size: side of the clips' square frames in pixels.
    faces: "dlib" cuts around the face and adds landmarks; "none" takes the middle square of the whole video.
    workers: processes; they change nothing but the time.
    test_share: part of the people (or clips) that go to the test split, at least one when there are two or more.
    split: "identity": nobody is in both splits; "clips": the last clips of every person are tested, for models that
        are trained on the people whom they show.
    min_frames, max_frames: length of a clip; longer shots become several clips of equal length.
    measured: folder of the CSV files that OpenFace wrote, one per video, named as the video (and in folders as it,
        where names repeat); the clips get `action_units`, and what has none is left out.

    The folder `out` may hold an earlier dataset made with the same settings: videos that it lacks are added, and with
    none the dataset is left untouched. Inputs without a usable clip are reported, not raised. Raises UserError for
    wrong arguments, for a folder that holds something else, when nothing usable is found, and when writing fails.
    """
    began = time.monotonic()
    settings = _settings(size, faces, min_frames, max_frames, workers, test_share, split)
    found, skipped = find_videos(videos)
    if measured is not None:
        settings = replace(settings, openface=True)
        found, unmeasured = _with_measurements(found, Path(measured))
        skipped += unmeasured
    if faces == "dlib":
        face_finding.require()
    with building.claimed(Path(out), {**_told(settings), "test_share": test_share, "split": split}) as out:
        building.publish(out)
        plan = _plan(out, found, settings)
        skipped += plan.skipped
        fresh = _cut(out, plan, settings, workers, progress)
        sources = dict(plan.known)
        parts: dict[str, Task] = {}
        for task, outcome in fresh:
            sources[task.video.name] = _source(task.video, plan.contents[task.video.name], outcome)
            parts[task.video.name] = task
        skipped += [
            Skipped(video.path, *sources[video.name]["skipped"])
            for video in found
            if "skipped" in sources.get(video.name, {})
        ]
        unchanged = not fresh and (out / DIGEST_FILE).is_file()
        if unchanged:
            shutil.rmtree(out / building.WORK_FOLDER, ignore_errors=True)  # of a run killed while cleaning up
        else:
            _build(out, sources, parts, settings, _places(sources, test_share, split), skipped)
        about = describe(out)
    return PrepareReport(
        out, about["splits"], about["digest"], tuple(skipped), unchanged, round(time.monotonic() - began, 1)
    )


def _settings(
    size: int, faces: str, min_frames: int, max_frames: int, workers: int, test_share: float, split: str
) -> Settings:
    if not 16 <= size <= 2048:
        raise UserError(f"size {size}: give the side of the frames in pixels, from 16 to 2048")
    if faces not in ("dlib", "none"):
        raise UserError(f"faces {faces!r}: give dlib (cut around the face) or none (the middle of the whole picture)")
    if not 2 <= min_frames <= max_frames:
        raise UserError(f"clips of {min_frames} to {max_frames} frames: give 2 <= min_frames <= max_frames")
    if workers < 1:
        raise UserError(f"workers {workers}: give 1 or more")
    if not 0 <= test_share < 1:
        raise UserError(f"test_share {test_share}: give a share from 0 to below 1")
    if split not in ("identity", "clips"):
        raise UserError(
            f"split {split!r}: give identity (nobody is in both splits) or clips (of every person, the last)"
        )
    return Settings(size=size, faces=faces, min_frames=min_frames, max_frames=max_frames)


def _told(settings: Settings) -> dict[str, Any]:
    """Settings as a dataset notes them; what is not in use is not noted."""
    return {name: value for name, value in asdict(settings).items() if name != "openface" or value}


def _with_measurements(found: Sequence[Video], folder: Path) -> tuple[list[Video], list[Skipped]]:
    """Videos with their files of OpenFace, and those that have none."""
    names = {video.name: Path(video.name).with_suffix("").as_posix() for video in found}
    files = openface.files_of(list(names.values()), openface.measured_files(folder))
    known = [video._replace(measured=files[names[video.name]]) for video in found if names[video.name] in files]
    missing = [
        Skipped(video.path, "unmeasured", f"{folder} has no CSV file of its name, or several videos have that name")
        for video in found
        if names[video.name] not in files
    ]
    return known, missing


def _plan(out: Path, found: Sequence[Video], settings: Settings) -> _Plan:
    known = _known_sources(out / building.SOURCES_FILE)
    owner = {about["content"]: name for name, about in known.items()}
    tasks, contents, skipped = [], {}, []
    for video in found:
        try:
            if not video.path.is_file():
                skipped.append(Skipped(video.path, "unreadable", "not a file"))
                continue
            if not video.path.stat().st_size:
                skipped.append(Skipped(video.path, "empty", "a file of no bytes"))
                continue
            content = fingerprint(video.path)
            if video.measured is not None:
                content += "-" + fingerprint(video.measured)
        except OSError as error:
            skipped.append(Skipped(video.path, "unreadable", error.strerror or type(error).__name__))
            continue
        about = known.get(video.name)
        if about is not None and about["content"] != content:
            raise UserError(
                f"{video.path}: {out} holds another video named {video.name!r}; rename this one or choose another --out"
            )
        if owner.setdefault(content, video.name) != video.name:
            skipped.append(Skipped(video.path, "duplicate", f"has the content of {owner[content]!r}"))
        elif about is None:
            contents[video.name] = content
            key = xxhash.xxh3_128_hexdigest(f"{settings.text()}\n{video.name}\n{video.identity}\n{content}".encode())
            tasks.append(Task(video, out / building.WORK_FOLDER / "clips" / key))
    return _Plan(tasks, known, contents, skipped)


def _known_sources(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text("utf-8"))
        if all(about["content"] for about in known.values()):
            return known
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    raise UserError(f"{path}: damaged; choose another --out, or delete the folder and prepare it again")


def _cut(out: Path, plan: _Plan, settings: Settings, workers: int, progress: bool) -> list[tuple[Task, Outcome]]:
    """Cut what is not yet cut; gives all outcomes, also those of an interrupted run, in the order of the names."""
    done = [(task, outcome_of(task.folder)) for task in plan.tasks if (task.folder / OUTCOME_FILE).is_file()]
    finished = {task.folder for task, _ in done}
    rest = [task for task in plan.tasks if task.folder not in finished]
    # The longest first, so that no worker is left alone with it at the end.
    rest.sort(key=lambda task: task.video.path.stat().st_size, reverse=True)
    sizes = {task.folder: task.video.path.stat().st_size for task in rest}
    if rest:
        with Progress(len(plan.tasks), len(done), sum(sizes.values()), shown=progress) as shown:
            outcomes = cut_all(rest, settings, min(workers, len(rest)))
            try:
                for task, outcome in outcomes:
                    shown.advance(sizes[task.folder], outcome.frames, outcome.clips)
                    done.append((task, outcome))
            except OSError as error:
                raise UserError(
                    f"{out}: cannot be written ({error.strerror}); free space and run the same command to continue"
                ) from error
            finally:
                outcomes.close()
    return sorted(done, key=lambda pair: pair[0].video.name)


def _source(video: Video, content: str, outcome: Outcome) -> dict[str, Any]:
    about: dict[str, Any] = {"identity": video.identity, "content": content}
    if outcome.clips:
        return {**about, "clips": outcome.clips, "frames": outcome.frames, "sound": outcome.sound}
    return {**about, "skipped": [outcome.kind, outcome.reason]}


def _places(sources: Mapping[str, Any], test_share: float, split: str) -> dict[tuple[str, int], str]:
    """(video, number of its clip) -> split, in the order of the records."""
    owners = {
        (name, number): about["identity"]
        for name, about in sorted(sources.items())
        for number in range(about.get("clips", 0))
    }
    if split == "clips":
        return split_clips(owners, test_share)
    people = split_identities(owners.values(), test_share)
    return {clip: people[person] for clip, person in owners.items()}


def _build(
    out: Path,
    sources: Mapping[str, Any],
    parts: Mapping[str, Task],
    settings: Settings,
    places: Mapping[tuple[str, int], str],
    skipped: Sequence[Skipped],
) -> None:
    usable = {name: about for name, about in sources.items() if "clips" in about}
    if not usable:
        first = f"; the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise UserError(f"no usable clip in {len(skipped)} inputs{first}")
    there = _earlier(out) if any(name not in parts for name in usable) else {}

    def records(name: str) -> Iterator[dict[str, Any]]:
        if name in parts:
            yield from read_records(parts[name].folder, parts[name].video)
        else:
            for number in range(usable[name]["clips"]):
                record = there[f"{name}/{number:04d}"]()
                yield {"audio": np.zeros(0, np.int16), **record}

    held = {(name, place) for (name, _), place in places.items()}  # videos with a clip in a split

    def of_split(split: str) -> Iterator[dict[str, Any]]:
        for name in sorted(name for name, place in held if place == split):
            yield from (record for number, record in enumerate(records(name)) if places[name, number] == split)

    fields = set(schema.REQUIRED)
    if settings.faces == "dlib":
        fields.add("landmarks")
    if settings.openface:
        fields.add("action_units")
    if any(about["sound"] for about in usable.values()):
        fields.add("audio")
    building.build(
        out,
        {split: lambda split=split: of_split(split) for split in ("train", "test") if split in places.values()},
        sources,
        settings.size,
        frozenset(fields),
    )


def _earlier(out: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Readers of the records of the dataset that is there, by clip_id."""
    readers = {}
    for split in describe(out)["splits"]:
        clips = open_clips(out, split)
        readers.update({clip_id: lambda clips=clips, at=at: clips[at] for at, clip_id in enumerate(clips.clip_ids)})
    return readers
