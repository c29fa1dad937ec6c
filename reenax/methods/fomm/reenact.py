"""Animation: the driver's keypoints carried over to a source that is encoded once (section 3.3).

Everything that depends on the source alone is computed when the reenactor is built: its keypoints, the encoder's
features, the small picture of the dense motion network. A batch of driving frames then needs the detector and, in the
folded layout of `reenax.nn.fold`, the dense motion network and the decoder; every warp reads the one source without
copying it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.types import Drive, Reenactor, Source, Variables
from reenax.geometry.grids import inverse_2x2, matmul_2x2
from reenax.geometry.hull import hull_area
from reenax.methods.fomm.game import Game, from_unit, to_unit
from reenax.methods.fomm.networks import Encoded, Generator, KeypointDetector, Keypoints
from reenax.nn.fold import fold

MODES = ("relative", "absolute")

_fold = jax.jit(fold)


def relative_keypoints(
    source: Keypoints, driving: Keypoints, anchor: Keypoints, scale: Float[Array, ""] | float = 1.0
) -> Keypoints:
    """The source's keypoints, moved as the driver's have moved since the anchor frame.

    ``p = p^S + scale (p^D_t - p^D_0)`` and ``J = J^D_t (J^D_0)^-1 J^S``. Source and anchor may be one sample for a
    batch of driving frames.
    """
    value = source.value + scale * (driving.value - anchor.value)
    if source.jacobian is None or driving.jacobian is None or anchor.jacobian is None:
        return Keypoints(value, None)
    carried = matmul_2x2(inverse_2x2(anchor.jacobian), source.jacobian)
    carried = jnp.broadcast_to(carried, driving.jacobian.shape)
    return Keypoints(value, matmul_2x2(driving.jacobian, carried))


def movement_scale(source: Keypoints, anchor: Keypoints) -> float:
    """How much larger the source's keypoints spread than the driver's: the ratio of the roots of their hull areas.

    Raises:
        UserError: the driver's keypoints lie on one line.
    """
    source_area, anchor_area = (hull_area(np.asarray(k.value[0], np.float64)) for k in (source, anchor))
    if anchor_area == 0:
        raise UserError("adapt_scale compares areas, and the driver's keypoints span none: leave adapt_scale off")
    return float(np.sqrt(source_area / anchor_area))


class _Animator(NamedTuple):
    """The detector and the folded generator; hashable, so that one compiled program serves every source."""

    detector: KeypointDetector
    generator: Generator

    def detect(self, variables: Variables, frames: Float[Array, "b h w 3"]) -> Keypoints:
        """Keypoints of frames in [-1, 1]."""
        found: Any = self.detector.apply(variables["kp_detector"], to_unit(frames), train=False)
        return found

    def encode(self, variables: Variables, frames: Float[Array, "b h w 3"]) -> Encoded:
        """What the generator needs of the source, in [-1, 1]."""
        encoded: Any = self.generator.apply(variables["generator"], to_unit(frames), train=False, method="encode")
        return encoded

    def paint(self, variables: Variables, encoded: Encoded, source: Keypoints, moved: Keypoints) -> Array:
        """Frames in [-1, 1] of the source moved to keypoints."""
        made: Any = self.generator.apply(variables["generator"], encoded, source, moved, train=False, method="decode")
        return from_unit(made.prediction)


class _Carried(NamedTuple):
    """What relative motion needs of the first driving frame."""

    anchor: Keypoints
    scale: Float[Array, ""]


@functools.partial(jax.jit, static_argnums=0)
def _prepare(animator: _Animator, variables: Variables, source: Float[Array, "1 h w 3"]) -> tuple[Encoded, Keypoints]:
    return animator.encode(variables, source), animator.detect(variables, source)


@functools.partial(jax.jit, static_argnums=0)
def _detect(animator: _Animator, variables: Variables, frames: Float[Array, "b h w 3"]) -> Keypoints:
    return animator.detect(variables, frames)


@functools.partial(jax.jit, static_argnums=0)
def _animate(
    animator: _Animator,
    variables: Variables,
    encoded: Encoded,
    source: Keypoints,
    carried: _Carried | None,
    frames: Float[Array, "t h w 3"],
) -> Float[Array, "t h w 3"]:
    moved = animator.detect(variables, frames)
    if carried is not None:
        moved = relative_keypoints(source, moved, carried.anchor, carried.scale)
    return animator.paint(variables, encoded, source, moved)


def reenactor(
    game: Game,
    variables: Variables,
    source: Source,
    *,
    anchor: Drive | None = None,
    mode: str = "relative",
    adapt_scale: bool = False,
) -> Reenactor:
    """Encodes the source and returns the function from driving frames to animated frames, both in [-1, 1].

    Equal to the generator's plain evaluation forward up to rounding, and about 1.5 times as fast.

    Args:
        game: the networks.
        variables: of the "generator" and the "kp_detector", as trained.
        source: its first picture is animated.
        anchor: the driver's first frame, or the one that looks most like the source; its first picture is used.
        mode: "relative" adds the driver's motion since the anchor to the source's keypoints, and keeps its shape;
            "absolute" takes the driver's keypoints as they are.
        adapt_scale: in relative mode, scale the motion by the ratio of source's and driver's sizes.

    Raises:
        UserError: an unknown mode, relative motion without an anchor, or keypoints on one line with ``adapt_scale``.
    """
    if mode not in MODES:
        raise UserError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "relative" and anchor is None:
        raise UserError('mode "relative" needs an anchor, the first driving frame: give one, or use mode "absolute"')
    # The detector is not folded: it takes 5 % of the time, and the warp magnifies the rounding of its keypoints.
    animator = _Animator(game.kp_detector, game.generator.clone(folded=True))
    folded = {"kp_detector": variables["kp_detector"], "generator": _fold(variables["generator"])}
    encoded, kp_source = _prepare(animator, folded, source.frames[:1])
    carried = None
    if mode == "relative" and anchor is not None:
        kp_anchor = _detect(animator, folded, anchor.frames[:1])
        scale = movement_scale(kp_source, kp_anchor) if adapt_scale else 1.0
        carried = _Carried(kp_anchor, jnp.asarray(scale, kp_source.value.dtype))

    def animate(drive: Drive) -> Float[Array, "t h w 3"]:
        return _animate(animator, folded, encoded, kp_source, carried, drive.frames)

    return animate
