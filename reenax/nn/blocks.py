"""The building blocks of the keypoint family: First Order Motion, Monkey-Net and their successors.

Every block has two parameter layouts, with the same code around them. The plain one has the published checkpoints'
layers under the published names, biases in front of norms included. The folded one (``folded=True``) is for inference:
:func:`reenax.nn.fold.fold` computes it once from the plain one; a convolution holds the norm behind it, and an ``Up``
computes its four output parities by one 2x2 convolution on the small picture instead of a 3x3 on the enlarged one.

Every block also takes volumes, [b d h w c] instead of [b h w c], with kernels that are as deep as they are wide; only
height and width are halved and doubled, the depth stays.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.nn.conv import Conv
from reenax.nn.norm import Affine, BatchNorm


def run_block(block: nn.Module, x: Array, train: bool, remat: bool) -> Any:
    """A block's output; with ``remat`` its activations are computed again in the backward pass."""

    def call(module: nn.Module, y: Array) -> Any:
        return module(y, train=train)  # pyright: ignore[reportCallIssue]

    return nn.remat(call)(block, x) if remat else call(block, x)


class ConvNorm(nn.Module):
    """Convolution of the same size, batch norm, ReLU.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        slope: of the ReLU below 0.
        folded: the inference layout: the norm is inside ``conv``.
        dtype: compute type; None takes the widest of input and params.
    """

    features: int
    kernel_size: int = 3
    slope: float = 0.0
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"], *, train: bool) -> Float[Array, "b *n {self.features}"]:
        x = Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)
        if not self.folded:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, train=train)
        return nn.leaky_relu(x, self.slope) if self.slope else nn.relu(x)


class Down(nn.Module):
    """3x3 convolution, batch norm, ReLU, then the average of every 2x2 pixels. Attributes as in :class:`ConvNorm`."""

    features: int
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *d h w c"], *, train: bool) -> Float[Array, "b *d h//2 w//2 {self.features}"]:
        x = Conv(self.features, dtype=self.dtype, name="conv")(x)
        if not self.folded:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, train=train)
        window = (1,) * (x.ndim - 4) + (2, 2)
        return nn.avg_pool(nn.relu(x), window, strides=window)


class Up(nn.Module):
    """Nearest enlargement by 2, 3x3 convolution, batch norm, ReLU. Attributes as in :class:`ConvNorm`."""

    features: int
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *d h w c"], *, train: bool) -> Float[Array, "b *d 2*h 2*w {self.features}"]:
        if self.folded:
            sides = (3,) * (x.ndim - 4) + (2, 2)
            x = Conv(4 * self.features, kernel_size=sides, padding=1, dtype=self.dtype, name="conv")(x)
            return nn.relu(_interleave(x))
        x = Conv(self.features, dtype=self.dtype, name="conv")(_enlarge(x))
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))


def _enlarge(x: Float[Array, "b *d h w c"]) -> Float[Array, "b *d 2*h 2*w c"]:
    *outer, height, width, channels = x.shape
    x = x.reshape(-1, height, 1, width, 1, channels)
    x = jnp.broadcast_to(x, (x.shape[0], height, 2, width, 2, channels))
    return x.reshape(*outer, 2 * height, 2 * width, channels)


def _interleave(x: Float[Array, "b *d i j e"]) -> Float[Array, "b *d 2*(i-1) 2*(j-1) e//4"]:
    """Output pixel (2 i + a, 2 j + b) from channel group 2 a + b of position (i + a, j + b)."""
    outer, height, width, channels = x.shape[:-3], x.shape[-3] - 1, x.shape[-2] - 1, x.shape[-1] // 4
    x = x.reshape(-1, *x.shape[-3:-1], 4, channels)
    rows = [
        jnp.stack([x[:, a : a + height, b : b + width, 2 * a + b] for b in (0, 1)], axis=3)  # b h w 2 c
        for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(*outer, 2 * height, 2 * width, channels)


class Res(nn.Module):
    """Pre-activation residual block: ``x + conv2(relu(norm2(conv1(relu(norm1(x))))))``, 3x3, channels kept.

    Folded, ``norm1`` is a scale and a shift (a ReLU and a sum stand between it and the convolution before it) and
    ``norm2`` is inside ``conv1``.
    """

    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"], *, train: bool) -> Float[Array, "b *n c"]:
        features = x.shape[-1]
        if self.folded:
            y = Affine(dtype=self.dtype, name="norm1")(x)
            y = Conv(features, dtype=self.dtype, name="conv1")(nn.relu(y))
        else:
            y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
            y = Conv(features, dtype=self.dtype, name="conv1")(nn.relu(y))
            y = BatchNorm(dtype=self.dtype, name="norm2")(y, train=train)
        return x + Conv(features, dtype=self.dtype, name="conv2")(nn.relu(y))


class Encoder(nn.Module):
    """The halving side of :class:`Hourglass`: returns the input and every level, largest first."""

    block_expansion: int
    num_blocks: int
    max_features: int
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"], *, train: bool) -> list[Float[Array, "b ..."]]:
        levels = [x]
        for i in range(self.num_blocks):
            features = min(self.max_features, self.block_expansion * 2 ** (i + 1))
            down = Down(features, folded=self.folded, dtype=self.dtype, name=f"down_blocks_{i}")
            levels.append(down(levels[-1], train=train))
        return levels


class Decoder(nn.Module):
    """The doubling side of :class:`Hourglass`: every level of the encoder is appended behind the enlarged features.

    With ``last`` a 3x3 convolution of all channels, batch norm and ReLU end it.
    """

    block_expansion: int
    max_features: int
    folded: bool = False
    last: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, levels: list[Float[Array, "b ..."]], *, train: bool) -> Float[Array, "b *n d"]:
        *skips, x = levels
        for i, skip in reversed(list(enumerate(skips))):
            features = min(self.max_features, self.block_expansion * 2**i)
            # Published checkpoints count the blocks in the order of their use.
            name = f"up_blocks_{len(skips) - 1 - i}"
            x = Up(features, folded=self.folded, dtype=self.dtype, name=name)(x, train=train)
            x = jnp.concatenate([x, skip.astype(x.dtype)], axis=-1)
        if not self.last:
            return x
        x = Conv(x.shape[-1], dtype=self.dtype, name="conv")(x)
        if not self.folded:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, train=train)
        return nn.relu(x)


class Hourglass(nn.Module):
    """U-Net with ``num_blocks`` halvings; the input itself is the last skip connection.

    Attributes:
        block_expansion: level i of the encoder has ``min(max_features, block_expansion * 2 ** (i + 1))`` channels.
        num_blocks: number of halvings; both sides of the picture must be multiples of ``2 ** num_blocks``.
        max_features: upper bound of channels.
        last: whether a convolution of all channels ends it, see :class:`Decoder`.
        folded, dtype: as in :class:`ConvNorm`.

    Returns ``block_expansion`` channels and behind them those of the input.

    Raises:
        ValueError: a side is not divisible.
    """

    block_expansion: int
    num_blocks: int = 3
    max_features: int = 256
    last: bool = False
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"], *, train: bool) -> Float[Array, "b *n {self.block_expansion}+c"]:
        if x.shape[-3] % 2**self.num_blocks or x.shape[-2] % 2**self.num_blocks:
            raise ValueError(
                f"an hourglass of {self.num_blocks} blocks needs sides that are multiples of {2**self.num_blocks}, "
                f"got {x.shape[-3]} x {x.shape[-2]}"
            )
        sizes = {"block_expansion": self.block_expansion, "max_features": self.max_features}
        layout = {"folded": self.folded, "dtype": self.dtype}
        levels = Encoder(num_blocks=self.num_blocks, name="encoder", **sizes, **layout)(x, train=train)
        return Decoder(name="decoder", last=self.last, **sizes, **layout)(levels, train=train)
