"""The generator: the trunk that GANimation shares, with one head that paints the whole picture."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.nn.conv import Conv
from reenax.nn.label_networks import LabelTrunk


@dataclasses.dataclass(frozen=True)
class GeneratorParams:
    """Size of the generator.

    Attributes:
        features: channels at the picture's size.
        blocks: number of residual blocks.
        label_gain: how many times as large the label's part of the first kernel starts; 1 as published.
    """

    features: int = 64
    blocks: int = 6
    label_gain: float = 1.0


@dataclasses.dataclass(frozen=True)
class CriticParams:
    """Size of the critic.

    Attributes:
        image_size: side of the pictures; a multiple of ``2 ** layers``.
        features: channels of the first layer; each of the others doubles them.
        layers: number of halvings.
    """

    image_size: int = 128
    features: int = 64
    layers: int = 6


class Generator(nn.Module):
    """The picture with other labels, float32 in (-1, 1).

    Attributes:
        params: size.
        use_running: in evaluation the norms use their running statistics. The published code never leaves the training
            mode, so that its pictures come from every picture's own statistics; so do ours by default.
        dtype: compute type; None takes the widest of input and params.
        remat: compute the residual blocks' activations again in the backward pass.
    """

    params: GeneratorParams = GeneratorParams()
    use_running: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, picture: Float[Array, "b h w 3"], labels: Float[Array, "b c"], *, train: bool
    ) -> Float[Array, "b h w 3"]:
        x = LabelTrunk(
            **dataclasses.asdict(self.params),
            tracked=True,
            use_running=self.use_running,
            dtype=self.dtype,
            remat=self.remat,
            name="trunk",
        )(picture, labels, train=train)
        return jnp.tanh(wide(Conv(3, 7, use_bias=False, dtype=self.dtype, name="last")(x)))
