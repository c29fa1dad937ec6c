"""Reenactors that carry a driver's motion over, and running any reenactor over many frames, a batch at a time."""

import functools
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from reenax.core.drives import expect, length_of, part_of
from reenax.core.errors import UserError
from reenax.core.pictures import as_bytes
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
        start = _read(animator, variables, prepared, expect(anchor, VideoDrive, method="this method").frames[:1])
        scale = animator.scale(prepared, start) if adapt_scale else 1.0
    factor = jnp.asarray(scale, source.frames.dtype)

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        frames = expect(drive, VideoDrive, method="this method").frames
        return _animate(animator, variables, prepared, start, factor, frames)

    return run


def stream(run: Reenactor, drives: Iterable[tuple[Drive, int]]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures of one driver, which comes in parts of one size, with no more than two of them in memory.

    The device works on a part while the host reads the next one.

    Args:
        run: what a method's reenactor gave.
        drives: parts, and how many of their first rows are meant.
    """
    waiting: tuple[Array, int] | None = None
    for part, count in drives:
        started = run(part)
        if waiting is not None:
            yield from as_bytes(waiting[0])[: waiting[1]]
        waiting = (started, count)
    if waiting is not None:
        yield from as_bytes(waiting[0])[: waiting[1]]


def parts(drive: Drive, size: int) -> Iterator[tuple[Drive, int]]:
    """A driver cut into parts of one size, the last one filled up with its last row, for :func:`stream`."""
    count = length_of(drive)
    for begin in range(0, count, size):
        yield part_of(drive, begin, begin + size, size), min(size, count - begin)


def reenact(
    method: Method,
    variables: Variables,
    source: Source,
    drive: Drive,
    *,
    anchor: Drive | None = None,
    batch_size: int = 8,
    **options: Any,
) -> Float[Array, "t h w 3"]:
    """The source doing what the driver does.

    Args:
        method: any method that takes this kind of driver.
        variables: its trained variables.
        source: the identity, in [-1, 1].
        drive: the driver.
        anchor: what relative motion is measured from; the driver's beginning by default.
        batch_size: frames worked on together.
        **options: the method's own, for example ``mode="absolute"``.

    Returns:
        Pictures in [-1, 1], as many as the driver asks for.
    """
    run = method.reenactor(variables, source, anchor=anchor or part_of(drive, 0, 1), **options)
    return jnp.concatenate([run(part)[:count] for part, count in parts(drive, batch_size)])
