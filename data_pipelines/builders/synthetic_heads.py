"""`reenax prepare synthetic`: talking heads that never lived, with exact labels, and the truth across identities.

Splits: "train"; "test", of other people; and "cross", where a person of the test split does what another one does in a
clip of the test split: pose, expression, gaze and voice of the other, looks, light and background of the person. A
real camera can never take that picture; with it cross-identity reenactment can be measured.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import xxhash

from data_pipelines import building
from data_pipelines.builders.video_folder import VideoFolder
from data_pipelines.clips import DIGEST_FILE, describe
from data_pipelines.inputs import split_identities
from data_pipelines.parts import read_part, write_part
from data_pipelines.progress import Progress
from data_pipelines.synthetic.clips import FIELDS, Settings, Take, clip_record
from data_pipelines.synthetic.people import person
from data_pipelines.workers import die_with_parent
from reenax.core.errors import UserError

FORMAT = 1
"""Raised when the same settings give other clips than before."""

SIZES = (32, 64, 128, 256, 512)
MOST_PEOPLE, MOST_SECONDS, MOST_FPS = 1_000_000, 600.0, 120.0

Rendered = Iterator[Take]


class SyntheticHeads(VideoFolder):
    """Clips of rendered heads; see the module."""


def prepare_synthetic(
    out: Path,
    *,
    identities: int,
    clips: int = 1,
    seconds: float = 4.0,
    size: int = 64,
    fps: float = 25.0,
    seed: int = 0,
    supersampling: int = 2,
    test_share: float = 0.2,
    workers: int = 1,
    beam: Sequence[str] | None = None,
    progress: bool = True,
) -> str:
    """Render clips of made-up people and write them as a dataset; the same arguments give the same contents.

    identities: how many people; with three or more there is a cross split.
    clips: of every person.
    seconds, fps: length and rate of a clip.
    size: side of the square frames in pixels, one of SIZES.
    seed: of everybody and everything.
    supersampling: samples per pixel and direction that colours are averaged over.
    test_share: part of the people that are in the test split, two at least when there are three.
    workers: processes; they change nothing but the time.
    beam: render on Apache Beam instead, with these options, for example ("--runner=DirectRunner",); its workers must
        see the folder `out`.

    An interrupted run continues where it was, given the same arguments. Gives some lines on what was made. Raises
    UserError for wrong arguments, for a folder that holds something else, and when writing fails.
    """
    _check(identities, clips, seconds, size, fps, seed, supersampling, test_share, workers)
    began = time.monotonic()
    settings = Settings(seed, float(seconds), float(fps), size, supersampling)
    asked = {
        "synthetic": FORMAT,
        **asdict(settings),
        "identities": identities,
        "clips": clips,
        "test_share": test_share,
    }
    splits = plan(identities, clips, seed, test_share)
    with building.claimed(Path(out), asked) as out:
        building.publish(out)
        unchanged = (out / DIGEST_FILE).is_file()
        if not unchanged:
            folder = out / building.WORK_FOLDER / "clips"
            folder.mkdir(parents=True, exist_ok=True)
            takes = [take for takes in splits.values() for take in takes]
            _render_all(out, folder, takes, settings, workers, beam, progress)
            building.build(
                out,
                {split: _records(folder, takes) for split, takes in splits.items()},
                {},
                size,
                FIELDS,
                builder=SyntheticHeads,
            )
        shutil.rmtree(out / building.WORK_FOLDER, ignore_errors=True)
        about = describe(out)
    lines = [f"{out}: {'there already, left as it is' if unchanged else 'dataset written'}"]
    for split, there in about["splits"].items():
        lines.append(
            f"  {split}: {there['clips']} clips, {there['frames']} frames, {len(there['identities'])} identities"
        )
    return "\n".join([*lines, f"  digest {about['digest'][:16]}, {time.monotonic() - began:.0f} s"])


def plan(identities: int, clips: int, seed: int, test_share: float) -> dict[str, list[Take]]:
    """Split -> its takes, in the order of the records. Empty splits are left out."""
    names = {index: person(seed, index).name for index in range(identities)}
    places = split_identities(names.values(), _at_least_two(identities, test_share))
    tested = [index for index in names if places[names[index]] == "test"]

    def own(index: int) -> list[Take]:
        ids = [f"{names[index]}/{number:04d}" for number in range(clips)]
        return [Take(index, index, number, id_, id_, id_) for number, id_ in enumerate(ids)]

    splits = {
        "train": [take for index in names if places[names[index]] == "train" for take in own(index)],
        "test": [take for index in tested for take in own(index)],
        "cross": [],
    }
    if len(tested) > 1:
        for source, driver in zip(tested, [*tested[1:], tested[0]], strict=True):
            for number in range(clips):
                take, driving = f"/{number:04d}", f"{names[driver]}/{number:04d}"
                cross = f"{names[source]}<-{driving}"
                splits["cross"].append(Take(source, driver, number, cross, names[source] + take, driving))
    return {split: takes for split, takes in splits.items() if takes}


def _at_least_two(identities: int, test_share: float) -> float:
    """The share of people to test on: two of them where there are three, or nobody could drive another."""
    return max(test_share, 2 / identities) if identities >= 3 and test_share > 0 else test_share


def _check(
    identities: int,
    clips: int,
    seconds: float,
    size: int,
    fps: float,
    seed: int,
    supersampling: int,
    test_share: float,
    workers: int,
) -> None:
    def refuse(name: str, value: Any, fix: str) -> None:
        raise UserError(f"{name} {value}: give {fix}")

    if not 1 <= identities <= MOST_PEOPLE:
        refuse("identities", identities, f"how many people there are, from 1 to {MOST_PEOPLE}")
    if not 1 <= clips <= 10_000:
        refuse("clips", clips, "how many clips there are of everybody, from 1 to 10000")
    if not 1 <= fps <= MOST_FPS:
        refuse("fps", fps, f"frames per second, from 1 to {MOST_FPS:g}")
    if not 2 / fps <= seconds <= MOST_SECONDS:
        refuse("seconds", seconds, f"the length of a clip, two frames ({2 / fps:g}) or more, up to {MOST_SECONDS:g}")
    if size not in SIZES:
        refuse("size", size, f"the side of the frames in pixels: {', '.join(map(str, SIZES))}")
    if not 0 <= seed < 2**32:
        refuse("seed", seed, f"a number from 0 to {2**32 - 1}")
    if supersampling not in (1, 2, 3, 4):
        refuse("supersampling", supersampling, "1 (quick), 2, 3 or 4 samples per pixel and direction")
    if not 0 <= test_share < 1:
        refuse("test_share", test_share, "a share from 0 to below 1")
    if workers < 1:
        refuse("workers", workers, "1 or more")


def _part(folder: Path, take: Take) -> Path:
    return folder / f"{xxhash.xxh3_128_hexdigest(take.clip_id.encode())}.npz"


def _records(folder: Path, takes: Sequence[Take]) -> Callable[[], Iterator[dict[str, Any]]]:
    return lambda: (read_part(_part(folder, take)) for take in takes)


def render_take(take: Take, settings: Settings, folder: Path) -> Take:
    """Render a clip into its place in a folder, for any process that sees it. Raises OSError, UserError."""
    write_part(_part(folder, take), clip_record(take, settings))
    return take


def _render_all(
    out: Path,
    folder: Path,
    takes: Sequence[Take],
    settings: Settings,
    workers: int,
    beam: Sequence[str] | None,
    progress: bool,
) -> None:
    """Render what is not yet there."""
    rest = [take for take in takes if not _part(folder, take).is_file()]
    frames = max(2, round(settings.seconds * settings.fps))
    try:
        if beam is not None:
            _on_beam(rest, settings, folder, beam)
            return
        with Progress(len(takes), len(takes) - len(rest), len(rest), shown=progress, unit="clips") as shown:
            for _ in _rendered(rest, settings, folder, min(workers, len(rest))):
                shown.advance(1, frames, 1)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror}); free space and run the same command to continue"
        ) from error
    except BrokenProcessPool as error:
        raise UserError(f"{out}: a worker was killed (out of memory?); run the same command to continue") from error


def _rendered(takes: Sequence[Take], settings: Settings, folder: Path, workers: int) -> Rendered:
    """Render takes, in worker processes where there is more than one; gives each as it is finished."""
    if workers <= 1:
        for take in takes:
            yield render_take(take, settings, folder)
        return
    # spawned: the parent may run threads, which a fork would break
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    try:
        for future in as_completed([pool.submit(render_take, take, settings, folder) for take in takes]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """A worker's first act."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    die_with_parent()


def _on_beam(takes: Sequence[Take], settings: Settings, folder: Path, options: Sequence[str]) -> None:
    """Render takes on an Apache Beam runner."""
    try:
        import apache_beam as beam  # pyright: ignore[reportMissingImports]
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--beam needs Apache Beam: pip install 'reenax[beam]'") from error
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        _ = pipeline | beam.Create(list(takes)) | beam.Reshuffle() | beam.Map(render_take, settings, folder.absolute())
