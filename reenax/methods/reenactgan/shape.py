"""What keeps the pose through a translation: landmarks found in maps, and the first coordinates of their shape.

The aligner finds the landmarks of a face in its boundary maps. Their principal components are mostly place, size and
turn of the head: a translation keeps the first few of them (section 3.2, the shape constraint).

Both come with the published files. Where they are trained here, the aligner learns beside the encoder, from landmarks
that the data has; and mean and covariance of these landmarks run along, as the statistics of a batch norm do. The
components follow from them in closed form.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.nn.conv import Conv, uniform_fan_in
from reenax.nn.norm import BatchNorm


@dataclasses.dataclass(frozen=True)
class AlignerParams:
    """Sizes of the aligner and of the shape that it feeds.

    Attributes:
        points: how many landmarks it finds; 106 in the published files, 68 where it is trained here.
        widths: of the four stages of its residual body.
        hidden: of its two hidden dense layers.
        components: how many coordinates of the shape are kept.
        momentum: weight of the old statistics of the shape, per step; in the first ones all weigh alike.
    """

    points: int = 68
    widths: tuple[int, ...] = (16, 32, 64, 128)
    hidden: int = 128
    components: int = 3
    momentum: float = 0.99


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms, added to what came in (He et al., 2016).

    Attributes:
        features: output channels.
        stride: of the first convolution; from 2 on the shortcut has a convolution of its own.
        dtype: compute type.
    """

    features: int
    stride: int = 1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b _ _ {self.features}"]:
        layout: dict[str, Any] = {"use_bias": False, "dtype": self.dtype}
        y = Conv(self.features, padding=1, stride=self.stride, name="conv1", **layout)(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = Conv(self.features, padding=1, name="conv2", **layout)(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train=train)
        if self.stride > 1:
            x = Conv(self.features, 1, padding=0, stride=self.stride, name="shortcut", **layout)(x)
            x = BatchNorm(dtype=self.dtype, name="shortcut_norm")(x, train=train)
        return nn.relu(x + y)


class Aligner(nn.Module):
    """Boundary maps to landmarks, in pixels of the maps.

    Attributes:
        params: sizes.
        dtype: compute type; None takes the widest of input and params.
    """

    params: AlignerParams = AlignerParams()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, maps: Float[Array, "b m m 15"], *, train: bool) -> Float[Array, "b k 2"]:
        p = self.params
        layout: dict[str, Any] = {"dtype": self.dtype}
        x = Conv(3, padding=1, name="mix", **layout)(maps)
        x = Conv(p.widths[0], 7, padding=3, stride=2, use_bias=False, name="first", **layout)(x)
        x = nn.relu(BatchNorm(name="first_norm", **layout)(x, train=train))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # behind a ReLU as good as minus infinity
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        for i, width in enumerate(p.widths):
            for j in range(2):
                block = BasicBlock(width, 2 if i > 0 and j == 0 else 1, self.dtype, name=f"block_{i}_{j}")
                x = block(x, train=train)
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)  # channels first, as the published layer reads them
        for name, width in (("hidden_1", p.hidden), ("hidden_2", p.hidden), ("points", 2 * p.points)):
            init = uniform_fan_in(x.shape[-1])
            x = nn.Dense(width, dtype=self.dtype, kernel_init=init, bias_init=init, name=name)(x)
            x = x if name == "points" else nn.relu(x)
        return wide(x).reshape(-1, p.points, 2)


Shape = Mapping[str, Array]


def fresh_shape(params: AlignerParams) -> Shape:
    """The statistics of no landmarks: mean 0 [n], covariance 1 [n n], and what follows; n is twice the points.

    "weight" [n c] and "bias" [c] give the coordinates: whitened, the first c components of most variance. "seen" counts
    the batches.
    """
    size = 2 * params.points
    return {"seen": jnp.zeros(()), **with_components(jnp.zeros(size), jnp.eye(size), params.components)}


def with_components(
    mean: Float[Array, " n"], covariance: Float[Array, "n n"], components: int
) -> dict[str, Float[Array, "..."]]:
    """Mean and covariance with the whitened components of most variance; each one's largest entry is positive."""
    variances, axes = jnp.linalg.eigh(covariance)  # ascending
    axes, variances = axes[:, ::-1][:, :components], variances[::-1][:components]
    largest = jnp.take_along_axis(axes, jnp.abs(axes).argmax(axis=0, keepdims=True), axis=0)
    weight = axes * jnp.sign(largest) / jnp.sqrt(jnp.maximum(variances, 1e-6))[None]
    return {"mean": mean, "covariance": covariance, "weight": weight, "bias": -mean @ weight}


def moved_shape(shape: Shape, points: Float[Array, "b k 2"], params: AlignerParams) -> Shape:
    """The statistics, moved towards those of a batch of landmarks.

    The first batch replaces what was there: what a mean of zero leaves in the covariance is the mean face, and would
    stay its first component for hundreds of steps.
    """
    flat = lax.stop_gradient(points.reshape(points.shape[0], -1))
    old = jnp.minimum(params.momentum, shape["seen"] / (shape["seen"] + 1))
    new, own = 1 - old, flat.mean(axis=0)
    centred, moved = flat - own[None], own - shape["mean"]
    # that of two mixed populations: within both, and between their means
    within = old * shape["covariance"] + new * (centred.T @ centred) / flat.shape[0]
    covariance = within + old * new * moved[:, None] * moved[None]
    mean = shape["mean"] + new * moved
    return {"seen": shape["seen"] + 1, **with_components(mean, covariance, params.components)}


def coordinates(shape: Shape, points: Float[Array, "b k 2"]) -> Float[Array, "b c"]:
    """The first whitened coordinates of landmarks."""
    flat = points.reshape(points.shape[0], -1)
    return jnp.dot(flat, shape["weight"], precision=lax.Precision.HIGHEST) + shape["bias"][None]


def initial_aligner(aligner: Aligner, key: jax.Array, maps: Float[Array, "b m m 15"]) -> dict[str, Any]:
    """The aligner's variables with the shape's statistics in their own collection, "shape"."""
    variables: Any = aligner.init(key, maps, train=False)
    return {**variables, "shape": dict(fresh_shape(aligner.params))}
