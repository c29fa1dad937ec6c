"""Float64 on CPUs at a bearable speed."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

_convolve = lax.conv_general_dilated
_PICTURES = ("NHWC", "HWIO", "NHWC")


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Float64, and convolutions of pictures as sums of matrix products.

    XLA has no library for convolutions in float64 on CPUs and takes loops of its own: with them the largest case took
    316 and not 85 s, both in quickly compiled programs.
    """
    with jax.enable_x64(True), mock.patch.object(lax, "conv_general_dilated", _convolution):
        yield


def _convolution(
    x: Any,
    kernel: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **others: Any,
) -> Any:
    usual = dimension_numbers == _PICTURES and feature_group_count == 1 and not others
    if x.dtype != jnp.float64 or not usual:
        others |= {"dimension_numbers": dimension_numbers, "feature_group_count": feature_group_count}
        return _convolve(x, kernel, window_strides, padding, lhs_dilation, **others)
    spread = [(before, after, by - 1) for (before, after), by in zip(padding, lhs_dilation or (1, 1), strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *spread, (0, 0, 0)))
    batch, *sides, channels = x.shape
    (high, wide), (down, right) = kernel.shape[:2], window_strides
    height, width = ((n - k) // s + 1 for n, k, s in zip(sides, (high, wide), (down, right), strict=True))
    total: Any = 0.0
    for i in range(high):
        for j in range(wide):
            until = (batch, i + down * (height - 1) + 1, j + right * (width - 1) + 1, channels)
            total += jnp.tensordot(lax.slice(x, (0, i, j, 0), until, (1, down, right, 1)), kernel[i, j], 1)
    return total
