"""Spatially adaptive normalisation (Park et al., "Semantic Image Synthesis with SPADE", CVPR 2019).

A picture is normalised per channel and sample, then scaled and shifted at every position by what two convolutions read
from a modulation map. Submodules are called as in published checkpoints.
"""

from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.geometry.sampling import resize_nearest
from reenax.nn.conv import Conv, SpectralConv
from reenax.nn.norm import InstanceNorm

HIDDEN = 128  # channels between the modulation map and what is read from it


class Spade(nn.Module):
    """``norm(x) * (1 + gamma) + beta`` with gamma and beta from a map that is resized (nearest) to x.

    Attributes:
        hidden: channels of the layer that gamma and beta share.
        dtype: compute type; None takes the widest of input and params.
    """

    hidden: int = HIDDEN
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], modulation: Float[Array, "b i j m"]) -> Float[Array, "b h w c"]:
        modulation = resize_nearest(modulation, (x.shape[1], x.shape[2]))
        shared = nn.relu(Conv(self.hidden, dtype=self.dtype, name="mlp_shared_0")(modulation))
        gamma = Conv(x.shape[-1], dtype=self.dtype, name="mlp_gamma")(shared)
        beta = Conv(x.shape[-1], dtype=self.dtype, name="mlp_beta")(shared)
        return InstanceNorm(affine=False, dtype=self.dtype, name="norm")(x) * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    """Residual block of two modulated, spectrally normalised 3x3 convolutions.

    Where the number of channels changes the shortcut is modulated too, and convolved 1x1 without a bias.

    Attributes:
        features: output channels.
        hidden: see :class:`Spade`.
        folded: the inference layout of :mod:`reenax.nn.fold`: kernels are already normalised.
        dtype: compute type; None takes the widest of input and params.
    """

    features: int
    hidden: int = HIDDEN
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], modulation: Float[Array, "b i j m"], *, train: bool
    ) -> Float[Array, "b h w {self.features}"]:
        conv = {"spectral": not self.folded, "dtype": self.dtype}
        norm = {"hidden": self.hidden, "dtype": self.dtype}
        y = nn.leaky_relu(Spade(name="norm_0", **norm)(x, modulation), 0.2)
        y = SpectralConv(min(x.shape[-1], self.features), name="conv_0", **conv)(y, train=train)
        y = nn.leaky_relu(Spade(name="norm_1", **norm)(y, modulation), 0.2)
        y = SpectralConv(self.features, name="conv_1", **conv)(y, train=train)
        if x.shape[-1] != self.features:
            x = Spade(name="norm_s", **norm)(x, modulation)
            x = SpectralConv(self.features, 1, use_bias=False, name="conv_s", **conv)(x, train=train)
        return x + y


class SpadeDecoder(nn.Module):
    """Paints a picture from features that are input and modulation map at once, doubling their size twice.

    Attributes:
        width: channels of the middle blocks.
        middle: number of middle blocks.
        ups: channels after every doubling.
        hidden: see :class:`Spade`.
        folded, dtype: see :class:`SpadeBlock`.

    Returns the picture before its sigmoid.
    """

    width: int = 512
    middle: int = 6
    ups: tuple[int, ...] = (256, 64)
    hidden: int = HIDDEN
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b y x 3"]:
        layout = {"hidden": self.hidden, "folded": self.folded, "dtype": self.dtype}
        x = Conv(self.width, dtype=self.dtype, name="fc")(features)
        for i in range(self.middle):
            x = SpadeBlock(self.width, name=f"G_middle_{i}", **layout)(x, features, train=train)
        for i, width in enumerate(self.ups):
            x = resize_nearest(x, (2 * x.shape[1], 2 * x.shape[2]))
            x = SpadeBlock(width, name=f"up_{i}", **layout)(x, features, train=train)
        return Conv(3, dtype=self.dtype, name="conv_img")(nn.leaky_relu(x, 0.2))
