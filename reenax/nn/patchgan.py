"""The patch discriminator of pix2pix (Isola et al., 2017): whether each 70x70 patch of a picture is real."""

from typing import Literal

from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.nn.conv import Conv, Initializer
from reenax.nn.norm import BatchNorm, InstanceNorm, TrackedInstanceNorm

SLOPE = 0.2  # of the leaky ReLUs


class PatchGAN(nn.Module):
    """Halving convolutions of 4x4, one more at stride 1, and a last one to one logit per patch.

    Attributes:
        features: channels of the first convolution; each one doubles them up to eight times as many.
        layers: how many convolutions halve the picture; 3 look at patches of 70x70 pixels.
        norm: behind all convolutions but the first and the last. Instance norm neither scales nor shifts; "sample"
            is a batch norm whose batches are of one picture in training.
        bias_with_norm: whether convolutions in front of a norm have a bias, which only published checkpoints need.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, bias_init: of convolutions; None for PyTorch's default.
        scale_init: of norms that scale; None for ones.
    """

    features: int = 64
    layers: int = 3
    norm: Literal["batch", "instance", "sample"] = "batch"
    bias_with_norm: bool = False
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    scale_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b y x"]:
        for i in range(self.layers + 1):
            normed = i > 0
            stride = 2 if i < self.layers else 1
            width = self.features * min(2**i, 8)
            bias = not normed or self.bias_with_norm
            x = self._conv(width, stride, bias, i)(x)
            layout = {"dtype": self.dtype, "name": f"norm_{i}"}
            if normed and self.norm == "batch":
                x = BatchNorm(scale_init=self.scale_init, **layout)(x, train=train)
            elif normed and self.norm == "sample":
                x = TrackedInstanceNorm(use_running=True, scale_init=self.scale_init, **layout)(x, train=train)
            elif normed:
                x = InstanceNorm(affine=False, **layout)(x)
            x = nn.leaky_relu(x, SLOPE)
        return self._conv(1, 1, True, self.layers + 1)(x)[..., 0]

    def _conv(self, width: int, stride: int, bias: bool, index: int) -> Conv:
        return Conv(
            width,
            4,
            padding=1,
            stride=stride,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            name=f"conv_{index}",
        )
