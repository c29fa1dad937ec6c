"""Convolutions initialised as PyTorch does by default, with and without spectral normalisation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

Initializer = Callable[..., Array]


def uniform_fan_in(fan_in: int | None = None) -> Initializer:
    """``U(-1/sqrt(fan_in), 1/sqrt(fan_in))``: PyTorch's default for kernels and biases of dense and conv layers.

    It is He's uniform rule with a = sqrt(5). Without a fan-in that of the shape is taken: all axes but the last.
    """

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        bound = 1 / math.sqrt(fan_in or math.prod(shape[:-1]))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "i j c d"], bias: Float[Array, " d"] | None, *, padding: int
) -> Float[Array, "b y x d"]:
    """Stride-1 convolution (no flip) with ``padding`` zeros on every side."""
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y if bias is None else y + bias[None, None, None, :]


class Conv(nn.Module):
    """A square stride-1 convolution with PyTorch's default initialisation.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        padding: zeros on every side; None keeps the size (odd kernels).
        use_bias: whether a bias is added. Convolutions in front of a norm have one only because published checkpoints
            do: its gradient is rounding noise.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, bias_init: None for PyTorch's default.
    """

    features: int
    kernel_size: int = 3
    padding: int | None = None
    use_bias: bool = True
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x {self.features}"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        default = uniform_fan_in(math.prod(shape[:-1]))
        kernel = self.param("kernel", self.kernel_init or default, shape)
        bias = self.param("bias", self.bias_init or default, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        padding = self.kernel_size // 2 if self.padding is None else self.padding
        return conv2d(x, kernel, bias, padding=padding)


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    return vector / jnp.maximum(jnp.sqrt((vector**2).sum()), 1e-12)


class SpectralConv(nn.Module):
    """A :class:`Conv` whose kernel is divided by its largest singular value (Miyato et al., 2018).

    Follows PyTorch's first implementation, with which the checkpoints of this field were trained: every forward in
    training mode makes one power iteration before it normalises; the vectors are constants to the gradient; evaluation
    uses the stored ones. The vectors u [out] and v [in * height * width, in the order of PyTorch's layout] live in the
    collection "spectral", which must be mutable in training mode.

    Attributes:
        spectral: False makes it a plain convolution without vectors.
        others: as in :class:`Conv`.
    """

    features: int
    kernel_size: int = 3
    padding: int | None = None
    use_bias: bool = True
    dtype: DTypeLike | None = None
    spectral: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b y x {self.features}"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        default = uniform_fan_in(math.prod(shape[:-1]))
        kernel = self.param("kernel", default, shape)
        bias = self.param("bias", default, (self.features,)) if self.use_bias else None
        if self.spectral:
            # Normalised in the params' type: sigma in bfloat16 would be off by half a per cent.
            kernel = kernel / self._sigma(kernel, train)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        padding = self.kernel_size // 2 if self.padding is None else self.padding
        return conv2d(x, kernel, bias, padding=padding)

    def _sigma(self, kernel: Float[Array, "i j c d"], train: bool) -> Float[Array, ""]:
        matrix = kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
        u = self.variable("spectral", "u", self._random_unit, matrix.shape[0])
        v = self.variable("spectral", "v", self._random_unit, matrix.shape[1])
        precision = lax.Precision.HIGHEST
        if train and not self.is_initializing():
            fixed = lax.stop_gradient(matrix)
            v.value = _unit(jnp.dot(u.value, fixed, precision=precision))
            u.value = _unit(jnp.dot(fixed, v.value, precision=precision))
        return jnp.dot(u.value, jnp.dot(matrix, v.value, precision=precision), precision=precision)

    def _random_unit(self, size: int) -> Float[Array, " {size}"]:
        return _unit(jax.random.normal(self.make_rng("params"), (size,)))
