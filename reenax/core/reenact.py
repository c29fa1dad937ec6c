"""Reenactors that carry a driver's motion over, and running any reenactor over many frames, a batch at a time."""

import functools
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from reenax.core.errors import UserError
from reenax.core.pictures import as_bytes, as_float
from reenax.core.types import Drive, Method, Option, Reenactor, Source, Variables, VideoDrive

TRANSFER_OPTIONS = {
    "mode": Option(
        "relative",
        "relative: the source moves as the driver has moved since the anchor frame; absolute: it takes the driver's "
        "pose and shape as they are",
        ("relative", "absolute"),
    ),
    "adapt_scale": Option(False, "scale relative motion by the ratio of source's and driver's sizes"),
}


@runtime_checkable
class Animator(Hashable, Protocol):
    """The networks of a method that carries motion over, as :func:`transferring_reenactor` calls them.

    Hashable, so that one compiled program serves every source: a named tuple of modules and plain settings.
    """

    def prepare(self, variables: Variables, source: Float[Array, "1 h w 3"]) -> PyTree:
        """All that depends on the source alone, its own motion among it."""
        ...

    def read(self, variables: Variables, prepared: PyTree, frames: Float[Array, "b h w 3"]) -> PyTree:
        """The driver's motion; the first axis of every leaf is the frames'."""
        ...

    def scale(self, prepared: PyTree, anchor: PyTree) -> float:
        """How much larger the source is than the driver in the anchor frame; computed on the host."""
        ...

    def animate(
        self, variables: Variables, prepared: PyTree, motion: PyTree, anchor: PyTree, scale: Float[Array, ""]
    ) -> Float[Array, "b h w 3"]:
        """Frames in [-1, 1]; without an anchor (None) the driver's motion is taken as it is."""
        ...


@functools.partial(jax.jit, static_argnums=0)
def _prepare(animator: Animator, variables: Variables, source: Array) -> PyTree:
    return animator.prepare(variables, source)


@functools.partial(jax.jit, static_argnums=0)
def _read(animator: Animator, variables: Variables, prepared: PyTree, frames: Array) -> PyTree:
    return animator.read(variables, prepared, frames)


@functools.partial(jax.jit, static_argnums=0)
def _animate(
    animator: Animator, variables: Variables, prepared: PyTree, anchor: PyTree, scale: Array, frames: Array
) -> Array:
    return animator.animate(variables, prepared, animator.read(variables, prepared, frames), anchor, scale)


def transferring_reenactor(
    animator: Animator,
    variables: Variables,
    source: Source,
    anchor: Drive | None,
    *,
    mode: str = "relative",
    adapt_scale: bool = False,
) -> Reenactor:
    """Encodes the source and returns the function from driving frames to animated frames, both in [-1, 1].

    Args:
        animator: the networks.
        variables: what they read.
        source: its first picture is animated.
        anchor: the driver's first frame, or the one that looks most like the source; its first picture is used.
        mode: "relative" adds the driver's motion since the anchor to the source's own, and keeps its shape;
            "absolute" takes the driver's motion as it is.
        adapt_scale: in relative mode, scale the motion by the ratio of source's and driver's sizes.

    Raises:
        UserError: an unknown mode, or relative motion without an anchor.
    """
    modes = TRANSFER_OPTIONS["mode"].choices
    if mode not in modes:
        raise UserError(f"mode must be one of {', '.join(modes)}, got {mode!r}")
    if mode == "relative" and anchor is None:
        raise UserError('mode "relative" needs an anchor, the first driving frame: give one, or use mode "absolute"')
    prepared = _prepare(animator, variables, source.frames[:1])
    start, scale = None, 1.0
    if mode == "relative" and anchor is not None:
        start = _read(animator, variables, prepared, anchor.frames[:1])
        scale = animator.scale(prepared, start) if adapt_scale else 1.0
    factor = jnp.asarray(scale, source.frames.dtype)

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        return _animate(animator, variables, prepared, start, factor, drive.frames)

    return run


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
