"""The decoder of one person: boundary maps to a face (section 3.3), a U-Net behind learned enlargements."""

import dataclasses
import math

from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.methods.reenactgan.boundaries import COUNT
from reenax.methods.reenactgan.transformer import normal_kernels, normal_scales
from reenax.nn.conv import ConvTranspose
from reenax.nn.norm import BatchNorm
from reenax.nn.unet import UNet, UNetParams


@dataclasses.dataclass(frozen=True)
class DecoderParams:
    """Sizes of the decoder.

    Attributes:
        features: of the outermost level of the U-Net; each level doubles them, up to eight times as many.
        levels: how often the U-Net halves the picture; 8 for 256 pixels.
        dropout: its levels, from the outermost, that drop half of their units in training.
    """

    features: int = 64
    levels: int = 8
    dropout: tuple[int, ...] = (5, 6, 7)

    @property
    def unet(self) -> UNetParams:
        return UNetParams(
            self.features, self.levels, skip_first=True, up="transposed", up_bias_last=True, dropout=self.dropout
        )


class Decoder(nn.Module):
    """Boundary maps to a picture in (-1, 1).

    Attributes:
        params: sizes.
        size: side of the picture in pixels, the maps' times a power of two.
        dtype: compute type; None takes the widest of input and params.
    """

    params: DecoderParams = DecoderParams()
    size: int = 256
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, maps: Float[Array, "b m m 15"], *, train: bool, dropout: bool = False
    ) -> Float[Array, "b {self.size} {self.size} 3"]:
        """Args: ``dropout`` needs a random stream of that name."""
        x, doublings = maps, round(math.log2(self.size / maps.shape[1]))
        for i in range(doublings):
            last = i + 1 == doublings
            enlarge = ConvTranspose(
                COUNT, use_bias=last, dtype=self.dtype, kernel_init=normal_kernels(), name=f"enlarge_{i}"
            )
            x = enlarge(nn.relu(x))
            if not last:
                norm = BatchNorm(dtype=self.dtype, scale_init=normal_scales(), name=f"enlarge_norm_{i}")
                x = norm(x, train=train)
        net = UNet(self.params.unet, self.dtype, normal_kernels(), normal_scales(), name="unet")
        face, _ = net(nn.tanh(x), train=train, dropout=dropout)
        return wide(nn.tanh(wide(face)))
