"""Motion transfer: the driver's keypoints carried over to a source that is encoded once (section 3.5).

The source's keypoints and the encoder's levels are computed when the reenactor is built. A batch of driving frames then
needs the detector and, in the folded layout of `reenax.nn.fold`, the dense motion network and the decoder.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.reenact import TRANSFER_OPTIONS, transferring_reenactor
from reenax.core.types import Drive, Option, Reenactor, Source, Variables
from reenax.geometry.grids import inverse_2x2, matmul_2x2
from reenax.geometry.transfer import movement_scale, relative_points
from reenax.methods.monkey_net.embedding import Keypoints
from reenax.methods.monkey_net.game import Game
from reenax.methods.monkey_net.networks import Encoded, Generator, KeypointDetector
from reenax.nn.fold import fold

SMALLEST = 1e-6  # what an eigenvalue that is not positive becomes
OPTIONS = {
    **TRANSFER_OPTIONS,
    "clip_mean": Option(False, "keep the moved keypoints inside the picture (relative motion only)"),
    "adapt_variance": Option(
        False,
        "change the source's ellipses as the driver's change, instead of taking the driver's (relative motion only)",
    ),
}

_fold = jax.jit(fold)


class Prepared(NamedTuple):
    """All that depends on the source alone.

    Attributes:
        encoded: by the generator.
        keypoints: of the source.
    """

    encoded: Encoded
    keypoints: Keypoints


def relative_keypoints(
    source: Keypoints,
    driving: Keypoints,
    anchor: Keypoints,
    scale: Float[Array, ""] | float = 1.0,
    *,
    clip_mean: bool = False,
    adapt_variance: bool = False,
) -> Keypoints:
    """The source's keypoints, moved as the driver's have moved since the anchor frame.

    ``mu = mu^S + scale (mu^D_t - mu^D_0)``. Source and anchor may be one sample for a batch of driving frames.

    Args:
        source, driving, anchor: keypoints.
        scale: of the movement.
        clip_mean: whether keypoints are kept inside the picture.
        adapt_variance: whether the covariance is the source's, changed as the driver's has changed, and not simply the
            driver's: ``S^D_t (S^D_0)^-1 S^S``, made symmetric and positive definite.
    """
    mean = relative_points(source.mean, driving.mean, anchor.mean, scale)
    mean = jnp.clip(mean, -1, 1) if clip_mean else mean
    if not adapt_variance:
        return Keypoints(mean, driving.covariance)
    carried = matmul_2x2(inverse_2x2(anchor.covariance), source.covariance)
    carried = jnp.broadcast_to(carried, driving.covariance.shape)
    return Keypoints(mean, positive(matmul_2x2(driving.covariance, carried)))


def positive(matrix: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The symmetric part, with eigenvalues that are not positive replaced by `SMALLEST`."""
    values, vectors = jnp.linalg.eigh((matrix + jnp.swapaxes(matrix, -1, -2)) / 2)
    values = jnp.where(values > 0, values, SMALLEST)
    return matmul_2x2(vectors * values[..., None, :], jnp.swapaxes(vectors, -1, -2))


class KeypointAnimator(NamedTuple):
    """The networks of an animation; hashable, so that one compiled program serves every source.

    Attributes:
        detector: not folded: it takes a small part of the time, and the warp magnifies its keypoints' rounding.
        generator: in the folded layout.
        clip_mean, adapt_variance: see `relative_keypoints`.
    """

    detector: KeypointDetector
    generator: Generator
    clip_mean: bool = False
    adapt_variance: bool = False

    def prepare(self, variables: Variables, source: Float[Array, "1 h w 3"]) -> Prepared:
        """The source, in [-1, 1], made ready."""
        encoded: Any = self.generator.apply(variables["generator"], to_unit(source), train=False, method="encode")
        return Prepared(encoded, self.read(variables, None, source))

    def read(self, variables: Variables, prepared: Prepared | None, frames: Float[Array, "b h w 3"]) -> Keypoints:
        """Keypoints of frames in [-1, 1]."""
        found: Any = self.detector.apply(variables["kp_detector"], to_unit(frames), train=False)
        return found

    def scale(self, prepared: Prepared, anchor: Keypoints) -> float:
        """How much larger the source's keypoints spread than the driver's.

        Raises:
            UserError: the driver's keypoints lie on one line.
        """
        return movement_scale(prepared.keypoints.mean[0], anchor.mean[0])

    def animate(
        self,
        variables: Variables,
        prepared: Prepared,
        motion: Keypoints,
        anchor: Keypoints | None,
        scale: Float[Array, ""],
    ) -> Float[Array, "b h w 3"]:
        """Frames in [-1, 1] of the source moved to keypoints, or by their change since an anchor."""
        if anchor is not None:
            options = {"clip_mean": self.clip_mean, "adapt_variance": self.adapt_variance}
            motion = relative_keypoints(prepared.keypoints, motion, anchor, scale, **options)
        made: Any = self.generator.apply(
            variables["generator"], prepared.encoded, prepared.keypoints, motion, train=False, method="decode"
        )
        return from_unit(made.prediction)


def folded(variables: Variables) -> dict[str, Any]:
    """Detector as it is and generator in the layout of inference, as `KeypointAnimator` reads them."""
    return {**variables, "generator": _fold(variables["generator"])}


def reenactor(
    game: Game,
    variables: Variables,
    source: Source,
    *,
    anchor: Drive | None = None,
    mode: str = "relative",
    adapt_scale: bool = False,
    clip_mean: bool = False,
    adapt_variance: bool = False,
) -> Reenactor:
    """From driving frames to animated frames: see `reenax.core.reenact.transferring_reenactor` and `OPTIONS`.

    Raises:
        UserError: an unknown mode, relative motion without an anchor, or an option of relative motion without it.
    """
    if mode == "absolute" and (clip_mean or adapt_variance):
        raise UserError('clip_mean and adapt_variance change relative motion; leave them out with mode "absolute"')
    animator = KeypointAnimator(game.kp_detector, game.generator.clone(folded=True), clip_mean, adapt_variance)
    return transferring_reenactor(animator, folded(variables), source, anchor, mode=mode, adapt_scale=adapt_scale)
