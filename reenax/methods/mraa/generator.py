"""From regions to a picture: pixelwise flow and the generator. Pictures are in [0, 1].

``folded`` is the inference layout of :mod:`reenax.nn.fold`, ``dtype`` the compute type (None: that of the params);
flows, masks and pictures are float32 at least.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.grids import apply_2x2, coordinate_grid
from reenax.geometry.heatmaps import covariance_heatmap, gaussian_heatmap
from reenax.methods.mraa.networks import Regions
from reenax.methods.mraa.principal_axes import relative_motion
from reenax.nn.motion_blend import Motion, MotionBlend, MotionParams
from reenax.nn.warping_generator import Encoded, Generated, WarpingGenerator, WarpingParams

VARIANCE = 0.01  # of the heatmaps where they do not take the regions' covariances


@dataclasses.dataclass(frozen=True)
class FlowParams(MotionParams):
    """Sizes of the pixelwise flow predictor.

    Attributes:
        use_covar_heatmap: heatmaps have the regions' covariances; else they are round.
        others: see the parent.
    """

    use_covar_heatmap: bool = True


@dataclasses.dataclass(frozen=True)
class GeneratorParams(WarpingParams):
    """Sizes of the generator, and of the flow predictor inside it."""

    skips: bool = True
    pixelwise_flow_predictor: FlowParams = FlowParams()


def sparse_motion(
    source: Regions,
    driving: Regions,
    background: Float[Array, "b 3 3"] | None,
    size: tuple[int, int],
    *,
    revert_axis_swap: bool,
) -> Float[Array, "b m {size[0]} {size[1]} 2"]:
    """Source positions in [-1, 1] of every driving pixel under the motion of the background and of every region.

    ``T_0(z) = (q_0, q_1) / q_2`` with ``q = B (z, 1)``, and ``T_r(z) = mu_r^S + A_r^S (A_r^D)^-1 (z - mu_r^D)``.

    Args:
        source, driving: regions of both frames; the source's may be one sample for a batch.
        background: homogeneous matrices; None leaves the background where it is.
        size: height and width of the grid.
        revert_axis_swap: see :func:`reenax.methods.mraa.principal_axes.without_axis_swap`.
    """
    grid = coordinate_grid(*size, dtype=driving.shift.dtype)[None, None]
    frames = relative_motion(source.affine, driving.affine, revert_axis_swap=revert_axis_swap)
    offset = grid - driving.shift[:, :, None, None]
    offset = apply_2x2(jnp.broadcast_to(frames[:, :, None, None], (*offset.shape, 2)), offset)
    moved = offset + source.shift[:, :, None, None]
    still = jnp.broadcast_to(grid, (moved.shape[0], 1, *grid.shape[2:]))
    if background is not None:
        matrix = background[:, None, None, None]
        ahead = (matrix[..., :2] * still[..., None, :]).sum(axis=-1) + matrix[..., 2]
        still = ahead[..., :2] / ahead[..., 2:]
    return jnp.concatenate([still, moved], axis=1)


def heatmap_difference(
    source: Regions, driving: Regions, size: tuple[int, int], *, use_covar_heatmap: bool
) -> Float[Array, "b {size[0]} {size[1]} m"]:
    """Zeros for the background, and per region the Gaussian of the driving frame less that of the source."""

    def drawn(regions: Regions) -> Float[Array, "b h w r"]:
        if use_covar_heatmap:
            return covariance_heatmap(regions.shift, regions.covar, size)
        return gaussian_heatmap(regions.shift, size, VARIANCE)

    return jnp.pad(drawn(driving) - drawn(source), ((0, 0), (0, 0), (0, 0), (1, 0)))


class PixelwiseFlowPredictor(MotionBlend):
    """Blends the motions of background and regions into one flow, and finds what is occluded.

    Attributes:
        revert_axis_swap: see :func:`sparse_motion`.
        others: as in the parent.
    """

    params: FlowParams = FlowParams()
    align_corners: bool = False
    revert_axis_swap: bool = True

    def __call__(
        self,
        small: Float[Array, "s i j 3"],
        source: Regions,
        driving: Regions,
        background: Float[Array, "b 3 3"] | None,
        *,
        train: bool,
    ) -> Motion:
        """``small`` and ``source`` may be of one source for a batch of driving frames."""
        size = (small.shape[1], small.shape[2])
        motions = sparse_motion(source, driving, background, size, revert_axis_swap=self.revert_axis_swap)
        self.sow("intermediates", "sparse_motions", motions)
        heat = heatmap_difference(source, driving, size, use_covar_heatmap=self.params.use_covar_heatmap)
        self.sow("intermediates", "heatmap_difference", heat)
        return self.blend(small, motions, heat, train=train)


class Generator(WarpingGenerator):
    """Warps every level of the source's features by the pixelwise flow and paints what is occluded.

    Attributes:
        revert_axis_swap: see :func:`sparse_motion`.
        others: as in the base class; ``align_corners`` is False in the published checkpoints.
    """

    params: GeneratorParams = GeneratorParams()
    align_corners: bool = False
    revert_axis_swap: bool = True

    def setup(self) -> None:
        super().setup()
        self.pixelwise_flow_predictor = PixelwiseFlowPredictor(
            self.params.pixelwise_flow_predictor,
            self.align_corners,
            self.folded,
            self.dtype,
            self.remat,
            self.revert_axis_swap,
        )

    def __call__(
        self,
        source: Float[Array, "b h w 3"],
        source_regions: Regions,
        driving_regions: Regions,
        background: Float[Array, "b 3 3"] | None,
        *,
        train: bool,
    ) -> Generated:
        """The source moved from its own regions to the driving ones, before a moving background."""
        encoded = self.encode(source, train=train)
        return self.decode(encoded, source_regions, driving_regions, background, train=train)

    def encode(self, source: Float[Array, "s h w 3"], *, train: bool) -> Encoded:
        """The part that depends on the source alone."""
        return self.encoded(source, self.params.pixelwise_flow_predictor.scale_factor, train=train)

    def decode(
        self,
        encoded: Encoded,
        source_regions: Regions,
        driving_regions: Regions,
        background: Float[Array, "b 3 3"] | None,
        *,
        train: bool,
    ) -> Generated:
        """The part that depends on the driving frame; one encoded source may serve a batch of driving frames."""
        motion = self.pixelwise_flow_predictor(encoded.small, source_regions, driving_regions, background, train=train)
        return self.painted(encoded, motion, train=train)
