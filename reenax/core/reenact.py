"""Running any method's reenactor over many driving frames, a batch at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from reenax.core.pictures import as_bytes, as_float
from reenax.core.types import Method, Reenactor, Source, Variables, VideoDrive


def stream(
    run: Reenactor, frames: Iterable[UInt8[np.ndarray, "h w 3"]], batch_size: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """One made picture per driving frame, with no more than two batches in memory.

    The last batch is padded with its last frame, so that one compiled program serves all. The device works on
    a batch while the host reads the next one.
    """
    waiting: tuple[Array, int] | None = None
    for batch in _batches(frames, batch_size):
        padded = np.stack(batch + [batch[-1]] * (batch_size - len(batch)))
        started = run(VideoDrive(as_float(padded)))
        if waiting is not None:
            yield from as_bytes(waiting[0])[: waiting[1]]
        waiting = (started, len(batch))
    if waiting is not None:
        yield from as_bytes(waiting[0])[: waiting[1]]


def _batches(frames: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def reenact(
    method: Method,
    variables: Variables,
    source: Source,
    drive: VideoDrive,
    *,
    anchor: VideoDrive | None = None,
    batch_size: int = 8,
    **options: Any,
) -> Float[Array, "t h w 3"]:
    """The source doing what the driver does.

    Args:
        method: any method driven by video.
        variables: its trained variables.
        source: the identity, in [-1, 1].
        drive: the driving frames, in [-1, 1].
        anchor: what relative motion is measured from; the first driving frame by default.
        batch_size: frames worked on together.
        **options: the method's own, for example ``mode="absolute"``.

    Returns:
        Pictures in [-1, 1], one per driving frame.
    """
    run = method.reenactor(variables, source, anchor=anchor or VideoDrive(drive.frames[:1]), **options)
    made = []
    for begin in range(0, drive.frames.shape[0], batch_size):
        part = drive.frames[begin : begin + batch_size]
        padded = jnp.concatenate([part, jnp.repeat(part[-1:], batch_size - part.shape[0], axis=0)])
        made.append(run(VideoDrive(padded))[: part.shape[0]])
    return jnp.concatenate(made)
