"""The networks of First Order Motion: keypoint detector, dense motion, generator.

All take pictures in [0, 1]. Submodules are called as in the published checkpoints. ``folded`` is the inference
layout of :mod:`reenax.nn.fold`; ``dtype`` the compute type (None: that of the params); keypoints, flows, masks and
whatever leaves a network are float32 at least.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.grids import apply_2x2, coordinate_grid, inverse_2x2, matmul_2x2
from reenax.geometry.heatmaps import expectation, expected_points, gaussian_heatmap, spatial_softmax
from reenax.geometry.sampling import antialias_downsample
from reenax.nn.blocks import Hourglass, run_block
from reenax.nn.conv import Conv
from reenax.nn.motion_blend import Motion, MotionBlend, MotionParams
from reenax.nn.warping_generator import Encoded, Generated, WarpingGenerator, WarpingParams

KEYPOINT_VARIANCE = 0.01  # of every heatmap that is drawn around a keypoint, in units of [-1, 1] squared


class Keypoints(NamedTuple):
    """Keypoints with the local affine frames around them.

    Attributes:
        value: positions (x, y) in [-1, 1].
        jacobian: the frames; None for a model of pure translations.
    """

    value: Float[Array, "b k 2"]
    jacobian: Float[Array, "b k 2 2"] | None


@dataclasses.dataclass(frozen=True)
class DetectorParams:
    """Sizes of the keypoint detector.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        scale_factor: size of the picture that the hourglass sees, as a share of the input's.
        temperature: of the spatial softmax.
        single_jacobian_map: one map of frames for all keypoints (moving cartoons).
        kernel_size: of the two heads; 7 as published, 3 is faster in small models.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    temperature: float = 0.1
    single_jacobian_map: bool = False
    kernel_size: int = 7


@dataclasses.dataclass(frozen=True)
class GeneratorParams(WarpingParams):
    """Sizes of the generator.

    Attributes:
        dense_motion: the network that finds flow and occlusion.
        others: see the parent.
    """

    dense_motion: MotionParams = dataclasses.field(default_factory=MotionParams)


class KeypointDetector(nn.Module):
    """Finds keypoints without labels: soft positions of heatmaps, and frames averaged under them (section 3.1).

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        estimate_jacobian: whether there are frames.
        folded, dtype, remat: see the module.
    """

    num_kp: int
    params: DetectorParams = DetectorParams()
    estimate_jacobian: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> Keypoints:
        p = self.params
        small = antialias_downsample(picture, p.scale_factor)
        hourglass = Hourglass(
            p.block_expansion, p.num_blocks, p.max_features, folded=self.folded, dtype=self.dtype, name="predictor"
        )
        features = run_block(hourglass, small, train, self.remat)
        # The heads have no padding: the map is smaller than the picture, and its grid is not corrected for it.
        head = {"kernel_size": p.kernel_size, "padding": 0, "dtype": self.dtype}
        logits = wide(Conv(self.num_kp, name="kp", **head)(features))
        heatmap = spatial_softmax(logits, p.temperature)
        self.sow("intermediates", "heatmap", heatmap)
        value = expected_points(heatmap)
        if not self.estimate_jacobian:
            return Keypoints(value, None)
        maps = 1 if p.single_jacobian_map else self.num_kp
        frames = wide(
            Conv(4 * maps, name="jacobian", kernel_init=nn.initializers.zeros, bias_init=_identity, **head)(features)
        )
        frames = frames.reshape(*frames.shape[:3], maps, 4)
        return Keypoints(value, expectation(heatmap, frames).reshape(-1, self.num_kp, 2, 2))


def _identity(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """The bias of the Jacobian head: every frame starts as the identity."""
    return jnp.tile(jnp.asarray([1, 0, 0, 1], dtype), shape[0] // 4)


def sparse_motion(
    source: Keypoints, driving: Keypoints, size: tuple[int, int]
) -> Float[Array, "b m {size[0]} {size[1]} 2"]:
    """T_0(z) = z, the background, and T_k(z) = p_k^S + J_k^S (J_k^D)^-1 (z - p_k^D) for every keypoint (equation 4)."""
    grid = coordinate_grid(*size, dtype=driving.value.dtype)[None, None]
    offset = grid - driving.value[:, :, None, None]
    if source.jacobian is not None and driving.jacobian is not None:
        frames = matmul_2x2(*jnp.broadcast_arrays(source.jacobian, inverse_2x2(driving.jacobian)))
        offset = apply_2x2(jnp.broadcast_to(frames[:, :, None, None], (*offset.shape, 2)), offset)
    moved = offset + source.value[:, :, None, None]
    return jnp.concatenate([jnp.broadcast_to(grid, (moved.shape[0], 1, *grid.shape[2:])), moved], axis=1)


def heatmap_difference(
    source: Keypoints, driving: Keypoints, size: tuple[int, int]
) -> Float[Array, "b {size[0]} {size[1]} m"]:
    """Zeros for the background, and per keypoint the Gaussian at its driving less that at its source position."""
    drawn = (gaussian_heatmap(kp.value, size, KEYPOINT_VARIANCE) for kp in (driving, source))
    difference = jnp.subtract(*drawn)
    return jnp.pad(difference, ((0, 0), (0, 0), (0, 0), (1, 0)))


class DenseMotion(MotionBlend):
    """Blends the motions of background and keypoints into one flow (section 3.2). Attributes as in the parent."""

    def __call__(
        self, small: Float[Array, "s i j 3"], kp_source: Keypoints, kp_driving: Keypoints, *, train: bool
    ) -> Motion:
        """``small`` and ``kp_source`` may be of one source for a batch of driving frames."""
        size = (small.shape[1], small.shape[2])
        motions = sparse_motion(kp_source, kp_driving, size)
        return self.blend(small, motions, heatmap_difference(kp_source, kp_driving, size), train=train)


class Generator(WarpingGenerator):
    """The warping generator with the network that finds its flow (section 3.3). Attributes as in the parent."""

    params: GeneratorParams = GeneratorParams()

    def setup(self) -> None:
        super().setup()
        self.dense_motion_network = DenseMotion(
            self.params.dense_motion, self.align_corners, self.folded, self.dtype, self.remat
        )

    def __call__(
        self, source: Float[Array, "b h w 3"], kp_source: Keypoints, kp_driving: Keypoints, *, train: bool
    ) -> Generated:
        """The source (in [0, 1]) moved from its own keypoints to the driving ones."""
        return self.decode(self.encode(source, train=train), kp_source, kp_driving, train=train)

    def encode(self, source: Float[Array, "s h w 3"], *, train: bool) -> Encoded:
        """The part that depends on the source alone."""
        return self.encoded(source, self.params.dense_motion.scale_factor, train=train)

    def decode(self, encoded: Encoded, kp_source: Keypoints, kp_driving: Keypoints, *, train: bool) -> Generated:
        """The part that depends on the driving frame; one encoded source may serve a batch of driving frames."""
        motion = self.dense_motion_network(encoded.small, kp_source, kp_driving, train=train)
        return self.painted(encoded, motion, train=train)
