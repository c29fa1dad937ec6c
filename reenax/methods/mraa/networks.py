"""The networks that read motion: region predictor, background predictor, and the network that swaps shapes.

All take pictures in [0, 1]. Submodules are called as in the published checkpoints. ``dtype`` is the compute type (None:
that of the params); regions, motions and whatever leaves a network are float32 at least.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.precision import wide
from reenax.geometry.grids import matmul_2x2
from reenax.geometry.heatmaps import expectation, expected_covariance, expected_points, spatial_softmax
from reenax.geometry.sampling import antialias_downsample
from reenax.methods.mraa.principal_axes import lifted, principal_axes, relative_motion
from reenax.nn.blocks import Encoder, Hourglass, run_block
from reenax.nn.conv import Conv, uniform_fan_in
from reenax.nn.norm import BatchNorm


class Regions(NamedTuple):
    """Moving parts of a frame; coordinates are (x, y) in [-1, 1].

    Attributes:
        shift: where they are.
        covar: how far they reach: the covariance of their heatmap.
        affine: the frame that their pixels move with, ``affine affine^T = covar``.
    """

    shift: Float[Array, "b r 2"]
    covar: Float[Array, "b r 2 2"]
    affine: Float[Array, "b r 2 2"]


@dataclasses.dataclass(frozen=True)
class RegionParams:
    """Sizes of the region predictor.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        scale_factor: size of the picture that the hourglass sees, as a share of the input's.
        temperature: of the spatial softmax.
        pca_based: frames are the principal axes of the heatmaps. Without it they are regressed, as First Order Motion
            does, from one map for all regions.
        pad: zeros around the features before the heads. 3 keeps the size; without them the map is smaller than the
            picture, and its coordinates are not corrected for it.
        kernel_size: of the heads; 7 as published, 3 is faster in small models.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    temperature: float = 0.1
    pca_based: bool = True
    pad: int = 3
    kernel_size: int = 7


class RegionPredictor(nn.Module):
    """Finds regions without labels: mean and covariance of heatmaps (section 3.2).

    Attributes:
        num_regions: number of regions.
        params: sizes.
        dtype: see the module.
        remat: activations are computed again in the backward pass.
    """

    num_regions: int
    params: RegionParams = RegionParams()
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> Regions:
        p = self.params
        small = antialias_downsample(picture, p.scale_factor)
        self.sow("intermediates", "down", small)
        hourglass = Hourglass(p.block_expansion, p.num_blocks, p.max_features, dtype=self.dtype, name="predictor")
        features = run_block(hourglass, small, train, self.remat)
        head = {"kernel_size": p.kernel_size, "padding": p.pad, "dtype": self.dtype}
        heatmap = spatial_softmax(wide(Conv(self.num_regions, name="regions", **head)(features)), p.temperature)
        self.sow("intermediates", "heatmap", heatmap)
        shift = expected_points(heatmap)
        if p.pca_based:
            covar = lifted(expected_covariance(heatmap, shift))
            return Regions(shift, covar, principal_axes(covar))
        frames = Conv(4, name="jacobian", kernel_init=nn.initializers.zeros, bias_init=_identity_frame, **head)
        affine = expectation(heatmap, wide(frames(features))[..., None, :]).reshape(-1, self.num_regions, 2, 2)
        return framed(shift, affine)


def framed(shift: Float[Array, "b r 2"], affine: Float[Array, "b r 2 2"]) -> Regions:
    """Regions whose covariance follows from their frame."""
    return Regions(shift, lifted(matmul_2x2(affine, jnp.swapaxes(affine, -1, -2))), affine)


def _identity_frame(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    return jnp.eye(2, dtype=dtype).reshape(shape)


@dataclasses.dataclass(frozen=True)
class BackgroundParams:
    """Sizes of the background predictor.

    Attributes:
        block_expansion, num_blocks, max_features: of its encoder.
        bg_type: what the background can do between two frames: "affine", "perspective", "shift", or "zero", nothing
            at all; the network does not exist then.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    bg_type: str = "affine"

    def __post_init__(self) -> None:
        if self.bg_type not in (*BACKGROUND_STARTS, "zero"):
            raise UserError(f"bg_type={self.bg_type!r} is unknown; use {', '.join(BACKGROUND_STARTS)} or zero")


# What the last layer gives before anything is learnt: no motion.
BACKGROUND_STARTS: dict[str, tuple[float, ...]] = {
    "affine": (1, 0, 0, 0, 1, 0),
    "shift": (0, 0),
    "perspective": (1, 0, 0, 0, 1, 0, 0, 0),
}


def background_matrix(numbers: Float[Array, "b n"], bg_type: str) -> Float[Array, "b 3 3"]:
    """The homogeneous matrix that takes driving coordinates to the source's.

    Args:
        numbers: "affine": the first two rows; "shift": the last column of these; "perspective": the first two rows,
            then the first two entries of the third.
        bg_type: which of these they are.
    """
    one = jnp.ones_like(numbers[:, :1])
    zero = jnp.zeros_like(one)
    if bg_type == "shift":
        rows = [one, zero, numbers[:, :1], zero, one, numbers[:, 1:], zero, zero, one]
    elif bg_type == "affine":
        rows = [numbers, zero, zero, one]
    else:
        rows = [numbers, one]
    return jnp.concatenate(rows, axis=-1).reshape(-1, 3, 3)


class BackgroundPredictor(nn.Module):
    """One motion of the background for a pair of frames (section 3.3); it begins as none.

    Attributes:
        params: sizes; of a type other than "zero".
        dtype: see the module.
        remat: activations are computed again in the backward pass.
    """

    params: BackgroundParams = BackgroundParams()
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"], *, train: bool
    ) -> Float[Array, "b 3 3"]:
        """The matrix that takes driving coordinates (x, y, 1) to the source's, up to the third."""
        p = self.params
        start = BACKGROUND_STARTS[p.bg_type]
        encoder = Encoder(p.block_expansion, p.num_blocks, p.max_features, dtype=self.dtype, name="encoder")
        levels = run_block(encoder, jnp.concatenate([source, driving], axis=-1), train, self.remat)
        code = wide(levels[-1]).mean(axis=(1, 2))
        last = nn.Dense(
            len(start),
            precision="highest",
            kernel_init=nn.initializers.zeros,
            bias_init=lambda key, shape, dtype=jnp.float32: jnp.asarray(start, dtype),
            name="fc",
        )
        return background_matrix(last(code), p.bg_type)


@dataclasses.dataclass(frozen=True)
class AVDParams:
    """Sizes of the network that disentangles shape and pose.

    Attributes:
        id_bottle_size, pose_bottle_size: of the codes of shape and pose.
        widths: of the encoders' hidden layers; the decoder has them in reverse.
    """

    id_bottle_size: int = 64
    pose_bottle_size: int = 64
    widths: tuple[int, ...] = (256, 512, 1024)


class Perceptron(nn.Module):
    """Dense layers with batch norm and ReLU between them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n"], *, train: bool) -> Float[Array, "b {self.widths[-1]}"]:
        for i, width in enumerate(self.widths):
            start: dict[str, Any] = {"kernel_init": uniform_fan_in(), "bias_init": uniform_fan_in(x.shape[-1])}
            x = nn.Dense(width, precision="highest", name=f"dense_{i}", **start)(x)
            if i < len(self.widths) - 1:
                x = nn.relu(BatchNorm(name=f"norm_{i}")(x[:, None, None], train=train)[:, 0, 0])
        return x


class AVDNetwork(nn.Module):
    """Animation via disentanglement: the shape of one set of regions in the pose of another (section 3.5).

    Its layers are a hundredth of the rest and always compute in the params' type.

    Attributes:
        num_regions: number of regions.
        params: sizes.
        revert_axis_swap: give the identity's frames the sign of the pose's first.
    """

    num_regions: int
    params: AVDParams = AVDParams()
    revert_axis_swap: bool = True

    @nn.compact
    def __call__(self, identity: Regions, pose: Regions, *, train: bool) -> Regions:
        """Regions with the shape of ``identity``, which may be one sample for all, in the pose of ``pose``."""
        p = self.params
        affine = identity.affine
        if self.revert_axis_swap:
            swapped = relative_motion(affine, pose.affine, revert_axis_swap=False)[..., :1, :1] < 0
            affine = jnp.where(swapped, -affine, affine)
        shift = jnp.broadcast_to(identity.shift, pose.shift.shape)
        shape = Perceptron((*p.widths, p.id_bottle_size), name="id_encoder")(_flat(shift, affine), train=train)
        moved = Perceptron((*p.widths, p.pose_bottle_size), name="pose_encoder")(
            _flat(pose.shift, pose.affine), train=train
        )
        codes = jnp.concatenate([moved, shape], axis=-1)
        numbers = Perceptron((*p.widths[::-1], 6 * self.num_regions), name="decoder")(codes, train=train)
        numbers = wide(numbers).reshape(-1, self.num_regions, 6)
        return framed(numbers[..., :2], numbers[..., 2:].reshape(-1, self.num_regions, 2, 2))


def _flat(shift: Float[Array, "b r 2"], affine: Float[Array, "b r 2 2"]) -> Float[Array, "b n"]:
    """Six numbers per region: x, y, and the frame row by row."""
    joined = jnp.concatenate([shift, affine.reshape(*shift.shape[:2], 4)], axis=-1)
    return joined.reshape(shift.shape[0], -1)
