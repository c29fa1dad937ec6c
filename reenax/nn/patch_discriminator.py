"""Patch discriminators of the keypoint family, one or one per scale of an image pyramid."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.heatmaps import gaussian_heatmap
from reenax.nn.conv import SpectralConv
from reenax.nn.norm import InstanceNorm

KEYPOINT_VARIANCE = 0.01  # of the heatmaps that a discriminator sees, in units of [-1, 1] squared


@dataclasses.dataclass(frozen=True)
class PatchParams:
    """Sizes of one patch discriminator.

    Attributes:
        block_expansion, num_blocks, max_features: block i has ``min(max_features, block_expansion * 2 ** (i + 1))``.
        sn: spectral normalisation of every convolution.
        pool_last: whether the last block averages 2x2 pixels too, as all others do.
    """

    block_expansion: int = 32
    num_blocks: int = 4
    max_features: int = 512
    sn: bool = True
    pool_last: bool = False


@dataclasses.dataclass(frozen=True)
class PyramidParams(PatchParams):
    """Sizes of the patch discriminators of a pyramid.

    Attributes:
        use_kp: heatmaps of the driving keypoints are appended to the picture.
        scales: one discriminator per scale of the image pyramid; none without a scale.
    """

    use_kp: bool = False
    scales: tuple[float, ...] = (1.0,)


class Judged(NamedTuple):
    """One discriminator's verdict.

    Attributes:
        features: of every block.
        score: one number per patch, 1 for real.
    """

    features: list[Float[Array, "b _ _ _"]]
    score: Float[Array, "b y x 1"]


class _PatchBlock(nn.Module):
    """4x4 convolution without padding, instance norm, leaky ReLU, and where asked the average of 2x2 pixels."""

    features: int
    norm: bool
    pool: bool
    sn: bool
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b y x d"]:
        x = SpectralConv(self.features, 4, padding=0, spectral=self.sn, dtype=self.dtype, name="conv")(x, train=train)
        if self.norm:
            x = InstanceNorm(dtype=self.dtype, name="norm")(x)
        x = nn.leaky_relu(x, 0.2)
        return nn.avg_pool(x, (2, 2), strides=(2, 2)) if self.pool else x


class PatchDiscriminator(nn.Module):
    """A patch discriminator of one scale.

    Attributes:
        params: sizes.
        dtype: compute type; None takes the widest of input and params.
    """

    params: PatchParams
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w c"], *, train: bool) -> Judged:
        p, x, features = self.params, picture, []
        for i in range(p.num_blocks):
            width = min(p.max_features, p.block_expansion * 2 ** (i + 1))
            pool = p.pool_last or i < p.num_blocks - 1
            block = _PatchBlock(width, i > 0, pool, p.sn, self.dtype, name=f"down_blocks_{i}")
            x = block(x, train=train)
            features.append(x)
        score = SpectralConv(1, 1, padding=0, spectral=p.sn, dtype=self.dtype, name="conv")(x, train=train)
        return Judged([wide(f) for f in features], wide(score))


class PyramidDiscriminator(nn.Module):
    """One patch discriminator per scale of an image pyramid.

    Attributes:
        params: sizes.
        dtype: compute type; None takes the widest of input and params.
    """

    params: PyramidParams = PyramidParams()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        pyramid: Sequence[Float[Array, "b _ _ 3"]],
        keypoints: Float[Array, "b k 2"] | None,
        *,
        train: bool,
    ) -> list[Judged]:
        """Judges pictures in [0, 1], one per scale; ``keypoints`` are the driving ones where ``use_kp`` is set."""
        judged = []
        for scale, picture in zip(self.params.scales, pyramid, strict=True):
            if self.params.use_kp:
                assert keypoints is not None
                heat = gaussian_heatmap(keypoints, (picture.shape[1], picture.shape[2]), KEYPOINT_VARIANCE)
                picture = jnp.concatenate([picture, heat.astype(picture.dtype)], axis=-1)
            name = f"discs_{format(scale, 'g').replace('.', '-')}"
            judged.append(PatchDiscriminator(self.params, self.dtype, name=name)(picture, train=train))
        return judged
