"""The boundary transformer, and the edges by which its discriminators look at maps (section 3.2)."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.methods.reenactgan.boundaries import COUNT
from reenax.nn.blocks import run_block
from reenax.nn.conv import Conv, ConvTranspose, Initializer
from reenax.nn.norm import BatchNorm, TrackedInstanceNorm

SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y = ((-1.0, -2.0, -1.0), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0))


def normal_kernels() -> Initializer:
    """pix2pix's initial kernels: normal with deviation 0.02."""
    return nn.initializers.normal(0.02)


def normal_scales() -> Initializer:
    """pix2pix's initial scales of norms: normal around 1 with deviation 0.02."""

    def init(*arguments: object) -> Array:
        return 1 + nn.initializers.normal(0.02)(*arguments)  # pyright: ignore[reportArgumentType]

    return init


@dataclasses.dataclass(frozen=True)
class TransformerParams:
    """Sizes of a boundary transformer.

    Attributes:
        features: of the first layer; halved maps have two and four times as many.
        blocks: residual blocks at a quarter of the maps' size.
        kernel_size: of the first and the last convolution.
        norm: "batch", or "sample": in training every sample is normalised by its own statistics. The published
            training had one sample on each of its GPUs.
        residual: what is learned is added to the maps, between -1 and 1, and nothing is added at first. Not the
            paper's: for trainings that are too short to learn to copy.
    """

    features: int = 64
    blocks: int = 9
    kernel_size: int = 7
    norm: Literal["batch", "sample"] = "batch"
    residual: bool = False


def _reflected(x: Float[Array, "b h w c"], by: int) -> Float[Array, "b _ _ c"]:
    return jnp.pad(x, ((0, 0), (by, by), (by, by), (0, 0)), mode="reflect")


class _Layers(nn.Module):
    """What the transformer and its blocks are made of. Attributes as in :class:`BoundaryTransformer`."""

    params: TransformerParams
    dtype: DTypeLike | None = None

    def norm(self, x: Array, name: str, train: bool) -> Array:
        if self.params.norm == "sample":
            norm = TrackedInstanceNorm(use_running=True, dtype=self.dtype, scale_init=normal_scales(), name=name)
            return norm(x, train=train)
        return BatchNorm(dtype=self.dtype, scale_init=normal_scales(), name=name)(x, train=train)

    def layout(self, *, use_bias: bool = False) -> dict:
        return {"use_bias": use_bias, "dtype": self.dtype, "kernel_init": normal_kernels()}


class ResidualBlock(_Layers):
    """Two reflected 3x3 convolutions with norms, added to what came in; no ReLU behind the sum."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        y = Conv(x.shape[-1], padding=0, name="conv_1", **self.layout())(_reflected(x, 1))
        y = nn.relu(self.norm(y, "norm_1", train))
        y = Conv(x.shape[-1], padding=0, name="conv_2", **self.layout())(_reflected(y, 1))
        return x + self.norm(y, "norm_2", train)


class BoundaryTransformer(_Layers):
    """Maps of one person to maps of another, in (0, 1) unless they are residual.

    Attributes:
        params: sizes.
        dtype: compute type; None takes the widest of input and params.
        remat: activations of the blocks are computed again in the backward pass.
    """

    remat: bool = False

    @nn.compact
    def __call__(self, maps: Float[Array, "b m m 15"], *, train: bool) -> Float[Array, "b m m 15"]:
        p, side = self.params, self.params.kernel_size
        x = Conv(p.features, side, padding=0, name="first", **self.layout())(_reflected(maps, side // 2))
        x = nn.relu(self.norm(x, "first_norm", train))
        for i, factor in enumerate((2, 4)):
            x = Conv(factor * p.features, padding=1, stride=2, name=f"down_{i}", **self.layout())(x)
            x = nn.relu(self.norm(x, f"down_norm_{i}", train))
        for i in range(p.blocks):
            x = run_block(ResidualBlock(p, self.dtype, name=f"block_{i}"), x, train, self.remat)
        for i, factor in enumerate((2, 1)):
            up = ConvTranspose(factor * p.features, 3, output_padding=1, name=f"up_{i}", **self.layout())
            x = nn.relu(self.norm(up(x), f"up_norm_{i}", train))
        layout = self.layout(use_bias=True)
        if p.residual:
            layout |= {"kernel_init": nn.initializers.zeros, "bias_init": nn.initializers.zeros}
        x = wide(Conv(COUNT, side, padding=0, name="last", **layout)(_reflected(x, side // 2)))
        return wide(wide(maps) + jnp.tanh(x) if p.residual else nn.sigmoid(x))


def edges(maps: Float[Array, "b m m c"]) -> Float[Array, "b m m c"]:
    """Every map under Sobel's filter along x and then, on the result, the one along y; zeros outside.

    So it is a mixed second derivative and no length of a gradient: large where a boundary bends or ends.
    """
    for taps in (SOBEL_X, SOBEL_Y):
        kernel = jnp.broadcast_to(jnp.asarray(taps, maps.dtype)[:, :, None, None], (3, 3, 1, maps.shape[-1]))
        maps = lax.conv_general_dilated(
            maps,
            kernel,
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=maps.shape[-1],
        )
    return maps
