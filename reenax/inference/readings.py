"""What trained estimators read from pictures, how far that is from the truth, and how far off they are themselves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from data_pipelines.loader import Clips
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.geometry.camera import euler_rotation, unit_to_pixels
from reenax.geometry.head.action_units import action_units
from reenax.geometry.head.names import EXPRESSIONS
from reenax.inference.progress import tracked
from reenax.inference.protocols import frames_of, spread
from reenax.inference.scores import METRICS, correlation, finite_mean
from reenax.methods.estimators import Estimators, Readings
from reenax.metrics.identity import csim
from reenax.metrics.keypoint import akd, nme
from reenax.metrics.pose import expression_error, rotation_error
from reenax.train.runs import Trained

LABELS = {"landmarks": "landmarks", "pose": "pose", "expression": "expression"}
"""Fields of `Readings` that are compared with a label -> the field of the records that holds it."""

SHAPE = "identity_coefficients"

PUBLISHED_SIZE = 256  # of the pictures in whose pixels keypoint distances are published
INNER_LIPS = ((61, 67), (62, 66), (63, 65))  # points of the upper and the lower lip that face each other
GAP = "lip_gap"
VERIFICATION_FRAMES = 8  # of a clip


@dataclasses.dataclass(frozen=True)
class Reader:
    """Trained estimators as a function of pictures.

    Attributes:
        trained: the estimators.
    """

    trained: Trained

    @classmethod
    def of(cls, trained: Trained, clips: Clips) -> "Reader":
        """Takes trained estimators for the pictures of some clips.

        Raises:
            UserError: another method, or trained on another size.
        """
        if not isinstance(trained.method, Estimators):
            raise UserError(
                f"{trained.name} is a method that makes pictures; the estimators are a run of configs/estimators.py"
            )
        if trained.config.data.size != clips.size:
            raise UserError(
                f"{clips.directory} holds frames of {clips.size}x{clips.size}, the estimators were trained on "
                f"{trained.config.data.size}; train configs/estimators.py on pictures of {clips.size}"
            )
        return cls(trained)

    def __call__(self, pictures: Float[Array, "b h w 3"]) -> Readings:
        """Reads pictures in [-1, 1]."""
        return self._read(self.trained.variables, pictures)

    @cached_property
    def _read(self) -> Callable[..., Readings]:
        method: Any = self.trained.method
        return jax.jit(method.read)


def labels_of(record: Mapping[str, Any], frames: Sequence[int], read: Readings) -> Readings:
    """The truth of some frames of a record: its labels, and what was read from the true frames where it has none.

    Raises:
        UserError: a label is of another kind than what is read.
    """
    found = {}
    for name, field in LABELS.items():
        if field not in record:
            continue
        values = np.asarray(record[field], np.float32)[list(frames)]
        if values.shape != (wanted := getattr(read, name).shape):
            raise UserError(
                f"{record['clip_id']} has {values.shape[-1]} numbers of {field}, the estimators read {wanted[-1]}; "
                f"train them on a dataset of this kind"
            )
        found[name] = jnp.asarray(values)
    return read._replace(**found)


def reference_of(clips: Clips) -> dict[str, str]:
    """Where the truth of every reading comes from."""
    return {n: "label" if field in clips.fields else "read from the true frames" for n, field in LABELS.items()}


@jax.jit
def reading_errors(read: Readings, truth: Readings) -> dict[str, Float[Array, " b"]]:
    """The metrics of `reenax.inference.scores.METRICS` that compare readings frame by frame."""
    points = (unit_to_pixels(x.landmarks, PUBLISHED_SIZE) for x in (read, truth))
    rotations = (euler_rotation(x.pose[:, :3]) for x in (read, truth))
    errors = {
        "nme": 100 * nme(read.landmarks, truth.landmarks),
        "akd": akd(*points),
        "pose": rotation_error(*rotations),
        "expression": expression_error(read.expression, truth.expression),
    }
    if read.expression.shape[-1] == len(EXPRESSIONS):
        units = (action_units(x.expression) for x in (read, truth))
        errors["action_units"] = expression_error(*units)
    return errors


def lip_gap(landmarks: Float[Array, "b 68 2"]) -> Float[Array, " b"]:
    """The mean distance of the inner lips' three pairs of points that face each other, in the landmarks' unit."""
    upper, lower = (landmarks[:, jnp.asarray(side)] for side in zip(*INNER_LIPS, strict=True))
    return jnp.linalg.norm(upper - lower, axis=-1).mean(axis=-1)


class ReadScores(NamedTuple):
    """Of a batch of frames.

    Attributes:
        errors: metric -> value per frame.
        gaps: how far the mouth is open, as read and in truth.
        identity: what was read of the head's shape.
    """

    errors: dict[str, np.ndarray]
    gaps: tuple[np.ndarray, np.ndarray]
    identity: np.ndarray


def score_readings(read: Readings, truth: Readings, count: int) -> ReadScores:
    """Readings of the first ``count`` pictures of a batch against the truth."""
    gaps = (lip_gap(read.landmarks), lip_gap(truth.landmarks))
    found = jax.device_get((reading_errors(read, truth), gaps, read.identity))
    return ReadScores(*jax.tree.map(lambda x: np.asarray(x, np.float64)[:count], found))


def clip_scores(made: Sequence[ReadScores], true: Sequence[ReadScores]) -> dict[str, float]:
    """The scores of a clip from its batches.

    Means over frames; over the clip the correlation of the mouth's opening; and CSIM with the person that is read from
    all true frames together, as identity errors are published (Latent Pose Descriptors).

    Args:
        made: of the pictures to judge.
        true: of the true frames.
    """
    scores = {n: finite_mean(np.concatenate([p.errors[n] for p in made])) for n in made[0].errors}
    faces = np.concatenate([p.identity for p in made])
    person = np.broadcast_to(np.concatenate([p.identity for p in true]).mean(axis=0), faces.shape)
    scores["csim"] = float(csim(jnp.asarray(faces, jnp.float32), jnp.asarray(person, jnp.float32)).mean())
    opening = (np.concatenate([p.gaps[k] for p in made]) for k in range(2))
    return {**scores, "mouth_opening": correlation(next(opening), next(opening))}


def estimator_errors(
    trained: Trained, clips: Clips, *, max_frames: int | None = None, batch_size: int = 32, progress: bool = True
) -> dict[str, Any]:
    """How far estimators are off on clips with labels.

    Args:
        trained: the estimators.
        clips: of people that training has not seen.
        max_frames: use only so many frames of each clip, spread over it.
        batch_size: frames worked on together.
        progress: whether to show it.

    Returns:
        "errors" (the metrics of readings; also "translation" in cm and "shape", the cosine of read and true
        coefficients), "guess" (the same for always answering the mean of the labels), "verification" (of people by the
        cosine of what "identity" reads from two frames: area under the curve and accuracy at the best threshold,
        genuine and other pairs weighing the same) and what they were measured on.

    Raises:
        UserError: no estimators, another size, or labels missing.
    """
    reader = Reader.of(trained, clips)
    if missing := sorted({*LABELS.values(), SHAPE} - clips.fields):
        raise UserError(f"{clips.directory} has no {missing[0]}, so the estimators' error cannot be measured on it")
    read, labels, people = [], [], []
    indices = range(len(clips))
    for index in tracked(indices, len(indices), "reading", "clips") if progress else indices:
        record = clips[index]
        chosen = spread(max_frames or len(record["frames"]), len(record["frames"]))
        parts = [
            _read(reader, record, chosen[k : k + batch_size], batch_size) for k in range(0, len(chosen), batch_size)
        ]
        read.append(_joined([p[0] for p in parts]))
        labels.append(_joined([p[1] for p in parts]))
        people.append(record["identity"])
    mean = jax.tree.map(lambda x: x.mean(axis=0, keepdims=True), _joined(labels))
    guesses = [jax.tree.map(lambda m, x: np.broadcast_to(m, x.shape), mean, clip) for clip in labels]
    few = [r.identity[spread(VERIFICATION_FRAMES, len(r.identity))] for r in read]
    return {
        "errors": _clip_means(read, labels),
        "guess": _clip_means(guesses, labels),
        "verification": verification(np.concatenate(few), np.repeat(people, [len(x) for x in few])),
        "step": trained.step,
        "data_digest": clips.digest,
        "split": clips.split,
        "size": clips.size,
        "clips": len(clips),
        "frames": sum(len(r.identity) for r in read),
    }


def _read(reader: Reader, record: Mapping[str, Any], chosen: Sequence[int], batch_size: int) -> tuple[Any, Any]:
    """Readings and labels of some frames, on the host."""
    padded = [*chosen, *[chosen[-1]] * (batch_size - len(chosen))]  # one compiled program serves all
    read = reader(as_float(frames_of(record, padded)))
    shape = jnp.broadcast_to(jnp.asarray(record[SHAPE], jnp.float32), (batch_size, len(record[SHAPE])))
    pair = jax.device_get((read, labels_of(record, padded, read)._replace(identity=shape)))
    return jax.tree.map(lambda x: np.asarray(x)[: len(chosen)], pair)


def _joined(parts: Sequence[Readings]) -> Readings:
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _clip_means(read: Sequence[Readings], labels: Sequence[Readings]) -> dict[str, float]:
    """Means over frames, then over clips."""
    rows = []
    for made, true in zip(read, labels, strict=True):
        first, second = (Readings(*map(jnp.asarray, x)) for x in (made, true))
        scores = [score_readings(first, second, len(made.pose))]
        shift = float(np.abs(made.pose[:, 3:] - true.pose[:, 3:]).mean())
        shape = float(csim(first.identity, second.identity).mean())
        rows.append({**clip_scores(scores, scores), "translation": shift, "shape": shape})
    names = [name for name in METRICS if name in rows[0]]
    return {name: finite_mean(np.array([row[name] for row in rows])) for name in names}


def verification(embeddings: Float[np.ndarray, "n d"], people: Sequence[str] | np.ndarray) -> dict[str, float]:
    """Telling whether two pictures show one person by the cosine of their embeddings.

    Returns:
        "auc", the probability that a pair of one person is more alike than a pair of two; "accuracy" at the best
        threshold, both kinds of pairs weighing the same; "pairs", how many there were. NaN without both kinds.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-8)
    first, second = np.triu_indices(len(unit), k=1)
    likeness, same = (unit @ unit.T)[first, second], np.asarray(people)[first] == np.asarray(people)[second]
    genuine, others = int(same.sum()), int((~same).sum())
    if not genuine or not others:
        return {"auc": float("nan"), "accuracy": float("nan"), "pairs": len(same)}
    above = scipy.stats.rankdata(likeness)[same].sum() - genuine * (genuine + 1) / 2
    order = np.argsort(-likeness)
    found, false = np.cumsum(same[order]) / genuine, np.cumsum(~same[order]) / others
    return {
        "auc": float(above / (genuine * others)),
        "accuracy": float(np.max((found + 1 - false) / 2)),
        "pairs": len(same),
    }
