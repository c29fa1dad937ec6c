"""The generator: the trunk that GANimation shares, with one head that paints the whole picture."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.nn.conv import Conv
from reenax.nn.label_networks import GeneratorParams, LabelTrunk


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
