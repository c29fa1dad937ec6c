"""Normalisation layers with PyTorch's statistics. All compute in float32 at least, and return the compute type."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def _result_type(x: Array, dtype: DTypeLike | None, *params: Array) -> DTypeLike:
    return jnp.result_type(x, *params) if dtype is None else dtype


def _scale_shift(
    x: Float[Array, "b h w c"], scale: Float[Array, "#b #h #w c"], shift: Float[Array, "#b #h #w c"], dtype: DTypeLike
) -> Float[Array, "b h w c"]:
    return (x * scale + shift).astype(dtype)


class Affine(nn.Module):
    """``x * scale + bias`` per channel: what remains of a batch norm after folding.

    Attributes:
        dtype: type of the result; None takes the widest of input and params.
    """

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        dtype = _result_type(x, self.dtype, scale)
        return _scale_shift(x, scale[None, None, None], bias[None, None, None], dtype)


class BatchNorm(nn.Module):
    """Batch norm over all positions, with PyTorch's running statistics (Ioffe and Szegedy, 2015).

    The normalisation uses the biased variance of the batch, the running variance ("batch_stats") moves towards the
    unbiased one; Flax's own layer stores the biased one. Under jit with a sharded batch the mean is over the whole
    batch: XLA adds the reductions over devices.

    Attributes:
        momentum: weight of the old running statistics.
        epsilon: added to the variance.
        dtype: type of the result; None takes the widest of input and params.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        dtype = _result_type(x, self.dtype, scale)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = running_mean.value, running_var.value
        if train:
            # Two passes: the difference of E[x^2] and E[x]^2 loses the variance where the mean is large.
            mean = x.mean(axis=(0, 1, 2))
            var = ((x - mean[None, None, None]) ** 2).mean(axis=(0, 1, 2))
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = self._moved(running_mean.value, mean)
                running_var.value = self._moved(running_var.value, unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        return _scale_shift(x, factor[None, None, None], shift[None, None, None], dtype)

    def _moved(self, old: Float[Array, " c"], new: Float[Array, " c"]) -> Float[Array, " c"]:
        return (self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new)).astype(old.dtype)


class InstanceNorm(nn.Module):
    """Normalises every channel of every sample over its positions, then scales and shifts it; no running statistics.

    Attributes:
        epsilon: added to the (biased) variance.
        dtype: type of the result; None takes the widest of input and params.
    """

    epsilon: float = 1e-5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))[None, None, None]
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))[None, None, None]
        dtype = _result_type(x, self.dtype, scale)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean(axis=(1, 2), keepdims=True)
        var = ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True)
        return _scale_shift(x - mean, scale * lax.rsqrt(var + self.epsilon), bias, dtype)
