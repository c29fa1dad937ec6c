"""Normalisation layers with PyTorch's statistics. All compute in float32 at least, and return the compute type."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def _result_type(x: Array, dtype: DTypeLike | None, *params: Array) -> DTypeLike:
    return jnp.result_type(x, *params) if dtype is None else dtype


def _scale_shift(
    x: Float[Array, "b *n c"], scale: Float[Array, "#b *#n c"], shift: Float[Array, "#b *#n c"], dtype: DTypeLike
) -> Float[Array, "b *n c"]:
    return (x * scale + shift).astype(dtype)


def _per_channel(values: Float[Array, " c"], axes: int) -> Float[Array, "*_ c"]:
    """With leading axes of size 1, so that there are as many as asked for."""
    return values.reshape((1,) * (axes - 1) + (-1,))


class Affine(nn.Module):
    """``x * scale + bias`` per channel: what remains of a batch norm after folding.

    Attributes:
        dtype: type of the result; None takes the widest of input and params.
    """

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"]) -> Float[Array, "b *n c"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        dtype = _result_type(x, self.dtype, scale)
        return _scale_shift(x, _per_channel(scale, x.ndim), _per_channel(bias, x.ndim), dtype)


class BatchNorm(nn.Module):
    """Batch norm over all positions, with PyTorch's running statistics (Ioffe and Szegedy, 2015).

    The normalisation uses the biased variance of the batch, the running variance ("batch_stats") moves towards the
    unbiased one; Flax's own layer stores the biased one. Under jit with a sharded batch the mean is over the whole
    batch: XLA adds the reductions over devices.

    Attributes:
        momentum: weight of the old running statistics.
        epsilon: added to the variance.
        dtype: type of the result; None takes the widest of input and params.
        scale_init: None for ones.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    scale_init: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *n c"], *, train: bool) -> Float[Array, "b *n c"]:
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init or nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        dtype = _result_type(x, self.dtype, scale)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = running_mean.value, running_var.value
        if train:
            # Two passes: the difference of E[x^2] and E[x]^2 loses the variance where the mean is large.
            positions = tuple(range(x.ndim - 1))
            mean = x.mean(axis=positions)
            var = ((x - _per_channel(mean, x.ndim)) ** 2).mean(axis=positions)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = self._moved(running_mean.value, mean)
                running_var.value = self._moved(running_var.value, unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        return _scale_shift(x, _per_channel(factor, x.ndim), _per_channel(shift, x.ndim), dtype)

    def _moved(self, old: Float[Array, " c"], new: Float[Array, " c"]) -> Float[Array, " c"]:
        return (self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new)).astype(old.dtype)


class InstanceNorm(nn.Module):
    """Normalises every channel of every sample over its positions, then scales and shifts it; no running statistics.

    Attributes:
        epsilon: added to the (biased) variance.
        affine: whether it scales and shifts.
        dtype: type of the result; None takes the widest of input and params.
    """

    epsilon: float = 1e-5
    affine: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        scale, bias = jnp.ones(x.shape[-1:], x.dtype), jnp.zeros(x.shape[-1:], x.dtype)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
            bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        dtype = _result_type(x, self.dtype, scale)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean(axis=(1, 2), keepdims=True)
        var = ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True)
        factor = scale[None, None, None] * lax.rsqrt(var + self.epsilon)
        return _scale_shift(x - mean, factor, bias[None, None, None], dtype)


class TrackedInstanceNorm(nn.Module):
    """An instance norm that also keeps running statistics, PyTorch's with ``track_running_stats``.

    The running statistics ("batch_stats") move towards the means over the batch of the instances' means and unbiased
    variances. In training and by default also in evaluation every instance is normalised by its own statistics, the
    biased variance; networks of this kind are published by people who never left the training mode.

    Attributes:
        momentum: weight of the old running statistics.
        epsilon: added to the variance.
        use_running: in evaluation the running statistics normalise.
        dtype: type of the result; None takes the widest of input and params.
        scale_init: None for ones.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_running: bool = False
    dtype: DTypeLike | None = None
    scale_init: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init or nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        dtype = _result_type(x, self.dtype, scale)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = (_per_channel(v.value, x.ndim) for v in (running_mean, running_var))
        if train or not self.use_running:
            mean = x.mean(axis=(1, 2), keepdims=True)
            var = ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True)
        if train and not self.is_initializing():
            count = x.shape[1] * x.shape[2]
            unbiased = var * (count / max(count - 1, 1))
            for running, new in ((running_mean, mean), (running_var, unbiased)):
                new = lax.stop_gradient(new.mean(axis=(0, 1, 2)))
                moved = self.momentum * running.value + (1 - self.momentum) * new
                running.value = moved.astype(running.value.dtype)
        factor = scale[None, None, None] * lax.rsqrt(var + self.epsilon)
        return _scale_shift(x - mean, factor, bias[None, None, None], dtype)
