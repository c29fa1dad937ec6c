"""Convolutions initialised as PyTorch does by default, with and without spectral normalisation."""

import functools
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


def conv(
    x: Float[Array, "b *n c"],
    kernel: Float[Array, "*m c d"],
    bias: Float[Array, " d"] | None,
    *,
    padding: int | tuple[int, ...],
    stride: int = 1,
) -> Float[Array, "b *o d"]:
    """Convolution (no flip) of pictures or volumes with ``padding`` zeros on every side, per axis if a tuple.

    On a CPU a volume is convolved as pictures, once per depth of the kernel: XLA's own form is five times slower there.
    """
    axes = x.ndim - 2
    pads = (padding,) * axes if isinstance(padding, int) else padding
    if axes == 3 and stride == 1:
        y = lax.platform_dependent(
            x, kernel, cpu=functools.partial(_conv_by_depth, pads=pads), default=functools.partial(_conv, pads=pads)
        )
    else:
        y = _conv(x, kernel, pads=pads, stride=stride)
    return y if bias is None else y + bias.reshape((1,) * (axes + 1) + (-1,))


def _conv(
    x: Float[Array, "b *n c"], kernel: Float[Array, "*m c d"], *, pads: tuple[int, ...], stride: int = 1
) -> Float[Array, "b *o d"]:
    axes = "DHW"[3 - len(pads) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    steps = (stride,) * len(pads)
    return lax.conv_general_dilated(x, kernel, steps, [(p, p) for p in pads], dimension_numbers=numbers)


def _conv_by_depth(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "i j k c e"], *, pads: tuple[int, ...]
) -> Float[Array, "b o y x e"]:
    """The sum over the kernel's depth of convolutions of pictures, with all depths of the volume as one batch."""
    batch, depth = x.shape[0], x.shape[1] + 2 * pads[0] - kernel.shape[0] + 1
    x = jnp.pad(x, ((0, 0), (pads[0], pads[0]), (0, 0), (0, 0), (0, 0)))
    slices = (x[:, i : i + depth].reshape(batch * depth, *x.shape[2:]) for i in range(kernel.shape[0]))
    first, *rest = (_conv(part, kernel[i], pads=pads[1:]) for i, part in enumerate(slices))
    y = sum(rest, start=first)
    return y.reshape(batch, depth, *y.shape[1:])


class Conv(nn.Module):
    """A convolution of pictures [b h w c] or volumes [b d h w c], with PyTorch's default initialisation.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel; or its sides, one per axis.
        padding: zeros on every side, of every axis if a tuple; None keeps the size (odd kernels, stride 1).
        stride: step of the kernel.
        use_bias: whether a bias is added. Convolutions in front of a norm have one only because published checkpoints
            do: its gradient is rounding noise.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, bias_init: None for PyTorch's default.
    """

    features: int
    kernel_size: int | tuple[int, ...] = 3
    padding: int | tuple[int, ...] | None = None
    stride: int = 1
    use_bias: bool = True
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"]) -> Float[Array, "b *o {self.features}"]:
        sides = (self.kernel_size,) * (x.ndim - 2) if isinstance(self.kernel_size, int) else self.kernel_size
        shape = (*sides, x.shape[-1], self.features)
        default = uniform_fan_in(math.prod(shape[:-1]))
        kernel = self.param("kernel", self.kernel_init or default, shape)
        bias = self.param("bias", self.bias_init or default, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        padding = tuple(side // 2 for side in sides) if self.padding is None else self.padding
        return conv(x, kernel, bias, padding=padding, stride=self.stride)


class ConvTranspose(nn.Module):
    """A transposed convolution of pictures with PyTorch's arithmetic and default initialisation.

    The kernel is that of the convolution of the picture with zeros between its pixels, called "transposed_kernel"
    since checkpoints hold it flipped and with its channels the other way round.

    Attributes:
        features: output channels.
        kernel_size: side of the kernel.
        stride: by how much the picture grows.
        padding, output_padding: PyTorch's: kernel_size - 1 - padding zeros surround the spread picture, and
            output_padding more at its lower right.
        use_bias: whether a bias is added.
        dtype: compute type; None takes the widest of input and params.
        kernel_init, bias_init: None for PyTorch's default.
    """

    features: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1
    output_padding: int = 0
    use_bias: bool = True
    dtype: DTypeLike | None = None
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x {self.features}"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        default = uniform_fan_in(self.kernel_size**2 * self.features)  # PyTorch counts the fan of its own layout
        kernel = self.param("transposed_kernel", self.kernel_init or default, shape)
        bias = self.param("bias", self.bias_init or default, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        before = self.kernel_size - 1 - self.padding
        pads = [(before, before + self.output_padding)] * 2
        spread = (self.stride, self.stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), pads, lhs_dilation=spread, dimension_numbers=numbers)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    return vector / jnp.maximum(jnp.sqrt((vector**2).sum()), 1e-12)


def largest_singular_value(
    kernel: Float[Array, "*m c d"], u: Float[Array, " d"], v: Float[Array, " e"]
) -> Float[Array, ""]:
    """``u^T W v``, W being the kernel in PyTorch's layout, and u and v the vectors of :class:`SpectralConv`."""
    precision = lax.Precision.HIGHEST
    return jnp.dot(u, jnp.dot(_as_matrix(kernel), v, precision=precision), precision=precision)


def _as_matrix(kernel: Float[Array, "*m c d"]) -> Float[Array, "d e"]:
    axes = range(kernel.ndim - 2)
    return kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *axes).reshape(kernel.shape[-1], -1)


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
        return conv(x, kernel, bias, padding=padding)

    def _sigma(self, kernel: Float[Array, "i j c d"], train: bool) -> Float[Array, ""]:
        matrix = _as_matrix(kernel)
        u = self.variable("spectral", "u", self._random_unit, matrix.shape[0])
        v = self.variable("spectral", "v", self._random_unit, matrix.shape[1])
        precision = lax.Precision.HIGHEST
        if train and not self.is_initializing():
            fixed = lax.stop_gradient(matrix)
            v.value = _unit(jnp.dot(u.value, fixed, precision=precision))
            u.value = _unit(jnp.dot(fixed, v.value, precision=precision))
        return largest_singular_value(kernel, u.value, v.value)

    def _random_unit(self, size: int) -> Float[Array, " {size}"]:
        return _unit(jax.random.normal(self.make_rng("params"), (size,)))
