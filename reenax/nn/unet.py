"""The U-Net of pix2pix (Isola et al., 2017): a picture halved again and again, and enlarged with what was passed by."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.geometry.sampling import resize_bilinear
from reenax.nn.conv import Conv, ConvTranspose, Initializer
from reenax.nn.norm import BatchNorm

SLOPE = 0.2  # of the leaky ReLUs on the way down
DROPOUT = 0.5

Levels = tuple[Float[Array, "b _ _ _"], ...]


@dataclasses.dataclass(frozen=True)
class UNetParams:
    """Levels count from 1, the outermost, which works at the picture's size.

    Attributes:
        features: channels of level 1 on the way down; each level doubles them.
        levels: how often the picture is halved; of 2^levels pixels nothing but one is left.
        max_factor: the doubling stops at so many times ``features``.
        out: channels of the result.
        inner: channels of the innermost code, 0 for what the doubling gives.
        skips: whether a level's input is passed by the levels below it.
        skip_first: whether it comes before what they make, or behind it.
        up: how pictures are enlarged: "transposed" convolutions of 4x4, or "bilinear" and a convolution of 3x3.
        up_bias_last: whether the last convolution, which no norm follows, has a bias.
        dropout: the levels that end with dropout in training.
    """

    features: int = 64
    levels: int = 8
    max_factor: int = 8
    out: int = 3
    inner: int = 0
    skips: bool = True
    skip_first: bool = False
    up: Literal["bilinear", "transposed"] = "bilinear"
    up_bias_last: bool = False
    dropout: tuple[int, ...] = ()

    def width(self, level: int) -> int:
        """Channels of a level on the way down."""
        if level == self.levels and self.inner:
            return self.inner
        return self.features * min(2 ** (level - 1), self.max_factor)


class UNet(nn.Module):
    """Picture to picture, without a last activation.

    Attributes:
        params: its size.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, scale_init: of convolutions and batch norms; None for PyTorch's default.
    """

    params: UNetParams
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    scale_init: Initializer | None = None

    def setup(self) -> None:
        p, last = self.params, self.params.levels
        for k in range(1, last + 1):
            out = p.out if k == 1 else p.width(k - 1)
            bias = p.up_bias_last and k == 1
            setattr(self, f"down_{k}", Conv(p.width(k), 4, padding=1, stride=2, use_bias=False, **self._kernel()))
            if p.up == "transposed":
                setattr(self, f"up_{k}", ConvTranspose(out, use_bias=bias, **self._kernel()))
            else:
                setattr(self, f"up_{k}", Conv(out, 3, use_bias=bias, **self._kernel()))
            if 1 < k < last:
                setattr(self, f"down_norm_{k}", BatchNorm(dtype=self.dtype, scale_init=self.scale_init))
            if k > 1:
                setattr(self, f"up_norm_{k}", BatchNorm(dtype=self.dtype, scale_init=self.scale_init))
        self.drop = nn.Dropout(DROPOUT)

    def _kernel(self) -> dict:
        return {"dtype": self.dtype, "kernel_init": self.kernel_init}

    def encode(self, x: Float[Array, "b h w c"], *, train: bool) -> tuple[Float[Array, "b y x e"], Levels]:
        """The way down: the innermost code, and the inputs of levels 2 and on that are passed by."""
        p, passed = self.params, []
        for k in range(1, p.levels + 1):
            if k > 1:
                passed.append(x)
                x = nn.leaky_relu(x, SLOPE)
            x = getattr(self, f"down_{k}")(x)
            if 1 < k < p.levels:
                x = getattr(self, f"down_norm_{k}")(x, train=train)
        return x, tuple(passed)

    def decode(
        self, inner: Float[Array, "b y x e"], passed: Levels, *, train: bool, dropout: bool = False
    ) -> Float[Array, "b h w o"]:
        """The way up, from an innermost code and what was passed by.

        Args:
            inner: as `encode` gives it, or changed.
            passed: the rest of what it gives; may be empty without skips.
            train: whether norms use and move the batch's statistics.
            dropout: whether units are dropped; needs a random stream "dropout".
        """
        p, x = self.params, inner
        for k in range(p.levels, 0, -1):
            x = nn.relu(x)
            if p.up == "bilinear":
                x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=True)
            x = getattr(self, f"up_{k}")(x)
            if k > 1:
                x = getattr(self, f"up_norm_{k}")(x, train=train)
                if k in p.dropout:
                    x = self.drop(x, deterministic=not dropout)
                if p.skips:
                    skip = passed[k - 2]
                    x = jnp.concatenate([skip, x] if p.skip_first else [x, skip], axis=-1)
        return x

    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, dropout: bool = False
    ) -> tuple[Float[Array, "b h w o"], Float[Array, "b y x e"]]:
        """The result and the innermost code."""
        inner, passed = self.encode(x, train=train)
        return self.decode(inner, passed, train=train, dropout=dropout), inner
