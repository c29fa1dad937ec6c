"""What StarGAN and GANimation share: the trunk of a generator that reads a label, and a critic that names the label.

StarGAN: Choi et al., CVPR 2018; GANimation: Pumarola et al., ECCV 2018, with the same networks but for the running
statistics of the norms, the initialisation and the generator's heads.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.precision import wide
from reenax.core.types import Variables
from reenax.nn.blocks import run_block
from reenax.nn.conv import Conv, ConvTranspose, Initializer, conv, uniform_fan_in
from reenax.nn.norm import InstanceNorm, TrackedInstanceNorm

SLOPE = 0.01  # of the critic's leaky ReLUs


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
        image_size: side of the pictures; a multiple of ``2 ** layers``, and of 4, which the generator wants.
        features: channels of the first layer; each of the others doubles them.
        layers: number of halvings.

    Raises:
        UserError: no such multiple.
    """

    image_size: int = 128
    features: int = 64
    layers: int = 6

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise UserError(f"config.model.critic.layers={self.layers}: it must be at least 1")
        if self.image_size < 1 or self.image_size % max(4, 2**self.layers):
            raise UserError(
                f"config.model.critic.image_size={self.image_size}: it must be a multiple of "
                f"{max(4, 2**self.layers)}, for config.model.critic.layers={self.layers}"
            )


def check_critic_steps(count: int) -> None:
    """Raises UserError for a number of the critic's steps that is none."""
    if count < 1:
        raise UserError(f"config.model.critic_steps={count}: it must be at least 1")


class LabelledConv(nn.Module):
    """A 7x7 convolution of a picture behind which the label stands as constant channels, all padded with zeros.

    The constant channels are not laid out: the label weighs the kernel's part of it, and of each of the 49 places of
    that small kernel every pixel takes what lies on the picture. So the gradient of a batch is summed as the kernel is
    shaped, and devices that share a batch exchange no array of the picture's size. It is the borders that tell a label
    from a bias: a norm behind the convolution would take any constant away.

    Attributes:
        features: output channels.
        gain: the label's part of the kernel starts so many times as large. Since a norm leaves little of a constant,
            a small network learns sooner to heed its label if this is more than the published 1.
        dtype: compute type; None takes the widest of input and params.
        kernel_init: None for PyTorch's default.
    """

    features: int
    gain: float = 1.0
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, picture: Float[Array, "b h w d"], label: Float[Array, "b c"]
    ) -> Float[Array, "b h w {self.features}"]:
        (_, height, width, depth), labels, side = picture.shape, label.shape[-1], 7
        shape = (side, side, depth + labels, self.features)
        gains = jnp.repeat(jnp.asarray([1.0, self.gain]), jnp.asarray([depth, labels]), total_repeat_length=shape[2])
        init = self.kernel_init or uniform_fan_in()
        kernel = self.param("kernel", lambda *a: gains[None, None, :, None] * init(*a), shape)
        picture, label, kernel = promote_dtype(picture, label, kernel, dtype=self.dtype)
        weighed = jnp.einsum("bc,yxcf->byxf", label, kernel[:, :, depth:])
        across = jnp.einsum("wx,byxf->bywf", _inside(width, side, kernel.dtype), weighed)
        added = jnp.einsum("hy,bywf->bhwf", _inside(height, side, kernel.dtype), across)
        return conv(picture, kernel[:, :, :depth], None, padding=side // 2) + added


def _inside(length: int, side: int, dtype: DTypeLike) -> Float[Array, "{length} {side}"]:
    """1 where a place of a kernel that is centred on a pixel lies on the picture, 0 where it lies beyond its border."""
    places = np.arange(length)[:, None] + np.arange(side)[None] - side // 2
    return jnp.asarray((places >= 0) & (places < length), dtype)


class NormedResidual(nn.Module):
    """``x + norm2(conv2(relu(norm1(conv1(x)))))``, 3x3, channels kept, nothing after the sum.

    Attributes:
        tracked, use_running: whether the norms keep running statistics, and whether evaluation uses them.
        dtype: compute type; None takes the widest of input and params.
        kernel_init: None for PyTorch's default.
    """

    tracked: bool = False
    use_running: bool = False
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        layer: dict[str, Any] = {"use_bias": False, "dtype": self.dtype, "kernel_init": self.kernel_init}
        y = Conv(x.shape[-1], name="conv1", **layer)(x)
        y = nn.relu(_norm(self, "norm1")(y, train))
        y = Conv(x.shape[-1], name="conv2", **layer)(y)
        return x + _norm(self, "norm2")(y, train)


class LabelTrunk(nn.Module):
    """Picture and label to features of the picture's size.

    A 7x7 convolution, two that halve, residual blocks, two transposed ones that double; an instance norm behind each,
    no bias anywhere.

    Attributes:
        features: channels at the picture's size; twice and four times as many at half and a quarter of it.
        blocks: number of residual blocks.
        label_gain: see :class:`LabelledConv`.
        tracked: whether the norms keep running statistics (StarGAN).
        use_running: whether evaluation uses them.
        dtype: compute type; None takes the widest of input and params.
        remat: activations of the residual blocks are computed again in the backward pass.
        kernel_init: None for PyTorch's default.

    Raises:
        ValueError: a side is no multiple of 4.
    """

    features: int = 64
    blocks: int = 6
    label_gain: float = 1.0
    tracked: bool = False
    use_running: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, picture: Float[Array, "b h w 3"], label: Float[Array, "b c"], *, train: bool
    ) -> Float[Array, "b h w {self.features}"]:
        if picture.shape[1] % 4 or picture.shape[2] % 4:
            raise ValueError(f"sides must be multiples of 4, got {picture.shape[1]} x {picture.shape[2]}")
        init: dict[str, Any] = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        layer = {"kernel_size": 4, "padding": 1, "stride": 2, "use_bias": False, **init}
        x = LabelledConv(self.features, self.label_gain, name="first", **init)(picture, label)
        x = nn.relu(_norm(self, "first_norm")(x, train))
        for i in range(2):
            x = Conv(self.features * 2 ** (i + 1), name=f"down_{i}", **layer)(x)
            x = nn.relu(_norm(self, f"down_norm_{i}")(x, train))
        for i in range(self.blocks):
            block = NormedResidual(self.tracked, self.use_running, name=f"residual_{i}", **init)
            x = run_block(block, x, train, self.remat)
        for i in range(2):
            x = ConvTranspose(self.features * 2 ** (1 - i), name=f"up_{i}", **layer)(x)
            x = nn.relu(_norm(self, f"up_norm_{i}")(x, train))
        return x


def _norm(parent: NormedResidual | LabelTrunk, name: str) -> Any:
    """The norm of a network's kind, as a function of (x, train)."""
    if parent.tracked:
        tracked = TrackedInstanceNorm(use_running=parent.use_running, dtype=parent.dtype, name=name)
        return lambda x, train: tracked(x, train=train)
    plain = InstanceNorm(dtype=parent.dtype, name=name)
    return lambda x, train: plain(x)


class Reading(NamedTuple):
    """What the critic says of a picture, in float32.

    Attributes:
        scores: how real each patch looks; unbounded.
        label: intensities or logits, whatever the label's loss asks for.
    """

    scores: Float[Array, "b y x"]
    label: Float[Array, "b c"]


class LabelCritic(nn.Module):
    """Judges patches and reads the label.

    Halving 4x4 convolutions with leaky ReLUs; a 3x3 one gives the scores, one as large as what is left of the picture
    the label. No norm, since a gradient penalty wants every sample by itself.

    Attributes:
        labels: length of the label.
        image_size: side of the pictures, which the last convolution's size depends on; a multiple of ``2 ** layers``.
        features: channels of the first convolution; each one doubles them.
        layers: how many convolutions halve the picture.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, bias_init: None for PyTorch's default.

    Raises:
        UserError: pictures of another size.
    """

    labels: int
    image_size: int = 128
    features: int = 64
    layers: int = 6
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"]) -> Reading:
        if picture.shape[1:3] != (self.image_size, self.image_size):
            raise UserError(
                f"config.model.critic.image_size={self.image_size}: the critic reads pictures of {self.image_size} x "
                f"{self.image_size}, got {picture.shape[1]} x {picture.shape[2]}; set it to their size"
            )
        init: dict[str, Any] = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        x = picture
        for i in range(self.layers):
            layer = {"kernel_size": 4, "padding": 1, "stride": 2, "bias_init": self.bias_init, "name": f"conv_{i}"}
            x = nn.leaky_relu(Conv(self.features * 2**i, **layer, **init)(x), SLOPE)
        scores = Conv(1, use_bias=False, name="scores", **init)(x)
        read = Conv(self.labels, x.shape[1], padding=0, use_bias=False, name="label", **init)(x)
        return Reading(wide(scores[..., 0]), wide(read[:, 0, 0]))


def reads_labels(variables: Variables) -> bool:
    """Whether the critic has ever learned: its last layer is zero where only the generator was imported."""
    return bool(np.any(np.asarray(variables["critic"]["params"]["label"]["kernel"])))
