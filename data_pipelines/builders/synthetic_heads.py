"""`reenax prepare synthetic`: talking heads that never lived, with exact labels, and the truth across identities.

Splits: "train"; "test", of other people or of other clips of all people; and "cross", where a person of the test split
does what another one does in a clip of the test split: pose, expression, gaze and voice of the other, looks, light and
background of the person. A real camera can never take that picture; with it cross-identity reenactment can be
measured.

Instead of talking, people can act: all the same numbered expressions (`data_pipelines.synthetic.acting`).
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
from data_pipelines.inputs import split_clips, split_identities
from data_pipelines.parts import read_part, write_part
from data_pipelines.progress import Progress
from data_pipelines.synthetic.acting import MOST_EXPRESSIONS, MOST_VIEWS
from data_pipelines.synthetic.clips import ACTED_FIELDS, TALKING_FIELDS, Settings, Take, clip_record
from data_pipelines.synthetic.people import person
from reenax.core.errors import UserError
from reenax.core.parents import die_with_parent

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
    split: str = "identity",
    acted: int = 0,
    views: int = 1,
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
    test_share: part of the people (or clips) that are in the test split, two people at least when there are three.
    split: "identity": other people are tested on than trained on. "clips": the last clips of everybody are tested, and
        in the cross split everybody does those of everybody else.
    acted: if not 0, nobody talks: everybody's one clip is of this many expressions, the same for all, neutral first.
    views: yaws of the head under which all are acted, 15 degrees apart, the frontal one first.
    workers: processes; they change nothing but the time.
    beam: render on Apache Beam instead, with these options, for example ("--runner=DirectRunner",); its workers must
        see the folder `out`.

    An interrupted run continues where it was, given the same arguments. Gives some lines on what was made. Raises
    UserError for wrong arguments, for a folder that holds something else, and when writing fails.
    """
    settings = Settings(seed, float(seconds), float(fps), size, supersampling, acted, views)
    _check(settings, identities, clips, test_share, split, workers)
    began = time.monotonic()
    asked = {
        "synthetic": FORMAT,
        **{key: value for key, value in asdict(settings).items() if acted or key not in ("acted", "views")},
        "identities": identities,
        "clips": clips,
        "test_share": test_share,
        **({} if split == "identity" else {"split": split}),
    }
    splits = plan(identities, clips, seed, test_share, split)
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
                ACTED_FIELDS if acted else TALKING_FIELDS,
                builder=SyntheticHeads,
            )
        shutil.rmtree(out / building.WORK_FOLDER, ignore_errors=True)
        about = describe(out)
    lines = [f"{out}: {'there already, left as it is' if unchanged else 'dataset written'}"]
    for name, there in about["splits"].items():
        lines.append(
            f"  {name}: {there['clips']} clips, {there['frames']} frames, {len(there['identities'])} identities"
        )
    return "\n".join([*lines, f"  digest {about['digest'][:16]}, {time.monotonic() - began:.0f} s"])


def plan(identities: int, clips: int, seed: int, test_share: float, split: str = "identity") -> dict[str, list[Take]]:
    """Split -> its takes, in the order of the records. Empty splits are left out."""
    names = {index: person(seed, index).name for index in range(identities)}
    own: dict[str, Take] = {}
    for index, name in names.items():
        for number in range(clips):
            id_ = f"{name}/{number:04d}"
            own[id_] = Take(index, index, number, id_, id_, id_)
    if split == "clips":
        places = split_clips({id_: names[take.looks] for id_, take in own.items()}, test_share)
    else:
        of_person = split_identities(names.values(), _at_least_two(identities, test_share))
        places = {id_: of_person[names[take.looks]] for id_, take in own.items()}
    splits = {where: [take for id_, take in own.items() if places[id_] == where] for where in ("train", "test")}
    tested = sorted({take.looks for take in splits["test"]})
    if split == "clips":
        pairs = [(source, driver) for source in tested for driver in tested if source != driver]
    else:
        pairs = list(zip(tested, [*tested[1:], *tested[:1]], strict=True)) if len(tested) > 1 else []
    splits["cross"] = [
        Take(source, driver, take.number, f"{names[source]}<-{take.clip_id}", by_source, take.clip_id)
        for source, driver in pairs
        for take in splits["test"]
        if take.looks == driver
        for by_source in [f"{names[source]}/{take.number:04d}"]
    ]
    return {name: takes for name, takes in splits.items() if takes}


def _at_least_two(identities: int, test_share: float) -> float:
    """The share of people to test on: two of them where there are three, or nobody could drive another."""
    return max(test_share, 2 / identities) if identities >= 3 and test_share > 0 else test_share


def _check(settings: Settings, identities: int, clips: int, test_share: float, split: str, workers: int) -> None:
    def refuse(name: str, value: Any, fix: str) -> None:
        raise UserError(f"{name} {value}: give {fix}")

    if not 1 <= identities <= MOST_PEOPLE:
        refuse("identities", identities, f"how many people there are, from 1 to {MOST_PEOPLE}")
    if not 1 <= clips <= 10_000:
        refuse("clips", clips, "how many clips there are of everybody, from 1 to 10000")
    fps, seconds = settings.fps, settings.seconds
    if not 1 <= fps <= MOST_FPS:
        refuse("fps", fps, f"frames per second, from 1 to {MOST_FPS:g}")
    if not 2 / fps <= seconds <= MOST_SECONDS:
        refuse("seconds", seconds, f"the length of a clip, two frames ({2 / fps:g}) or more, up to {MOST_SECONDS:g}")
    if settings.size not in SIZES:
        refuse("size", settings.size, f"the side of the frames in pixels: {', '.join(map(str, SIZES))}")
    if not 0 <= settings.seed < 2**32:
        refuse("seed", settings.seed, f"a number from 0 to {2**32 - 1}")
    if settings.supersampling not in (1, 2, 3, 4):
        refuse("supersampling", settings.supersampling, "1 (quick), 2, 3 or 4 samples per pixel and direction")
    if settings.acted and not 2 <= settings.acted <= MOST_EXPRESSIONS:
        refuse("acted", settings.acted, f"how many expressions everybody acts, from 2 to {MOST_EXPRESSIONS}, or 0")
    if not 1 <= settings.views <= MOST_VIEWS or (settings.views > 1 and not settings.acted):
        refuse("views", settings.views, f"1 to {MOST_VIEWS} views of what is acted, or 1 where people talk")
    if settings.acted and clips != 1:
        refuse("clips", clips, "1: what is acted is one clip of everybody")
    if split not in ("identity", "clips"):
        refuse("split", split, "identity (test on other people) or clips (on other clips of the same people)")
    if split == "clips" and clips < 2:
        refuse("clips", clips, "2 or more with split clips: the last ones of everybody are tested on")
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
    try:
        if beam is not None:
            _on_beam(rest, settings, folder, beam)
            return
        with Progress(len(takes), len(takes) - len(rest), len(rest), shown=progress, unit="clips") as shown:
            for _ in _rendered(rest, settings, folder, min(workers, len(rest))):
                shown.advance(1, settings.frames, 1)
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
