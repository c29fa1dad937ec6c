"""Animation: the driver's regions for the source's, in one of three modes, before a background that stays still.

Everything that depends on the source alone is computed when the reenactor is built: its regions and the encoder's
features. The generator runs in the folded layout of `reenax.nn.fold`; every warp reads the one source without copying
it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.reenact import transferring_reenactor
from reenax.core.types import Drive, Option, Reenactor, Source, Variables
from reenax.geometry.grids import inverse_2x2, matmul_2x2
from reenax.geometry.transfer import movement_scale, relative_points
from reenax.methods.mraa.game import Game
from reenax.methods.mraa.generator import Encoded, Generator
from reenax.methods.mraa.networks import AVDNetwork, RegionPredictor, Regions
from reenax.nn.fold import fold

OPTIONS = {
    "mode": Option(
        "relative",
        "relative adds the driver's change since its first frame to the source's regions; absolute takes the driver's "
        "regions as they are; avd takes their pose and keeps the source's shape",
        ("relative", "absolute", "avd"),
    ),
    "adapt_scale": Option(True, "in relative mode, scale movement by the ratio of source's and driver's sizes"),
}

_fold = jax.jit(fold)


def relative_regions(
    source: Regions, driving: Regions, anchor: Regions, scale: Float[Array, ""] | float = 1.0
) -> Regions:
    """The source's regions, moved as the driver's have moved since the anchor frame.

    ``mu = mu^S + scale (mu_t - mu_0)`` and ``A = A_t A_0^-1 A^S``. The covariances are those of the driving frame, as
    in the published code: they say only where the heatmaps are drawn. Source and anchor may be one sample for a batch.
    """
    carried = matmul_2x2(inverse_2x2(anchor.affine), source.affine)
    affine = matmul_2x2(driving.affine, jnp.broadcast_to(carried, driving.affine.shape))
    return Regions(relative_points(source.shift, driving.shift, anchor.shift, scale), driving.covar, affine)


class Prepared(NamedTuple):
    """A source ready to be animated."""

    encoded: Encoded
    regions: Regions


class RegionAnimator(NamedTuple):
    """The networks of animation; hashable, so that one compiled program serves every source.

    Attributes:
        region_predictor: as it is trained. It is not folded: it takes a twentieth of the time, and the warp magnifies
            the rounding of its positions.
        generator: in the folded layout.
        avd_network: swaps the driver's shape for the source's; None leaves the driver's.
    """

    region_predictor: RegionPredictor
    generator: Generator
    avd_network: AVDNetwork | None

    def _regions(self, variables: Variables, frames: Float[Array, "b h w 3"]) -> Regions:
        found: Any = self.region_predictor.apply(variables["region_predictor"], to_unit(frames), train=False)
        return found

    def prepare(self, variables: Variables, source: Float[Array, "1 h w 3"]) -> Prepared:
        """Features and regions of the source."""
        encoded: Any = self.generator.apply(variables["generator"], to_unit(source), train=False, method="encode")
        return Prepared(encoded, self._regions(variables, source))

    def read(self, variables: Variables, prepared: Prepared, frames: Float[Array, "b h w 3"]) -> Regions:
        """The driver's regions, in the source's shape where there is an AVD network."""
        regions = self._regions(variables, frames)
        if self.avd_network is None:
            return regions
        swapped: Any = self.avd_network.apply(variables["avd_network"], prepared.regions, regions, train=False)
        return swapped

    def scale(self, prepared: Prepared, anchor: Regions) -> float:
        """How much larger the source is than the driver."""
        return movement_scale(prepared.regions.shift[0], anchor.shift[0])

    def animate(
        self,
        variables: Variables,
        prepared: Prepared,
        motion: Regions,
        anchor: Regions | None,
        scale: Float[Array, ""],
    ) -> Float[Array, "b h w 3"]:
        """Frames in [-1, 1]."""
        if anchor is not None:
            motion = relative_regions(prepared.regions, motion, anchor, scale)
        made: Any = self.generator.apply(
            variables["generator"], prepared.encoded, prepared.regions, motion, None, train=False, method="decode"
        )
        return from_unit(made.prediction)


def reenactor(
    game: Game,
    variables: Variables,
    source: Source,
    *,
    anchor: Drive | None = None,
    mode: str = "relative",
    adapt_scale: bool = True,
) -> Reenactor:
    """Encodes the source and returns the function from driving frames to animated frames, both in [-1, 1].

    Args:
        game: the networks.
        variables: as trained.
        source: its first picture is animated.
        anchor: the driver's first frame, or the one that looks most like the source; for mode "relative".
        mode: "relative", "absolute" (the paper's "standard") or "avd" (the paper's choice for bodies).
        adapt_scale: in relative mode, scale the motion by the ratio of source's and driver's sizes, as the published
            code always does.

    Raises:
        UserError: an unknown mode, relative motion without an anchor, mode "avd" of a model whose AVD network was never
            trained, or a driver whose regions lie on one line where scales are compared.
    """
    if mode not in OPTIONS["mode"].choices:
        raise UserError(f"mode must be one of {', '.join(OPTIONS['mode'].choices)}, got {mode!r}")
    swaps = mode == "avd"
    if swaps and _is_untrained(variables["avd_network"]):
        raise UserError(
            'mode "avd" needs a trained AVD network, and this model has none: train one with the config that ends in '
            '_avd and --warm-start, or use mode "relative" or "absolute"'
        )
    animator = RegionAnimator(
        game.region_predictor, game.generator.clone(folded=True), game.avd_network if swaps else None
    )
    folded = {**variables, "generator": _fold(variables["generator"])}
    mode = "absolute" if swaps else mode
    return transferring_reenactor(animator, folded, source, anchor, mode=mode, adapt_scale=adapt_scale)


def _is_untrained(avd_network: Any) -> bool:
    """Whether no running statistic has ever moved."""
    return all(bool((np.asarray(x) == (path[-1].key == "var")).all()) for path, x in _leaves(avd_network))


def _leaves(avd_network: Any) -> list[Any]:
    return jax.tree_util.tree_flatten_with_path(dict(avd_network["batch_stats"]))[0]
