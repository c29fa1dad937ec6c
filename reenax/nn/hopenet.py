"""Hopenet, which reads head pose from a picture (Ruiz, Chong and Rehg, CVPR workshops 2018): a frozen ResNet-50.

Its batch norms are folded into scales and shifts, since a frozen network has no statistics; else modules have the names
of the published file. Weights come from a file that the user has, see :mod:`reenax.interop.hopenet`.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from reenax.core.types import Collections, FrozenNetwork
from reenax.geometry.sampling import resize_bilinear
from reenax.nn.conv import Conv
from reenax.nn.norm import Affine
from reenax.nn.vgg import MEAN, STD

SIDE = 224
BLOCKS = (3, 4, 6, 3)
NUM_BINS = 66
ANGLES = ("yaw", "pitch", "roll")


class Bottleneck(nn.Module):
    """1x1 to a number of channels, 3x3, 1x1 to four times as many; the shortcut is convolved where shapes change.

    Attributes:
        features: channels of the inner convolutions.
        stride: of the 3x3 convolution and of the shortcut.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j d"]:
        y = nn.relu(Affine(name="bn1")(Conv(self.features, 1, use_bias=False, name="conv1")(x)))
        y = Conv(self.features, 3, 1, self.stride, use_bias=False, name="conv2")(y)
        y = nn.relu(Affine(name="bn2")(y))
        y = Affine(name="bn3")(Conv(4 * self.features, 1, use_bias=False, name="conv3")(y))
        if x.shape[-1] != y.shape[-1] or self.stride > 1:
            x = Conv(y.shape[-1], 1, 0, self.stride, use_bias=False, name="downsample_0")(x)
            x = Affine(name="downsample_1")(x)
        return nn.relu(x + y)


class Hopenet(nn.Module):
    """Yaw, pitch and roll as logits of 66 bins of three degrees, the first at -99."""

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b 66"]]:
        """Of pictures in [0, 1] of any size; they are resized to 224x224 (bilinear, no anti-aliasing)."""
        mean, deviation = (jnp.asarray(v, picture.dtype)[None, None, None] for v in (MEAN, STD))
        x = (resize_bilinear(picture, (SIDE, SIDE)) - mean) / deviation
        x = nn.relu(Affine(name="bn1")(Conv(64, 7, 3, 2, use_bias=False, name="conv1")(x)))
        x = nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2))  # nothing is below 0
        for layer, blocks in enumerate(BLOCKS):
            for i in range(blocks):
                stride = 2 if layer and not i else 1
                x = Bottleneck(64 * 2**layer, stride, name=f"layer{layer + 1}_{i}")(x)
        x = x.mean(axis=(1, 2))
        return {name: nn.Dense(NUM_BINS, precision="highest", name=f"fc_{name}")(x) for name in ANGLES}


def frozen_hopenet() -> FrozenNetwork:
    """Hopenet as a frozen network of a method."""

    def init(rng: Key[Array, ""]) -> Collections:
        return Hopenet().init(rng, jnp.zeros((1, SIDE, SIDE, 3)))

    return FrozenNetwork(kind="hopenet", init=init)
