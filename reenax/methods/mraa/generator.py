"""From regions to a picture: pixelwise flow and the generator. Pictures are in [0, 1].

``folded`` is the inference layout of :mod:`reenax.nn.fold`, ``dtype`` the compute type (None: that of the params);
flows, masks and pictures are float32 at least.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.grids import apply_2x2, coordinate_grid
from reenax.geometry.heatmaps import covariance_heatmap, gaussian_heatmap
from reenax.geometry.sampling import antialias_downsample, warp
from reenax.methods.mraa.networks import Regions
from reenax.methods.mraa.principal_axes import relative_motion
from reenax.nn.blocks import Hourglass, run_block
from reenax.nn.conv import Conv
from reenax.nn.warping_generator import WarpingGenerator, WarpingParams

VARIANCE = 0.01  # of the heatmaps where they do not take the regions' covariances


@dataclasses.dataclass(frozen=True)
class FlowParams:
    """Sizes of the pixelwise flow predictor.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        scale_factor: size of the picture that it sees, as a share of the input's.
        use_covar_heatmap: heatmaps have the regions' covariances; else they are round.
        kernel_size: of the heads; 7 as published, 3 is faster in small models.
    """

    block_expansion: int = 64
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    use_covar_heatmap: bool = True
    kernel_size: int = 7


@dataclasses.dataclass(frozen=True)
class GeneratorParams(WarpingParams):
    """Sizes of the generator, and of the flow predictor inside it."""

    skips: bool = True
    pixelwise_flow_predictor: FlowParams = FlowParams()


class Motion(NamedTuple):
    """Where each pixel of the driving frame comes from in the source.

    Attributes:
        flow: source positions in [-1, 1], a backward flow.
        occlusion: 1 where the warped source may be kept, 0 where it must be painted.
        mask: weight of the motion of the background and of every region.
    """

    flow: Float[Array, "b i j 2"]
    occlusion: Float[Array, "b i j 1"]
    mask: Float[Array, "b i j m"]


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


class PixelwiseFlowPredictor(nn.Module):
    """Blends the motions of background and regions into one flow, and finds what is occluded.

    Attributes:
        params: sizes.
        revert_axis_swap: see :func:`sparse_motion`.
        align_corners: the convention of the warps.
        folded, dtype: see the module.
        remat: activations are computed again in the backward pass.
    """

    params: FlowParams = FlowParams()
    revert_axis_swap: bool = True
    align_corners: bool = False
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
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
        p, size = self.params, (small.shape[1], small.shape[2])
        motions = sparse_motion(source, driving, background, size, revert_axis_swap=self.revert_axis_swap)
        self.sow("intermediates", "sparse_motions", motions)
        batch, count = motions.shape[:2]
        rows = motions.reshape(batch, count * size[0], size[1], 2)
        deformed = warp(small, rows, self.align_corners).reshape(batch, count, *size, 3)
        heat = heatmap_difference(source, driving, size, use_covar_heatmap=p.use_covar_heatmap)
        self.sow("intermediates", "heatmap_difference", heat)
        # per motion first the heatmap, then the colours: the channel order of the published kernels
        parts = jnp.concatenate([heat[..., None], deformed.transpose(0, 2, 3, 1, 4)], axis=-1)
        hourglass = Hourglass(
            p.block_expansion, p.num_blocks, p.max_features, folded=self.folded, dtype=self.dtype, name="hourglass"
        )
        features = run_block(hourglass, parts.reshape(batch, *size, 4 * count), train, self.remat)
        mask = nn.softmax(wide(Conv(count, p.kernel_size, dtype=self.dtype, name="mask")(features)))
        occlusion = nn.sigmoid(wide(Conv(1, p.kernel_size, dtype=self.dtype, name="occlusion")(features)))
        flow = (mask.transpose(0, 3, 1, 2)[..., None] * motions).sum(axis=1)
        return Motion(flow, occlusion, mask)


class Encoded(NamedTuple):
    """A source made ready to be animated any number of times.

    Attributes:
        picture: the source in [0, 1].
        small: the source at the flow predictor's size.
        levels: features of the encoder, largest first.
    """

    picture: Float[Array, "s h w 3"]
    small: Float[Array, "s i j 3"]
    levels: tuple[Float[Array, "s _ _ _"], ...]


class Generated(NamedTuple):
    """What the generator makes.

    Attributes:
        prediction: the driving frame with the source's looks, in [0, 1].
        deformed: the source warped and nothing painted.
        motion: how it was warped.
    """

    prediction: Float[Array, "b h w 3"]
    deformed: Float[Array, "b h w 3"]
    motion: Motion


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
            self.revert_axis_swap,
            self.align_corners,
            folded=self.folded,
            dtype=self.dtype,
            remat=self.remat,
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
        scale = self.params.pixelwise_flow_predictor.scale_factor
        return Encoded(source, antialias_downsample(source, scale), self.features(source, train=train))

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
        made = self.paint(encoded.levels, encoded.picture, motion.flow, motion.occlusion, train=train)
        return Generated(made.prediction, made.deformed, motion)
