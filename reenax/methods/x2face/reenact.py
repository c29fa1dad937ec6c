"""Driving the embedded face: by a video, by head poses or by speech.

All that depends on the source alone is computed when the reenactor is built: the embedded face of all its frames, and
the driving vector of the first. Poses and speech move that vector: what they say is told from the linear maps P, Q, R.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.audio.spectrum import SpectrumParams, log_mel, windows_at
from reenax.core.drives import expect
from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.types import AudioDrive, Drive, Option, PoseDrive, Reenactor, Source, Variables, VideoDrive
from reenax.geometry.sampling import warp
from reenax.methods.x2face.networks import OF_CODE, Networks, with_overlay

OPTIONS = {
    "mode": Option(
        "absolute",
        "absolute takes the driver's vectors or poses as they are, as published; relative adds their change since the "
        "driver's beginning to the source's own (speech is always relative)",
        ("relative", "absolute"),
    ),
    "confidence_bias": Option(
        None,
        "added to the confidence of every source frame before they are averaged, by default as in training; 0 for the "
        "published average of the embedded face alone",
    ),
    "overlay": Option(
        None,
        "a picture with alpha of the model's size, laid on the embedded face: it follows the face",
        picture=True,
    ),
    "view": Option("result", "result, or the embedded face that it is sampled from", ("result", "embedded")),
}


class Prepared(NamedTuple):
    """A source ready to be driven.

    Attributes:
        face: the embedded face in [0, 1], with what has been laid on it.
        vector: the driving vector of the first source frame.
    """

    face: Float[Array, "1 h w 3"]
    vector: Float[Array, "1 e"]


class Animator(NamedTuple):
    """What the compiled programs below are made for; hashable, so that one program serves every source.

    Attributes:
        networks: all of them.
        sound: how sound is described.
        rectified: whether R tells driving vectors behind the ReLU.
    """

    networks: Networks
    sound: SpectrumParams
    rectified: bool


@functools.partial(jax.jit, static_argnums=0)
def _prepare(animator: Animator, variables: Variables, frames: Array, overlay: Array, bias: Array) -> Prepared:
    networks, frames = animator.networks, to_unit(frames)
    face = networks.embedded(variables, frames[None], bias).face
    return Prepared(with_overlay(face, overlay), networks.vectors(variables, frames[:1]))


@functools.partial(jax.jit, static_argnums=0)
def _vectors(animator: Animator, variables: Variables, frames: Array) -> Array:
    return animator.networks.vectors(variables, to_unit(frames))


@functools.partial(jax.jit, static_argnums=0)
def _posed(
    animator: Animator, variables: Variables, prepared: Prepared, codes: Array, start: Array | None
) -> Float[Array, "t e"]:
    """``v + Q(p) - Q(P(v))``, or from a start ``v + Q(p) - Q(p_0)``; an angle that is NaN stays the source's."""
    networks = animator.networks
    own = networks.codes(variables, prepared.vector) if start is None else start
    codes = jnp.where(jnp.isnan(codes), jnp.where(jnp.isnan(own), 0, own), codes)
    own = jnp.where(jnp.isnan(own), 0, own)
    return prepared.vector + networks.from_codes(variables, codes) - networks.from_codes(variables, own)


@functools.partial(jax.jit, static_argnums=0)
def _spoken(
    animator: Animator, variables: Variables, prepared: Prepared, features: Array, start: Array
) -> Float[Array, "t e"]:
    """``n = u + R(a) - R(a_0)`` and ``n + Q(P(u)) - Q(P(n))``: the head pose that came with the sound is taken out."""
    networks = animator.networks
    own = jax.nn.relu(prepared.vector) if animator.rectified else prepared.vector
    moved = own + networks.from_sound(variables, features) - networks.from_sound(variables, start)

    def posed_as(vectors: Array) -> Array:
        return networks.from_codes(variables, networks.codes(variables, vectors))

    return moved + posed_as(own) - posed_as(moved)


@functools.partial(jax.jit, static_argnums=0)
def _draw(animator: Animator, variables: Variables, prepared: Prepared, vectors: Array) -> Float[Array, "t h w 3"]:
    grid = animator.networks.grids(variables, vectors)
    return jnp.clip(from_unit(warp(prepared.face, grid, align_corners=True)), -1, 1)


def _features(animator: Animator, drive: AudioDrive) -> Float[Array, "t f"]:
    windows = windows_at(jnp.asarray(drive.waveform), jnp.asarray(drive.times), animator.sound)
    return log_mel(windows, animator.sound)


def _codes(drive: PoseDrive) -> Float[Array, "t 3"]:
    return jnp.asarray(drive.angles)[:, jnp.asarray(OF_CODE)]


def _check_maps(variables: Variables, *names: str) -> None:
    """Refuses maps that were never fitted: their kernels begin at zero."""
    for name in names:
        (kernel,) = (x for x in jax.tree.leaves(variables[name]["params"]) if x.ndim == 2)
        if not np.any(np.asarray(kernel)):
            raise UserError(
                f"this x2face has no map {name} yet: fit the maps with `reenax train --config configs/x2face.py:"
                f"vox256_maps --warm-start RUN` (or another config of maps)"
            )


def reenactor(
    animator: Animator,
    variables: Variables,
    source: Source,
    *,
    anchor: Drive | None = None,
    mode: str = "absolute",
    confidence_bias: float | None = None,
    view: str = "result",
    overlay: Float[Array, "h w 4"] | Float[np.ndarray, "h w 4"] | None = None,
) -> Reenactor:
    """Encodes the source and returns the function from a driver to frames in [-1, 1].

    Args:
        animator: the networks.
        variables: what they read.
        source: one or several frames of a person; poses and speech change the pose and expression of the first.
        anchor: the driver's beginning: what relative motion is measured from, and for speech what is heard while the
            source frame is seen (silence without an anchor).
        mode: see `OPTIONS`; for poses "relative" adds the change of the pose to the source's own.
        confidence_bias: see `OPTIONS`; None for that of the training.
        view: "result", or "embedded" for the embedded face, as often as the driver has frames.
        overlay: RGBA in [0, 1] of the pictures' size, laid on the embedded face: it follows the face.

    Raises:
        UserError: an unknown mode or view, a bias below 0, relative motion without an anchor, an overlay of another
            size, a driver of another kind, or one that needs maps that were never fitted.
    """
    for name, value in (("mode", mode), ("view", view)):
        if value not in (choices := OPTIONS[name].choices):
            raise UserError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if mode == "relative" and anchor is None:
        raise UserError('mode "relative" needs an anchor, the first driving frame: give one, or use mode "absolute"')
    bias = animator.networks.confidence_bias if confidence_bias is None else confidence_bias
    if not bias >= 0:
        raise UserError(f"confidence_bias must be 0 or more, got {bias}")
    size = source.frames.shape[1:3]
    laid = jnp.zeros((*size, 4)) if overlay is None else jnp.asarray(overlay)
    if laid.shape != (*size, 4):
        raise UserError(f"the overlay is {list(laid.shape)}; RGBA pictures of {[*size, 4]} can be laid on the face")
    prepared = _prepare(animator, variables, source.frames, laid, jnp.asarray(bias, source.frames.dtype))
    relative = mode == "relative"

    def vectors_of(drive: Drive) -> Float[Array, "t e"]:
        drive = expect(drive, VideoDrive, PoseDrive, AudioDrive, method="x2face")
        start = None if anchor is None else expect(anchor, type(drive), method="x2face with such an anchor")
        if isinstance(drive, VideoDrive):
            vectors = _vectors(animator, variables, drive.frames)
            if relative and isinstance(start, VideoDrive):
                vectors = prepared.vector + vectors - _vectors(animator, variables, start.frames[:1])
            return vectors
        if isinstance(drive, PoseDrive):
            _check_maps(variables, "pose_from_vector", "vector_from_pose")
            own = _codes(start)[:1] if relative and isinstance(start, PoseDrive) else None
            return _posed(animator, variables, prepared, _codes(drive), own)
        _check_maps(variables, "pose_from_vector", "vector_from_pose", "vector_from_audio")
        silence = AudioDrive(jnp.zeros(0, drive.waveform.dtype), jnp.zeros(1))
        heard = _features(animator, start if isinstance(start, AudioDrive) else silence)[:1]
        return _spoken(animator, variables, prepared, _features(animator, drive), heard)

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        vectors = vectors_of(drive)
        if view == "embedded":
            return jnp.broadcast_to(from_unit(prepared.face), (vectors.shape[0], *prepared.face.shape[1:]))
        return _draw(animator, variables, prepared, vectors)

    return run
