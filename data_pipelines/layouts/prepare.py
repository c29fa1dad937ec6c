"""Published folders of pictures to datasets: find, cut in parallel, build, report. An interrupted run continues."""

import json
import shutil
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from data_pipelines import building, openface, schema
from data_pipelines import faces as face_finding
from data_pipelines.clips import DIGEST_FILE, describe
from data_pipelines.inputs import Skipped, split_identities
from data_pipelines.layouts import READERS
from data_pipelines.layouts.squares import FORMAT, Part, Square, make, part_of, squares_of
from data_pipelines.layouts.stills import Plan, Still, Wish, bytes_of
from data_pipelines.prepare import PrepareReport
from data_pipelines.progress import Progress
from reenax.core.errors import UserError
from reenax.core.parents import die_with_parent

PART = 128
"""Pictures that a worker does at a time."""


def prepare_layout(
    folder: Path,
    out: Path,
    layout: str,
    *,
    size: int = 256,
    faces: str = "",
    attributes: Sequence[str] = (),
    measured: Path | None = None,
    workers: int = 1,
    test_share: float = 0.2,
    split: str = "",
    progress: bool = True,
) -> PrepareReport:
    """Write the pictures of a published folder as a dataset.

    layout: one of `READERS`.
    size: side of the records' square frames in pixels.
    faces: "dlib" or "none" where the layout leaves it open how pictures are cut; "" for its own way.
    attributes: names of attributes in their order; () for the layout's own.
    measured: folder of the CSV files that OpenFace wrote, one per picture; they become `action_units`.
    workers: processes; they change nothing but the time.
    test_share: part of the people or pictures that go to the test split, where the layout names none.
    split: "identity": nobody is in both splits; "clips": some pictures of every person are tested; "": as the layout
        tells, by identity where it tells nothing.

    With the same pictures and labels the dataset in `out` is left untouched, with others it is written anew. Pictures
    that cannot be used are reported, not raised. Raises UserError for wrong arguments, for a folder that is not as the
    layout has it, for an `out` that holds something else, when nothing usable is found, and when writing fails.
    """
    began = time.monotonic()
    _check(layout, size, faces, workers, test_share, split)
    wish = Wish(faces, tuple(attributes), test_share, measured is not None)
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds the data set")
    plan = READERS[layout](folder, wish)
    if measured is not None:
        plan = _with_measurements(plan, Path(measured))
    if not plan.stills:
        raise UserError(_nothing(folder, plan.skipped))
    if plan.crop == "dlib":
        face_finding.require()
    plan = replace(plan, stills=_placed(plan.stills, split, test_share))
    asked = {"layout": layout, "size": size, "faces": plan.crop, "test_share": test_share, "split": split or "layout"}
    asked |= {"attributes": ",".join(plan.attributes), "openface": measured is not None, "format": FORMAT}
    with building.claimed(Path(out), asked) as out:
        building.publish(out)
        content = _content(plan)
        source = _known(out, layout)
        unchanged = source.get("content") == content and (out / DIGEST_FILE).is_file()
        if unchanged:
            shutil.rmtree(out / building.WORK_FOLDER, ignore_errors=True)  # of a run killed while cleaning up
            skipped = [Skipped(Path(path), kind, reason) for path, kind, reason in source.get("skipped", [])]
        else:
            skipped = _build(out, layout, plan, size, content, workers, progress)
        about = describe(out)
    return PrepareReport(
        out, about["splits"], about["digest"], tuple(skipped), unchanged, round(time.monotonic() - began, 1)
    )


def _check(layout: str, size: int, faces: str, workers: int, test_share: float, split: str) -> None:
    if layout not in READERS:
        raise UserError(f"layout {layout!r}: give {', '.join(READERS)}, or videos")
    if not 16 <= size <= 2048:
        raise UserError(f"size {size}: give the side of the frames in pixels, from 16 to 2048")
    if faces not in ("", "dlib", "none"):
        raise UserError(f"faces {faces!r}: give dlib (cut around the face) or none (the middle of the picture)")
    if workers < 1:
        raise UserError(f"workers {workers}: give 1 or more")
    if not 0 <= test_share < 1:
        raise UserError(f"test_share {test_share}: give a share from 0 to below 1")
    if split not in ("", "identity", "clips"):
        raise UserError(f"split {split!r}: give identity (nobody is in both splits) or clips (of every person, some)")


def _with_measurements(plan: Plan, folder: Path) -> Plan:
    """The same with action units of OpenFace's files; pictures without are left out."""
    found = openface.files_of([still.name for still in plan.stills], openface.measured_files(folder))
    stills, skipped = [], list(plan.skipped)
    for still in plan.stills:
        if still.name not in found:
            skipped.append(Skipped(still.path, "unlabelled", f"{folder} has no CSV file of its name"))
            continue
        try:
            units = openface.read_action_units(found[still.name])[1]
        except UserError as error:
            skipped.append(Skipped(still.path, "unlabelled", str(error)))
            continue
        if len(units) == 1:
            stills.append(replace(still, labels={**still.labels, "action_units": units[0]}))
        else:
            skipped.append(Skipped(still.path, "unlabelled", f"{found[still.name]} is of {len(units)} pictures"))
    return replace(plan, stills=stills, skipped=skipped, fields=plan.fields | {"action_units"})


def _placed(stills: Sequence[Still], split: str, test_share: float) -> list[Still]:
    """Everybody and everything in a split, in the order of the records."""
    alone = len({still.identity for still in stills}) == len(stills)  # nobody tells who is seen
    if split == "clips" and not alone:
        owners: dict[str, list[str]] = {}
        for still in stills:
            owners.setdefault(still.identity, []).append(still.name)
        places: dict[str, str] = {}
        for names in owners.values():
            places |= split_identities(names, test_share)
        placed = [replace(still, split=places[still.name]) for still in stills]
    else:
        people = split_identities([still.identity for still in stills], test_share)
        placed = [
            still if still.split and not split else replace(still, split=people[still.identity]) for still in stills
        ]
    return sorted(placed, key=lambda still: (still.split, still.identity, still.name))


def _content(plan: Plan) -> str:
    """Digest of what is known before a picture is opened: names, sizes of the files, labels."""
    digest = xxhash.xxh3_128(f"{plan.crop} {sorted(plan.fields)}\n".encode())
    for still in plan.stills:
        told = f"{still.name}\n{still.identity}\n{still.split}\n{bytes_of(still.path)}\n"
        digest.update(told.encode("utf-8", "surrogateescape"))
        for name in sorted(still.labels):
            digest.update(still.labels[name].tobytes())
        for points in (still.points or {}).values():
            digest.update(points.tobytes())
    return digest.hexdigest()


def _known(out: Path, layout: str) -> dict[str, Any]:
    """What an earlier run noted of its inputs; {} without one that can be read."""
    try:
        return json.loads((out / building.SOURCES_FILE).read_text("utf-8"))[layout]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _build(out: Path, layout: str, plan: Plan, size: int, content: str, workers: int, progress: bool) -> list[Skipped]:
    """Cut and write; gives what was left out."""
    folder = out / building.WORK_FOLDER / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    stills = plan.stills
    parts = [part_of(stills[at : at + PART], plan.crop, size, folder) for at in range(0, len(stills), PART)]
    _make_all(out, parts, workers, progress)
    apart = len({(still.split, still.identity) for still in stills}) == len({still.identity for still in stills})
    skipped, kept = _usable(parts, whole="acted" in plan.fields and apart)
    skipped = [*plan.skipped, *skipped]
    if not kept:
        raise UserError(_nothing(out, skipped))
    fields = plan.fields | {"points": {"landmarks_106"}, "dlib": {"landmarks"}}.get(plan.crop, set())
    there = {(still.split, still.identity) for still in stills if still.name in kept}
    splits = [place for place in ("train", "test") if any(place == of for of, _ in there)]

    def records(place: str) -> Iterator[dict[str, Any]]:
        usable = (
            (still, square)
            for part in parts
            if any(still.split == place for still in part.stills)
            for still, square in squares_of(part)
            if still.split == place and still.name in kept and isinstance(square, Square)
        )
        for identity, group in groupby(usable, key=lambda pair: pair[0].identity):
            number = int(place == "test" and ("train", identity) in there)
            yield _record(identity, number, list(group), fields)

    source = {"content": content, "skipped": [[str(one.path), one.kind, one.reason] for one in skipped]}
    building.build(
        out,
        {place: lambda place=place: records(place) for place in splits},
        {layout: source},
        size,
        schema.REQUIRED | fields,
    )
    return skipped


def _record(
    identity: str, number: int, pictures: Sequence[tuple[Still, Square]], fields: Collection[str]
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "clip_id": f"{identity}/{number:04d}",
        "identity": identity,
        "frames": [square.jpeg for _, square in pictures],
        "fps": np.float32(1),
        "timestamps": np.arange(len(pictures), dtype=np.float64),
        "bbox": pictures[0][1].box,
    }
    for name in fields:
        rows = [square.labels[name] if name in square.labels else still.labels[name] for still, square in pictures]
        record[name] = np.stack(rows).astype(schema.FIELDS[name].dtype)
    return record


def _usable(parts: Sequence[Part], whole: bool) -> tuple[list[Skipped], set[str]]:
    """What gave no square, and the names of the pictures that are kept.

    whole: of people whose neutral, frontal, straight picture is missing nothing is kept, and of others no picture
        without a neutral one of the same view and gaze (`data_pipelines.acted` needs both).
    """
    skipped: list[Skipped] = []
    kept: dict[str, list[Still]] = {}
    for part in parts:
        for still, square in squares_of(part):
            if isinstance(square, Square):
                kept.setdefault(still.identity, []).append(still)
            else:
                skipped.append(Skipped(still.path, *square))
    for identity, stills in sorted(kept.items()) if whole else ():
        neutral = {(view, gaze) for expression, view, gaze in (_acted(still) for still in stills) if expression == 0}
        reason = f"no usable picture shows {identity} neutral, frontal and straight"
        if (0, 0) in neutral:
            reason = f"no usable picture shows {identity} neutral with its view and gaze"
        else:
            neutral = set()
        skipped += [Skipped(s.path, "incomplete", reason) for s in stills if _acted(s)[1:] not in neutral]
        kept[identity] = [still for still in stills if _acted(still)[1:] in neutral]
    return skipped, {still.name for stills in kept.values() for still in stills}


def _acted(still: Still) -> tuple[int, int, int]:
    """Numbers of the expression, the view and the gaze."""
    expression, view, gaze = still.labels["acted"].tolist()
    return expression, view, gaze


def _make_all(out: Path, parts: Sequence[Part], workers: int, progress: bool) -> None:
    """Cut what is not yet cut."""
    rest = [part for part in parts if not part.file.is_file()]
    counts = [sum(len(part.stills) for part in group) for group in (parts, rest)]
    try:
        with Progress(counts[0], counts[0] - counts[1], counts[1], shown=progress, unit="pictures") as shown:
            for part in _made(rest, min(workers, len(rest))):
                for _ in part.stills:
                    shown.advance(1, 1, 0)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror}); free space and run the same command to continue"
        ) from error
    except BrokenProcessPool as error:
        raise UserError(f"{out}: a worker was killed (out of memory?); run the same command to continue") from error


def _made(parts: Sequence[Part], workers: int) -> Iterator[Part]:
    """Cut parts, in worker processes where there is more than one; gives each as it is finished."""
    if workers <= 1:
        for part in parts:
            yield make(part)
        return
    # spawned: the parent may run threads, which a fork would break
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    try:
        for future in as_completed([pool.submit(make, part) for part in parts]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """A worker's first act."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    die_with_parent()


def _nothing(where: Path, skipped: Sequence[Skipped]) -> str:
    first = f"; the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
    return f"{where}: no usable picture among {len(skipped)}{first}"
