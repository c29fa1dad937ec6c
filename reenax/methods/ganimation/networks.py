"""The networks: a generator that paints a colour map and says where to use it, and a critic that reads action units."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.head.action_units import ACTION_UNITS
from reenax.nn.conv import Conv
from reenax.nn.label_networks import CriticParams, GeneratorParams, LabelCritic, LabelTrunk

UNITS = len(ACTION_UNITS)
DEVIATION = 0.02  # of every kernel at the start


@dataclasses.dataclass(frozen=True)
class DeviatingCriticParams(CriticParams):
    """Size of the critic, and how it starts.

    Attributes:
        deviation: of the kernels at the start. Layers of few channels want more than the published one, for there is
            no norm behind them.
    """

    deviation: float = DEVIATION


class Generated(NamedTuple):
    """What the generator makes of a picture and asked action units, in float32.

    Attributes:
        colour: the colour map, in (-1, 1).
        attention: 1 keeps the picture's pixel, 0 takes the colour map's.
        picture: ``attention * picture + (1 - attention) * colour``.
    """

    colour: Float[Array, "b h w 3"]
    attention: Float[Array, "b h w 1"]
    picture: Float[Array, "b h w 3"]


def saturated(attention: Float[Array, "..."]) -> Float[Array, "..."]:
    """Attention pushed towards 0 and 1: ``clip(0.55 tanh(3 (a - 1/2)) + 1/2, 0, 1)``. An experiment of the authors'."""
    return jnp.clip(0.55 * jnp.tanh(3 * (attention - 0.5)) + 0.5, 0, 1)


class Generator(nn.Module):
    """The trunk with two heads: colours by tanh, attention by sigmoid (section 4.1 of the paper).

    Attributes:
        params: size.
        saturate: whether the attention is pushed towards 0 and 1, see :func:`saturated`.
        dtype: compute type; None takes the widest of input and params.
        remat: compute the residual blocks' activations again in the backward pass.
    """

    params: GeneratorParams = GeneratorParams()
    saturate: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], units: Float[Array, "b c"]) -> Generated:
        size: dict[str, Any] = dataclasses.asdict(self.params)
        layer = {"dtype": self.dtype, "kernel_init": nn.initializers.normal(DEVIATION)}
        x = LabelTrunk(**size, remat=self.remat, name="trunk", **layer)(picture, units, train=True)
        colour = jnp.tanh(wide(Conv(3, 7, use_bias=False, name="colour", **layer)(x)))
        attention = nn.sigmoid(wide(Conv(1, 7, use_bias=False, name="attention", **layer)(x)))
        attention = saturated(attention) if self.saturate else attention
        return Generated(colour, attention, attention * picture + (1 - attention) * colour)


def make_critic(params: DeviatingCriticParams, dtype: DTypeLike | None = None) -> LabelCritic:
    """The critic, which regresses intensities of action units; biases start at 0."""
    return LabelCritic(
        UNITS,
        params.image_size,
        params.features,
        params.layers,
        dtype=dtype,
        kernel_init=nn.initializers.normal(params.deviation),
        bias_init=nn.initializers.zeros_init(),
    )
