"""The geometry-aware generator (section 3.3): a person's face from one picture of it and a picture of landmarks.

The picture is halved twice, nine residual blocks change it, and it is doubled twice. Every third block also sees the
landmarks. What comes before the first of these depends on the person alone and is computed once for a whole video.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.nn.conv import Conv, ConvTranspose
from reenax.nn.norm import InstanceNorm
from reenax.nn.patchgan import PatchGAN

INIT = nn.initializers.normal(0.02)
ZEROS = nn.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class GeneratorParams:
    """Sizes of the generator; the defaults are the published ones.

    Attributes:
        features: channels of the first convolution; every halving doubles them.
        down_blocks: how often the picture is halved; landmarks are drawn at the smallest size.
        blocks: residual blocks.
        landmark_every: each block so many blocks apart sees the landmarks, the first of them after so many.
        landmark_features: channels that the landmarks' picture becomes.
        dropout: share of the features that training drops in every block.
        bias_with_norm: whether convolutions in front of a norm have a bias, which only published checkpoints need: the
            norm takes it out again.
        residual: what is painted is added to the person's picture, at first nothing. Not published: small models keep
            what does not move.
    """

    features: int = 64
    down_blocks: int = 2
    blocks: int = 9
    landmark_every: int = 3
    landmark_features: int = 16
    dropout: float = 0.5
    bias_with_norm: bool = True
    residual: bool = False


@dataclasses.dataclass(frozen=True)
class DiscriminatorParams:
    """Sizes of the patch discriminator.

    Attributes:
        features: channels of the first convolution; every further one doubles them up to eight times as many.
        layers: how many convolutions halve the picture.
        bias_with_norm: as in :class:`GeneratorParams`.
    """

    features: int = 64
    layers: int = 3
    bias_with_norm: bool = True


def patch_discriminator(params: DiscriminatorParams, dtype: Any = None) -> PatchGAN:
    """The discriminator of pix2pix with the instance norm of the generator."""
    inits: Any = {"kernel_init": INIT, "bias_init": ZEROS}
    return PatchGAN(params.features, params.layers, "instance", params.bias_with_norm, dtype, **inits)


def _reflected(x: Float[Array, "b h w c"], margin: int) -> Float[Array, "b _ _ c"]:
    """Mirrored at the borders, whose pixels are not repeated."""
    return jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")


class Block(nn.Module):
    """Two convolutions, and a third one instead of the plain shortcut; nothing is rectified behind their sum.

    Attributes:
        features: channels that come out.
        params: of the generator.
        dtype: compute type.
    """

    features: int
    params: GeneratorParams = GeneratorParams()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w {self.features}"]:
        layer = {"use_bias": self.params.bias_with_norm, "dtype": self.dtype, "kernel_init": INIT, "bias_init": ZEROS}
        norm = InstanceNorm(affine=False, dtype=self.dtype)
        shortcut = norm(Conv(self.features, 3, **layer, name="shortcut")(x))
        y = nn.relu(norm(Conv(self.features, 3, padding=0, **layer, name="conv_0")(_reflected(x, 1))))
        y = nn.Dropout(self.params.dropout)(y, deterministic=not train)
        return shortcut + norm(Conv(self.features, 3, padding=0, **layer, name="conv_1")(_reflected(y, 1)))


class GeometryAwareGenerator(nn.Module):
    """GAG.

    Attributes:
        params: sizes.
        dtype: compute type.
        remat: compute the blocks again in the backward pass.
    """

    params: GeneratorParams = GeneratorParams()
    dtype: Any = None
    remat: bool = False

    def setup(self) -> None:
        p = self.params
        layer = {"use_bias": p.bias_with_norm, "dtype": self.dtype, "kernel_init": INIT, "bias_init": ZEROS}
        widths = [p.features * 2**i for i in range(p.down_blocks + 1)]
        self.first = Conv(p.features, 7, padding=0, **layer)
        self.down = [Conv(width, 3, padding=1, stride=2, **layer) for width in widths[1:]]
        geometry = (p.landmark_features // 2, p.landmark_features, p.landmark_features)
        self.landmark = [Conv(width, 3, **layer) for width in geometry]
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        self.block = [block(widths[-1], p, self.dtype) for _ in range(p.blocks)]
        self.up = [ConvTranspose(width, 3, output_padding=1, **layer) for width in reversed(widths[:-1])]
        outward = {"use_bias": True, "kernel_init": ZEROS if p.residual else INIT}
        self.last = Conv(3, 7, padding=0, **{**layer, **outward})
        self.norm = InstanceNorm(affine=False, dtype=self.dtype)

    def _sees_landmarks(self, block: int) -> bool:
        return block % self.params.landmark_every == self.params.landmark_every - 1

    @property
    def _blind(self) -> int:
        """How many blocks come before the landmarks."""
        return min(self.params.landmark_every - 1, self.params.blocks)

    def encode(self, picture: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """Features of a person's picture in [-1, 1], before the landmarks come in."""
        x = nn.relu(self.norm(self.first(_reflected(picture, 3))))
        for conv in self.down:
            x = nn.relu(self.norm(conv(x)))
        for block in self.block[: self._blind]:
            x = block(x, train)
        return x

    def decode(
        self,
        features: Float[Array, "n y x c"],
        picture: Float[Array, "n h w 3"],
        landmarks: Float[Array, "b y x 3"],
        *,
        train: bool,
    ) -> Float[Array, "b h w 3"]:
        """Pictures in [-1, 1] from one person for all, or one person each, and landmark maps.

        Args:
            features: what :meth:`encode` made of ``picture``.
            picture: only read where it is added to.
            landmarks: see :meth:`__call__`.
            train: see :meth:`__call__`.
        """
        geometry = landmarks
        for i, conv in enumerate(self.landmark):
            geometry = self.norm(conv(nn.relu(geometry) if i else geometry))
        x = jnp.broadcast_to(features, (landmarks.shape[0], *features.shape[1:]))
        for i, block in enumerate(self.block[self._blind :], start=self._blind):
            x = block(jnp.concatenate([x, geometry], axis=-1) if self._sees_landmarks(i) else x, train)
        for conv in self.up:
            x = nn.relu(self.norm(conv(x)))
        made = jnp.tanh(wide(self.last(_reflected(x, 3))))
        return jnp.clip(picture + 2 * made, -1, 1) if self.params.residual else made

    def __call__(
        self, picture: Float[Array, "b h w 3"], landmarks: Float[Array, "b y x 3"], *, train: bool
    ) -> Float[Array, "b h w 3"]:
        """The person of the picture with the expression and pose of the landmarks.

        Args:
            picture: in [-1, 1].
            landmarks: drawn by `reenax.methods.freenet.landmark_map`, as large as the picture after all halvings.
            train: whether features are dropped, by the random stream "dropout".
        """
        return self.decode(self.encode(picture, train=train), picture, landmarks, train=train)
