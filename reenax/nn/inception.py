"""The Inception-v3 of the Fréchet inception distance: the one of TensorFlow's graph of 2015-12-05.

It differs from torchvision's (Szegedy et al., 2016) in its pools: averages count no padding, the last block takes a
maximum; and in its weights, of 1008 classes. Modules have the names of the published file.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from reenax.core.types import Collections, FrozenNetwork
from reenax.geometry.sampling import resize_bilinear
from reenax.nn.norm import BatchNorm

SIDE = 299
TAPS = ("pool1", "pool2", "mixed_6", "pool3")
WIDTH = 2048


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm with its running statistics, ReLU.

    Attributes:
        features: output channels.
        kernel: height and width.
        stride: step of the kernel.
        same: whether the size is kept (at stride 1); no padding otherwise.
    """

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    same: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j {self.features}"]:
        padding = [(n // 2, n // 2) for n in self.kernel] if self.same else 0
        init = nn.initializers.he_normal()
        x = nn.Conv(self.features, self.kernel, self.stride, padding, use_bias=False, kernel_init=init, name="conv")(x)
        return nn.relu(BatchNorm(epsilon=1e-3, name="bn")(x, train=False))


def _average(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return nn.avg_pool(x, (3, 3), (1, 1), padding="SAME", count_include_pad=False)


def _maximum(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return nn.max_pool(x, (3, 3), (1, 1), padding="SAME")


def _reduced(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    return nn.max_pool(x, (3, 3), (2, 2))


class MixedA(nn.Module):
    """Mixed_5b to 5d: branches of 1x1, 5x5 and two 3x3.

    Attributes:
        pooled: features of the branch behind the average.
    """

    pooled: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        single = ConvNorm(64, name="branch1x1")(x)
        five = ConvNorm(48, name="branch5x5_1")(x)
        five = ConvNorm(64, (5, 5), name="branch5x5_2")(five)
        double = ConvNorm(64, name="branch3x3dbl_1")(x)
        double = ConvNorm(96, (3, 3), name="branch3x3dbl_2")(double)
        double = ConvNorm(96, (3, 3), name="branch3x3dbl_3")(double)
        pooled = ConvNorm(self.pooled, name="branch_pool")(_average(x))
        return jnp.concatenate([single, five, double, pooled], axis=-1)


class MixedB(nn.Module):
    """Mixed_6a: halves the size."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j d"]:
        single = ConvNorm(384, (3, 3), 2, same=False, name="branch3x3")(x)
        double = ConvNorm(64, name="branch3x3dbl_1")(x)
        double = ConvNorm(96, (3, 3), name="branch3x3dbl_2")(double)
        double = ConvNorm(96, (3, 3), 2, same=False, name="branch3x3dbl_3")(double)
        return jnp.concatenate([single, double, _reduced(x)], axis=-1)


class MixedC(nn.Module):
    """Mixed_6b to 6e: 7x7 as pairs of a row and a column.

    Attributes:
        inner: features between the two ends of a branch.
    """

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        row, column, n = (1, 7), (7, 1), self.inner
        single = ConvNorm(192, name="branch1x1")(x)
        seven = ConvNorm(n, name="branch7x7_1")(x)
        seven = ConvNorm(n, row, name="branch7x7_2")(seven)
        seven = ConvNorm(192, column, name="branch7x7_3")(seven)
        double = ConvNorm(n, name="branch7x7dbl_1")(x)
        double = ConvNorm(n, column, name="branch7x7dbl_2")(double)
        double = ConvNorm(n, row, name="branch7x7dbl_3")(double)
        double = ConvNorm(n, column, name="branch7x7dbl_4")(double)
        double = ConvNorm(192, row, name="branch7x7dbl_5")(double)
        pooled = ConvNorm(192, name="branch_pool")(_average(x))
        return jnp.concatenate([single, seven, double, pooled], axis=-1)


class MixedD(nn.Module):
    """Mixed_7a: halves the size."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j d"]:
        three = ConvNorm(192, name="branch3x3_1")(x)
        three = ConvNorm(320, (3, 3), 2, same=False, name="branch3x3_2")(three)
        seven = ConvNorm(192, name="branch7x7x3_1")(x)
        seven = ConvNorm(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = ConvNorm(192, (7, 1), name="branch7x7x3_3")(seven)
        seven = ConvNorm(192, (3, 3), 2, same=False, name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, _reduced(x)], axis=-1)


class MixedE(nn.Module):
    """Mixed_7b and 7c: 3x3 as a row and a column side by side.

    Attributes:
        maximum: whether the pooled branch takes the maximum and not the average.
    """

    maximum: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w 2048"]:
        single = ConvNorm(320, name="branch1x1")(x)
        three = ConvNorm(384, name="branch3x3_1")(x)
        threes = self._both(three, "branch3x3_2")
        double = ConvNorm(448, name="branch3x3dbl_1")(x)
        double = ConvNorm(384, (3, 3), name="branch3x3dbl_2")(double)
        doubles = self._both(double, "branch3x3dbl_3")
        pooled = ConvNorm(192, name="branch_pool")(_maximum(x) if self.maximum else _average(x))
        return jnp.concatenate([single, *threes, *doubles, pooled], axis=-1)

    def _both(self, x: Float[Array, "b h w c"], name: str) -> tuple[Array, Array]:
        return ConvNorm(384, (1, 3), name=f"{name}a")(x), ConvNorm(384, (3, 1), name=f"{name}b")(x)


class FidInception(nn.Module):
    """The network up to its global average, in full float32 precision on accelerators too.

    Attributes:
        resize: whether pictures are first resized to 299 x 299, bilinearly and without anti-aliasing, as the tool does
            whose numbers these are. Other tools resize otherwise: name what was used next to a reported number.
    """

    resize: bool = True

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b *_"]]:
        """Features of pictures in [0, 1].

        Returns:
            ``pool3`` [b, 2048], the features of FID, and the maps ``pool1`` (64 channels), ``pool2`` (192) and
            ``mixed_6`` (768).
        """
        with jax.default_matmul_precision("highest"):
            x = resize_bilinear(image, (SIDE, SIDE)) if self.resize else image
            x = 2 * x - 1
            x = ConvNorm(32, (3, 3), 2, same=False, name="Conv2d_1a_3x3")(x)
            x = ConvNorm(32, (3, 3), same=False, name="Conv2d_2a_3x3")(x)
            x = ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x)
            first = x = _reduced(x)
            x = ConvNorm(80, name="Conv2d_3b_1x1")(x)
            x = ConvNorm(192, (3, 3), same=False, name="Conv2d_4a_3x3")(x)
            second = x = _reduced(x)
            for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
                x = MixedA(pooled, name=f"Mixed_5{letter}")(x)
            x = MixedB(name="Mixed_6a")(x)
            for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
                x = MixedC(inner, name=f"Mixed_6{letter}")(x)
            third = x
            x = MixedD(name="Mixed_7a")(x)
            x = MixedE(maximum=False, name="Mixed_7b")(x)
            x = MixedE(maximum=True, name="Mixed_7c")(x)
        return dict(zip(TAPS, (first, second, third, x.mean(axis=(1, 2))), strict=True))


def frozen_inception() -> FrozenNetwork:
    """The network as a frozen one, with random weights (He-normal kernels) as its ``init``."""

    def init(rng: Key[Array, ""]) -> Collections:
        return FidInception().init(rng, jnp.zeros((1, SIDE, SIDE, 3)))

    return FrozenNetwork(kind="fid_inception", init=init)
