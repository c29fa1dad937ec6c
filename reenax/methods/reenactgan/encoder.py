"""The boundary encoder: stacked hourglasses that draw the boundaries of a face (section 3.1).

Residual units are pre-activated bottlenecks (He et al., 2016), hourglasses those of Newell et al. (2016): at every
level the maps wait while a halved copy is worked on and enlarged again. Every stack draws all boundaries, and sees
those of the one before it. Biases begin at zero.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.methods.reenactgan.boundaries import COUNT
from reenax.nn.blocks import run_block
from reenax.nn.conv import Conv
from reenax.nn.norm import BatchNorm


@dataclasses.dataclass(frozen=True)
class EncoderParams:
    """Sizes of the boundary encoder.

    Attributes:
        stacks: hourglasses in a row.
        depth: how often each halves its maps.
        features: of a bottleneck; blocks put out twice as many, the first layers half as many.
        pool: whether the maps are a quarter of the picture's size or, without the pooling, half of it.
    """

    stacks: int = 2
    depth: int = 4
    features: int = 128
    pool: bool = True

    def map_size(self, picture: int) -> int:
        """Side of the maps of a picture."""
        return picture // (4 if self.pool else 2)


def _layout(dtype: DTypeLike | None) -> dict[str, Any]:
    return {"dtype": dtype, "bias_init": nn.initializers.zeros_init()}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each behind a norm and a ReLU, added to what came in.

    Attributes:
        features: of the convolutions in the middle; it puts out twice as many.
        dtype: compute type; None takes the widest of input and params.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w {2*self.features}"]:
        y = x
        for i, (width, kernel) in enumerate(((self.features, 1), (self.features, 3), (2 * self.features, 1)), start=1):
            y = nn.relu(BatchNorm(dtype=self.dtype, name=f"bn{i}")(y, train=train))
            y = Conv(width, kernel, name=f"conv{i}", **_layout(self.dtype))(y)
        if x.shape[-1] != y.shape[-1]:
            x = Conv(y.shape[-1], 1, name="downsample", **_layout(self.dtype))(x)
        return x + y


class Hourglass(nn.Module):
    """One hourglass of bottlenecks, ``level_0`` the innermost.

    Attributes:
        depth: number of levels.
        features: see :class:`Bottleneck`.
        dtype: compute type.
        remat: activations are computed again in the backward pass.
    """

    depth: int
    features: int
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        return self._level(self.depth - 1, x, train)

    def _level(self, level: int, x: Array, train: bool) -> Array:
        def block(index: int, y: Array) -> Array:
            module = Bottleneck(self.features, self.dtype, name=f"level_{level}_{index}")
            return run_block(module, y, train, self.remat)

        beside = block(0, x)
        low = block(1, nn.max_pool(x, (2, 2), strides=(2, 2)))
        low = self._level(level - 1, low, train) if level else block(3, low)
        low = block(2, low)
        return beside + jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)


class BoundaryEncoder(nn.Module):
    """Pictures to the maps of their boundaries.

    Attributes:
        params: sizes.
        dtype, remat: as above.
    """

    params: EncoderParams = EncoderParams()
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> list[Float[Array, "b m m 15"]]:
        """The maps of every stack, without an activation; the last ones are the result.

        Args:
            picture: in [-1, 1].
            train: whether norms use and move the batch's statistics.
        """
        p, convolution = self.params, _layout(self.dtype)
        layout: dict[str, Any] = {"dtype": self.dtype}
        x = Conv(p.features // 2, 7, padding=3, stride=2, name="conv1", **convolution)(picture)
        x = nn.relu(BatchNorm(name="bn1", **layout)(x, train=train))
        x = run_block(Bottleneck(p.features // 2, name="layer1", **layout), x, train, self.remat)
        if p.pool:
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        for name in ("layer2", "layer3"):
            x = run_block(Bottleneck(p.features, name=name, **layout), x, train, self.remat)
        drawn, width = [], 2 * p.features
        for i in range(p.stacks):
            y = Hourglass(p.depth, p.features, remat=self.remat, name=f"hg_{i}", **layout)(x, train=train)
            y = run_block(Bottleneck(p.features, name=f"res_{i}", **layout), y, train, self.remat)
            y = Conv(width, 1, name=f"fc_{i}", **convolution)(y)
            y = nn.relu(BatchNorm(name=f"fc_norm_{i}", **layout)(y, train=train))
            score = Conv(COUNT, 1, name=f"score_{i}", **convolution)(y)
            drawn.append(wide(score))
            if i + 1 < p.stacks:
                x = x + Conv(width, 1, name=f"fc_back_{i}", **convolution)(y)
                x = x + Conv(width, 1, name=f"score_back_{i}", **convolution)(score)
        return drawn
