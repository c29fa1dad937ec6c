"""Sources and drivers from the records of a dataset: what a method is given when it is measured."""

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool
from PIL import Image

from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.types import ActionUnitDrive, AudioDrive, Drive, PoseDrive, Reenactor, Source, VideoDrive
from reenax.geometry.head.action_units import MAXIMUM
from reenax.inference.protocols import Trial, frames_of
from reenax.train.runs import Trained

FIELDS = {
    "video": frozenset({"frames"}),
    "action_units": frozenset({"action_units"}),
    "pose": frozenset({"pose"}),
    "audio": frozenset({"audio"}),
}
"""The kinds of driver that records hold, and the fields that they come from."""


def drive_of(record: Mapping[str, Any], rows: Sequence[int], kind: str, reads: frozenset[str] = frozenset()) -> Drive:
    """What drives some frames of a record.

    Args:
        record: a clip.
        rows: the frames.
        kind: a key of `FIELDS`.
        reads: what the method wants to know beside the pixels.

    Raises:
        UserError: a frame is damaged, or the record lacks the landmarks that the method reads.
    """
    chosen = list(rows)
    if kind == "action_units":
        return ActionUnitDrive(jnp.asarray(record["action_units"][chosen]) / MAXIMUM)
    if kind == "pose":
        return PoseDrive(jnp.asarray(record["pose"][chosen, :3]))
    if kind == "audio":
        times = (record["timestamps"] - record["timestamps"][0])[chosen]
        return AudioDrive(jnp.asarray(record["audio"], jnp.float32) / 32768, jnp.asarray(times, jnp.float32))
    return VideoDrive(as_float(frames_of(record, chosen)), _landmarks(record, chosen, reads))


def source_of(trial: Trial, reads: frozenset[str] = frozenset()) -> Source:
    """The identity of a trial.

    Raises:
        UserError: the record lacks the landmarks that the method reads.
    """
    return Source(as_float(trial.source), _landmarks(trial.origin, [0], reads))


def _landmarks(record: Mapping[str, Any], rows: Sequence[int], reads: frozenset[str]):
    if not reads:
        return None
    (field,) = reads
    if field not in record:
        cure = "; prepare with --faces dlib" if field == "landmarks" else ""
        raise UserError(f"{record['clip_id']} has no {field}, which the method reads{cure}")
    return jnp.asarray(record[field][list(rows)])


def reenactor_of(
    trained: Trained, trial: Trial, kind: str, options: Mapping[str, Any] = MappingProxyType({})
) -> Reenactor:
    """The method's reenactor of a trial, in the protocol's mode where the method has modes.

    A "mode" among the options takes the place of absolute motion; protocols of relative motion stay relative.
    """
    method, mode = trained.method, trial.protocol.mode
    chosen = dict(options)
    if "mode" in method.options and (mode == "relative" or "mode" not in chosen):
        chosen["mode"] = mode
    anchor = drive_of(trial.driving, [0], kind, method.reads)
    return method.reenactor(trained.variables, source_of(trial, method.reads), anchor=anchor, **chosen)


def background_of(trial: Trial) -> Bool[np.ndarray, "h w"] | None:
    """Where the source picture shows no person; None where the record does not say."""
    if "mask" not in trial.origin:
        return None
    return np.asarray(Image.open(io.BytesIO(trial.origin["mask"][0])).convert("L")) < 128
