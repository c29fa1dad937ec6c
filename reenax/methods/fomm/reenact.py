"""Animation: the driver's keypoints carried over to a source that is encoded once (section 3.3).

Everything that depends on the source alone is computed when the reenactor is built: its keypoints, the encoder's
features, the small picture of the dense motion network. A batch of driving frames then needs the detector and, in the
folded layout of `reenax.nn.fold`, the dense motion network and the decoder; every warp reads the one source without
copying it. Equal to the generator's plain evaluation forward up to rounding, and about 1.5 times as fast.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.pictures import from_unit, to_unit
from reenax.core.reenact import transferring_reenactor
from reenax.core.types import Drive, Reenactor, Source, Variables
from reenax.geometry.grids import inverse_2x2, matmul_2x2
from reenax.geometry.transfer import movement_scale, relative_points
from reenax.methods.fomm.game import Game
from reenax.methods.fomm.networks import Encoded, Generator, KeypointDetector, Keypoints
from reenax.nn.fold import fold

_fold = jax.jit(fold)


def relative_keypoints(
    source: Keypoints, driving: Keypoints, anchor: Keypoints, scale: Float[Array, ""] | float = 1.0
) -> Keypoints:
    """The source's keypoints, moved as the driver's have moved since the anchor frame.

    ``p = p^S + scale (p^D_t - p^D_0)`` and ``J = J^D_t (J^D_0)^-1 J^S``. Source and anchor may be one sample for a
    batch of driving frames.
    """
    value = relative_points(source.value, driving.value, anchor.value, scale)
    if source.jacobian is None or driving.jacobian is None or anchor.jacobian is None:
        return Keypoints(value, None)
    carried = matmul_2x2(inverse_2x2(anchor.jacobian), source.jacobian)
    carried = jnp.broadcast_to(carried, driving.jacobian.shape)
    return Keypoints(value, matmul_2x2(driving.jacobian, carried))


class Prepared(NamedTuple):
    """A source made ready.

    Attributes:
        encoded: what the generator needs of it.
        keypoints: where it is.
    """

    encoded: Encoded
    keypoints: Keypoints


class KeypointAnimator(NamedTuple):
    """The detector and the folded generator: see `reenax.core.reenact.Animator`."""

    detector: KeypointDetector
    generator: Generator

    def prepare(self, variables: Variables, source: Float[Array, "1 h w 3"]) -> Prepared:
        encoded: Any = self.generator.apply(variables["generator"], to_unit(source), train=False, method="encode")
        return Prepared(encoded, self._detect(variables, source))

    def read(self, variables: Variables, prepared: Prepared, frames: Float[Array, "b h w 3"]) -> Keypoints:
        return self._detect(variables, frames)

    def scale(self, prepared: Prepared, anchor: Keypoints) -> float:
        return movement_scale(prepared.keypoints.value[0], anchor.value[0])

    def animate(
        self,
        variables: Variables,
        prepared: Prepared,
        motion: Keypoints,
        anchor: Keypoints | None,
        scale: Float[Array, ""],
    ) -> Float[Array, "b h w 3"]:
        if anchor is not None:
            motion = relative_keypoints(prepared.keypoints, motion, anchor, scale)
        generator = variables["generator"]
        made: Any = self.generator.apply(generator, *prepared, motion, train=False, method="decode")
        return from_unit(made.prediction)

    def _detect(self, variables: Variables, frames: Float[Array, "b h w 3"]) -> Keypoints:
        found: Any = self.detector.apply(variables["kp_detector"], to_unit(frames), train=False)
        return found


def reenactor(
    game: Game, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
) -> Reenactor:
    """From driving frames to animated frames: see `reenax.core.reenact.transferring_reenactor`."""
    # The detector is not folded: it takes 5 % of the time, and the warp magnifies the rounding of its keypoints.
    animator = KeypointAnimator(game.kp_detector, game.generator.clone(folded=True))
    folded = {"kp_detector": variables["kp_detector"], "generator": _fold(variables["generator"])}
    return transferring_reenactor(animator, folded, source, anchor, **options)
