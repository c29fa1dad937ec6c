"""Pixel metrics on pictures in [-1, 1]; each gives one value per picture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SSIM_WINDOW = 7


def l1(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Mean absolute difference in units of [0, 1], as First Order Motion reports it."""
    return jnp.mean(jnp.abs(a - b), axis=(1, 2, 3)) / 2


def psnr(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Peak signal to noise ratio in dB over the whole picture; equal pictures give 100."""
    error = jnp.mean((a - b) ** 2, axis=(1, 2, 3)) / 4
    return jnp.minimum(-10 * jnp.log10(jnp.maximum(error, 1e-30)), 100.0)


def ssim(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Structural similarity as scikit-image computes it by default, which most face papers report.

    Windows of 7 x 7 equal weights, sample covariance, only windows that lie within the picture, mean over
    channels. Own code, since dm-pix offers the Gaussian window alone. Pictures must be at least 7 x 7.
    """
    n = SSIM_WINDOW**2
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    # variances from values near zero: squares of large means would cancel in float32
    unbiased = n / (n - 1)
    var_a = unbiased * (_window_mean(a * a) - mean_a**2)
    var_b = unbiased * (_window_mean(b * b) - mean_b**2)
    covariance = unbiased * (_window_mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    # the means of pictures in [0, 2], which is what the constants are meant for
    mean_a, mean_b = mean_a + 1, mean_b + 1
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return jnp.mean(top / bottom, axis=(1, 2, 3))


def _window_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    window = (1, SSIM_WINDOW, SSIM_WINDOW, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "VALID") / SSIM_WINDOW**2
