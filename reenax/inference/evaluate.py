"""`reenax evaluate`: reenactment on held-out clips, measured against exact truth and against doing nothing."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.loader import Clips
from reenax import __version__
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.types import VideoDrive
from reenax.inference.labelled import FIELDS, background_of, drive_of, reenactor_of
from reenax.inference.options import read_options
from reenax.inference.progress import tracked
from reenax.inference.protocols import PROTOCOLS, Trial, Trials, available, frames_of, open_tests
from reenax.inference.readings import Reader, ReadScores, clip_scores, labels_of, reference_of, score_readings
from reenax.inference.report import Scores, finite, legend, score_table
from reenax.inference.scores import METRICS, box_scores, boxes, finite_mean, mean_scores, picture_scores, unchanged
from reenax.train.runs import Trained

WHOLE = ("l1", "psnr", "ssim")
"""The metrics of the table of clips."""

ROWS = {
    "method": "",
    "copy": "copy the source",
    "copy_driving": "copy the driving frame",
    "truth": "the true frames",
}
"""What is compared: the method, two ways of doing nothing, and what the estimators read from the truth itself."""

PairMetric = Callable[[Float[Array, "b h w 3"], Float[Array, "b h w 3"]], Float[Array, " b"]]
"""Made and true pictures in [-1, 1] to one value per picture."""


@dataclasses.dataclass(frozen=True)
class ClipScore:
    """The mean over a clip's frames.

    Attributes:
        clip_id, identity: of the clip that is the truth.
        frames: how many were measured.
        method: of the method.
        copy: of copying the source frame.
        copy_driving: of copying the driving frame, where that is not the truth.
        truth: what estimators read from the true frames: their own error.
        protocol: a name of `reenax.inference.protocols.PROTOCOLS`.
    """

    clip_id: str
    identity: str
    frames: int
    method: Scores
    copy: Scores
    copy_driving: Scores | None = None
    truth: Scores | None = None
    protocol: str = "self"

    def rows(self) -> dict[str, Scores]:
        """What there is of `ROWS`."""
        return {row: scores for row in ROWS if (scores := getattr(self, row)) is not None}

    def to_json(self) -> dict[str, Any]:
        """In a form for JSON."""
        about = {"protocol": self.protocol, "clip_id": self.clip_id, "identity": self.identity, "frames": self.frames}
        return {**about, **{row: finite(scores) for row, scores in self.rows().items()}}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of all clips, and what they were measured on."""

    clips: tuple[ClipScore, ...]
    about: Mapping[str, Any]

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the protocols, in the order of reports."""
        return tuple(p for p in PROTOCOLS if any(c.protocol == p for c in self.clips))

    def of(self, protocol: str) -> tuple[ClipScore, ...]:
        """The clips of one protocol."""
        return tuple(c for c in self.clips if c.protocol == protocol)

    def means(self, protocol: str) -> dict[str, Scores]:
        """For every row of `ROWS` that there is the mean over clips, every clip weighing the same."""
        clips = self.of(protocol)
        return {row: mean_scores([c.rows()[row] for c in clips]) for row in clips[0].rows()}

    def overall(self) -> tuple[Scores, Scores]:
        """The means of the first protocol: of the method, and of copying the source."""
        means = self.means(self.protocols[0])
        return means["method"], means["copy"]

    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics that were measured."""
        measured = set(chain.from_iterable(scores for c in self.clips for scores in c.rows().values()))
        return tuple(m for m in METRICS if m in measured)

    def table(self) -> str:
        """One line per clip of the first protocol and one for all, copying the source in brackets; then all protocols
        with all metrics, where there is more than that."""
        clips = self.of(self.protocols[0])
        width = max(len("all clips"), *(len(c.clip_id) for c in clips))
        head = "".join(f"{METRICS[m].title:>9} {'(copy)':>8}" for m in WHOLE)
        rows = [(c.clip_id, c.frames, c.method, c.copy) for c in clips]
        rows.append(("all clips", sum(c.frames for c in clips), *self.overall()))
        lines = [f"{'clip':<{width}} {'frames':>7}{head}"]
        for name, frames, method, copy in rows:
            cells = "".join(f"{method[m]:9.4f} {copy[m]:8.4f}" for m in WHOLE)
            lines.append(f"{name:<{width}} {frames:7d}{cells}")
        method, copy = self.overall()
        change = 100 * (method["l1"] / max(copy["l1"], 1e-9) - 1)
        lines.append(f"L1 is {abs(change):.1f} % {'above' if change > 0 else 'below'} copying the source")
        lines.append("L1 in [0, 1], PSNR in dB; mean over the frames of a clip, then over clips")
        if len(self.protocols) > 1 or len(self.metrics()) > len(WHOLE):
            lines += ["", self.summary()]
        return "\n".join(lines)

    def summary(self) -> str:
        """Every protocol with its baselines and all metrics, and what they are."""
        rows = [(title, scores) for _, title, scores in self.titled_means()]
        return f"{score_table('', rows).text()}\n{legend(self.metrics())}"

    def titled_means(self) -> list[tuple[str, str, Scores]]:
        """(protocol, title of the row, means) of all protocols."""
        return [
            (p, f"{PROTOCOLS[p].title}: {ROWS[row] or self._named()}", scores)
            for p in self.protocols
            for row, scores in self.means(p).items()
        ]

    def _named(self) -> str:
        """The method and the options that are not its defaults."""
        return " ".join([self.about["method"], *(f"{n}={v}" for n, v in self.about.get("options", {}).items())])

    def to_json(self) -> dict[str, Any]:
        """All numbers, in a form for JSON; "overall" is that of the first protocol."""
        protocols = {p: {row: finite(scores) for row, scores in self.means(p).items()} for p in self.protocols}
        first = protocols[self.protocols[0]]
        return {
            **self.about,
            "overall": {row: first[row] for row in ("method", "copy")},
            "protocols": {p: {"about": PROTOCOLS[p].about, **rows} for p, rows in protocols.items()},
            "clips": [c.to_json() for c in self.clips],
        }


def evaluate(
    trained: Trained,
    data: Clips | Path,
    *,
    driver: str | None = None,
    protocols: Sequence[str] | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    estimators: Trained | None = None,
    others: Mapping[str, PairMetric] | None = None,
    max_frames: int | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> Evaluation:
    """Measures reenactment, and beside it copying the source (and, across identities, the driving frame).

    L1, PSNR and SSIM of whole pictures; where the dataset has landmarks, L1 in the boxes of face and mouth and the
    likeness of the mouth's pattern; with estimators, what they read from the pictures against the labels of the truth.
    Scores are means over the frames of a clip, then over clips.

    Args:
        trained: a method.
        driver: what drives it of the records, of `reenax.inference.labelled.FIELDS`; None for "video", or the first
            that the method takes.
        data: clips to measure on, or a dataset folder for its test split.
        protocols: names of `reenax.inference.protocols.PROTOCOLS`; None for all that the dataset has the truth for.
        options: of the method's reenactor, as texts; a "mode" takes the place of "absolute", and protocols of relative
            motion stay relative.
        estimators: trained `reenax.methods.estimators`.
        others: more metrics of pairs of pictures, by their names in `reenax.inference.scores.METRICS`.
        max_frames: use only so many frames of each clip.
        batch_size: frames worked on together.
        progress: whether to show it.

    Raises:
        UserError: the method takes no such driver, sizes differ, or the dataset lacks what is needed.
    """
    clips = open_tests(data)
    driver = check(trained, clips, driver)
    read = read_options(trained.method, trained.name, options)
    chosen = {name: read[name] for name in options}
    reader = None if estimators is None else Reader.of(estimators, clips)
    person = trained.method.portrays
    names = available(clips) if protocols is None else protocols
    trials = [Trials.open(name, clips, max_frames, person) for name in names]
    if not trials:
        raise UserError(f"there is no protocol to measure by; choose from {', '.join(PROTOCOLS)}")
    every, count = chain.from_iterable(trials), sum(len(t) for t in trials)
    scores = [
        _score(trained, trial, driver, chosen, reader, others or {}, batch_size)
        for trial in (tracked(every, count, "evaluating", "clips") if progress else every)
    ]
    about = {
        "method": trained.name,
        "step": trained.step,
        "driver": driver,
        "split": clips.split,
        "data_digest": clips.digest,
        "size": clips.size,
        "protocol": trials[0].protocol.about,
        "ssim": METRICS["ssim"].unit,
        "reenax": __version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    if options:
        about["options"] = dict(options)
    if estimators is not None:
        about["estimators"] = {"step": estimators.step, "reference": reference_of(clips)}
    return Evaluation(tuple(scores), about)


def check(trained: Trained, clips: Clips, driver: str | None = None) -> str:
    """Refuses what cannot be measured; the kind of driver, by default the first that the method takes.

    Raises:
        UserError: the method takes no such driver, the clips do not have it, or sizes differ.
    """
    takes = [kind for kind in FIELDS if kind in trained.method.drives]
    if not takes:
        raise UserError(f"{trained.name} has no reenactment to measure: no clip holds what drives it")
    if driver is not None and driver not in takes:
        raise UserError(f"{trained.name} is not driven by {driver}; it can be measured with {', '.join(takes)}")
    kind = driver or takes[0]
    if missing := sorted(FIELDS[kind] - clips.fields):
        raise UserError(f"{clips.directory} has no {missing[0]}, so nothing can be driven by {kind} with it")
    check_size(trained, clips)
    return kind


def check_size(trained: Trained, clips: Clips) -> None:
    """Refuses networks that were trained on pictures of another size.

    Raises:
        UserError: they were.
    """
    if clips.size != trained.config.data.size:
        raise UserError(
            f"{clips.directory} holds frames of {clips.size}x{clips.size}, {trained.name} was trained on "
            f"{trained.config.data.size}; prepare with --size {trained.config.data.size}"
        )


def _score(
    trained: Trained,
    trial: Trial,
    driver: str,
    options: Mapping[str, Any],
    reader: Reader | None,
    others: Mapping[str, PairMetric],
    batch_size: int,
) -> ClipScore:
    """One trial, a batch of frames at a time: clips may be longer than memory holds as floats."""
    truth, count, source = trial.truth, trial.frames, as_float(trial.source)
    reads, run = trained.method.reads, reenactor_of(trained, trial, driver, options)
    where = boxes(truth["landmarks"], trial.source.shape[1]) if "landmarks" in truth else {}
    background = None if driver == "video" else background_of(trial)
    frames: dict[str, list[dict[str, np.ndarray]]] = {}
    read: dict[str, list[ReadScores]] = {}
    for begin in range(0, count, batch_size):
        chosen = list(range(begin, min(begin + batch_size, count)))
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen))  # one compiled program serves all
        true = as_float(frames_of(truth, padded))
        drive = drive_of(trial.driving, padded, driver, reads)
        made = {"method": run(drive), "copy": jnp.broadcast_to(source, true.shape)}
        if trial.protocol.crosses and isinstance(drive, VideoDrive):
            made["copy_driving"] = drive.frames
        part = {name: box[padded] for name, box in where.items()}
        for row, pictures in made.items():
            measured = _measured(pictures, true, part, others, len(chosen))
            if background is not None:
                measured["unchanged"] = np.asarray(unchanged(pictures, source, background), np.float64)[: len(chosen)]
            frames.setdefault(row, []).append(measured)
        if reader is not None:
            readings = {"truth": reader(true)} | {row: reader(pictures) for row, pictures in made.items()}
            labels = labels_of(truth, padded, readings["truth"])
            for row, found in readings.items():
                read.setdefault(row, []).append(score_readings(found, labels, len(chosen)))
    rows = {row: _means(parts) for row, parts in frames.items()}
    rows |= {row: {**rows.get(row, {}), **clip_scores(parts, read["truth"])} for row, parts in read.items()}
    return ClipScore(truth["clip_id"], truth["identity"], count, **rows, protocol=trial.protocol.name)


def _measured(
    made: Float[Array, "b h w 3"],
    true: Float[Array, "b h w 3"],
    where: Mapping[str, np.ndarray],
    others: Mapping[str, PairMetric],
    count: int,
) -> dict[str, np.ndarray]:
    """Every picture metric of the first ``count`` frames of a batch."""
    scores = {**picture_scores(made, true), **{name: metric(made, true) for name, metric in others.items()}}
    if where:
        scores |= box_scores(made, true, where)
    return {name: np.asarray(values, np.float64)[:count] for name, values in jax.device_get(scores).items()}


def _means(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The mean over the frames that have a value; NaN where none has."""
    return {name: finite_mean(np.concatenate([part[name] for part in parts])) for name in parts[0]}
