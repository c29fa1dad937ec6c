"""Pixel metrics on pictures in [-1, 1]; each gives one value per picture.

Masked forms (MarioNETte, Ha et al., 2020) come in two readings. ``reduce="frame"``: both pictures are black outside the
mask and the metric is taken over the whole frame, which explains the published values. ``reduce="mask"``: the mean over
the pixels of the mask, and NaN where a mask is empty.
"""

import dataclasses
import functools
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from reenax.core.errors import UserError

RANGE = 2.0  # of pictures in [-1, 1]
PSNR_LIMIT = 100.0
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik, 2003
MS_SSIM_SIDE = 161  # the 11 taps must fit into the fifth scale
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

Pictures = Float[Array, "b h w c"]
Mask = Bool[Array, "b h w"]


@dataclasses.dataclass(frozen=True)
class _Window:
    """One of the windows in use: weights along an axis, and what happens at the borders.

    Attributes:
        taps: weights along one axis, sum 1; the window is their outer product.
        correction: N / (N - 1) where covariances are those of a sample.
        borders: how the picture goes on beyond its edge where a map of full size is wanted.
        cropped: whether only windows that lie within the picture count.
    """

    taps: tuple[float, ...]
    correction: float = 1.0
    borders: str = "symmetric"
    cropped: bool = True

    @property
    def radius(self) -> int:
        return len(self.taps) // 2


def _uniform(size: int) -> _Window:
    return _Window((1 / size,) * size, size**2 / (size**2 - 1))


def _gaussian_taps(size: int = 11, sigma: float = 1.5) -> tuple[float, ...]:
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return tuple((taps / taps.sum()).tolist())


WINDOWS = MappingProxyType(
    {
        "skimage": _uniform(7),
        "wang": _Window(_gaussian_taps()),
        "uniform11": _uniform(11),
        "pytorch_msssim": _Window(_gaussian_taps()),
        "torchmetrics": _Window(_gaussian_taps(), borders="reflect", cropped=False),
    }
)
MS_SSIM_VARIANTS = ("pytorch_msssim", "torchmetrics")


def l1(a: Pictures, b: Pictures, mask: Mask | None = None, *, reduce: str = "frame") -> Float[Array, " b"]:
    """Mean absolute difference in units of [0, 1], as First Order Motion reports it.

    Args:
        a, b: pictures in [-1, 1].
        mask: the pixels that count; all when None.
        reduce: "frame" or "mask", see the head of this file.

    Raises:
        UserError: an unknown ``reduce``.
    """
    return _reduced(jnp.abs(a - b), mask, reduce) / RANGE


def psnr(a: Pictures, b: Pictures, mask: Mask | None = None, *, reduce: str = "frame") -> Float[Array, " b"]:
    """Peak signal to noise ratio in dB over the whole picture; equal pictures give 100.

    The arguments are those of :func:`l1`.
    """
    error = _reduced((a - b) ** 2, mask, reduce) / RANGE**2
    return jnp.minimum(-10 * jnp.log10(jnp.maximum(error, 1e-30)), PSNR_LIMIT)


def _reduced(error: Pictures, mask: Mask | None, reduce: str) -> Float[Array, " b"]:
    """The mean of an error that is zero where two pictures are equal."""
    if _form(mask, reduce) == "mask":
        return _mean_within(error, mask)
    if mask is not None:
        error = jnp.where(mask[..., None], error, 0)
    return jnp.mean(error, axis=(1, 2, 3))


def _form(mask: Mask | None, reduce: str) -> str:
    if reduce not in ("frame", "mask"):
        raise UserError(f"reduce must be 'frame' or 'mask', got {reduce!r}")
    return "frame" if mask is None else reduce


def _mean_within(values: Pictures, mask: Mask | None) -> Float[Array, " b"]:
    """The mean over the pixels of a mask and all channels; NaN where it is empty."""
    if mask is None:
        return jnp.mean(values, axis=(1, 2, 3))
    total = jnp.sum(jnp.where(mask[..., None], values, 0), axis=(1, 2, 3))
    return total / (jnp.sum(mask, axis=(1, 2)).astype(values.dtype) * values.shape[-1])


def luma(picture: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """The grey picture in [-1, 1] of one in colour (weights of ITU-R BT.601)."""
    weights = jnp.asarray(LUMA, picture.dtype)
    return jnp.sum(picture * weights[None, None, None], axis=-1, keepdims=True)


def ssim(
    a: Pictures, b: Pictures, mask: Mask | None = None, *, variant: str = "skimage", reduce: str = "frame"
) -> Float[Array, " b"]:
    """Structural similarity (Wang et al., 2004), the mean over windows and channels.

    ``variant`` names the window and the tool whose numbers these are:

    - "skimage": 7 x 7 equal weights, sample covariance, windows within the picture: scikit-image's default, which most
      face papers report.
    - "wang": the Gaussian of the paper, sigma 1.5 and 11 taps, population covariance, windows within the picture. For
      the paper's own grey pictures give it :func:`luma`.
    - "uniform11": 11 x 11 equal weights, otherwise as "skimage".
    - "pytorch_msssim": that package; the same numbers as "wang".
    - "torchmetrics": that package: as "wang", but pictures are mirrored at the borders and every pixel counts.

    Own code, since dm-pix offers one of these alone.

    Args:
        a, b: pictures in [-1, 1], not smaller than the window.
        mask: the pixels that count; all when None.
        variant: see above.
        reduce: "frame" or "mask", see the head of this file. A window belongs to the pixel at its centre.

    Raises:
        UserError: an unknown variant or ``reduce``, or pictures smaller than the window.
    """
    window = _window(variant, a)
    form = _form(mask, reduce)
    if mask is not None and form == "frame":
        a, b = (jnp.where(mask[..., None], x, -1.0) for x in (a, b))
    luminance, contrast = _similarity(a, b, window, None if window.cropped else window.borders)
    if form == "frame":
        mask = None
    if mask is not None and window.cropped:
        r = window.radius
        mask = mask[:, r : mask.shape[1] - r, r : mask.shape[2] - r]
    return _mean_within(luminance * contrast, mask)


def ssim_map(a: Pictures, b: Pictures, *, variant: str = "skimage") -> Float[Array, "b h w c"]:
    """The similarity around every pixel, at full size: beyond the edge pictures are mirrored (edge repeated or, for
    "torchmetrics", not). The arguments and errors are those of :func:`ssim`.
    """
    window = _window(variant, a)
    luminance, contrast = _similarity(a, b, window, window.borders)
    return luminance * contrast


def _window(variant: str, picture: Pictures) -> _Window:
    if variant not in WINDOWS:
        raise UserError(f"there is no variant {variant!r} of SSIM; there are: {', '.join(WINDOWS)}")
    window = WINDOWS[variant]
    height, width = picture.shape[1:3]
    size = len(window.taps)
    if min(height, width) < size:
        raise UserError(f"SSIM {variant!r} needs pictures of at least {size}x{size}, got {height}x{width}")
    return window


@functools.partial(jax.jit, static_argnames=("window", "borders"))
def _similarity(
    a: Pictures, b: Pictures, window: _Window, borders: str | None
) -> tuple[Float[Array, "b i j c"], Float[Array, "b i j c"]]:
    """The luminance term, and the product of the contrast and the structure term."""
    if borders is not None:
        r = window.radius
        a, b = (jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)), mode=borders) for x in (a, b))  # pyright: ignore[reportArgumentType]
    means = _window_mean(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1), window)
    mean_a, mean_b, square_a, square_b, product = jnp.split(means, 5, axis=-1)
    # variances from values near zero: squares of large means would cancel in float32
    var_a = window.correction * (square_a - mean_a**2)
    var_b = window.correction * (square_b - mean_b**2)
    covariance = window.correction * (product - mean_a * mean_b)
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    # the means of pictures in [0, 2], which is what the constants are meant for
    mean_a, mean_b = mean_a + 1, mean_b + 1
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def _window_mean(x: Pictures, window: _Window) -> Float[Array, "b i j c"]:
    """Weighted means over all windows that lie within ``x``, one axis after the other."""
    for axis in (1, 2):
        count = x.shape[axis] - len(window.taps) + 1
        parts = (t * lax.slice_in_dim(x, i, i + count, axis=axis) for i, t in enumerate(window.taps))
        x = sum(parts, start=jnp.zeros((), x.dtype))
    return x


def ms_ssim(a: Pictures, b: Pictures, *, variant: str = "pytorch_msssim") -> Float[Array, " b"]:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003).

    Five scales, each half the one before; contrast and structure at the first four, all of SSIM at the fifth, negative
    means set to 0, and the product of their powers. Both variants use the Gaussian window:

    - "pytorch_msssim": windows within the picture; products per channel, then the mean over channels.
    - "torchmetrics": mirrored borders, whose windows count at the fifth scale alone; the mean over channels is taken
      at every scale.

    Args:
        a, b: pictures in [-1, 1], no side below 161.
        variant: see above.

    Raises:
        UserError: an unknown variant, or pictures that are too small.
    """
    if variant not in MS_SSIM_VARIANTS:
        raise UserError(f"there is no variant {variant!r} of MS-SSIM; there are: {', '.join(MS_SSIM_VARIANTS)}")
    if min(a.shape[1:3]) < MS_SSIM_SIDE:
        size = "x".join(map(str, a.shape[1:3]))
        raise UserError(f"MS-SSIM needs pictures of at least {MS_SSIM_SIDE}x{MS_SSIM_SIDE}, got {size}")
    window = WINDOWS[variant]
    axes = (1, 2) if window.cropped else (1, 2, 3)
    result = jnp.ones((), a.dtype)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            a, b = (_halved(x, variant) for x in (a, b))
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        borders = window.borders if last and not window.cropped else None
        luminance, contrast = _similarity(a, b, window, borders)
        term = jnp.mean(luminance * contrast if last else contrast, axis=axes)
        result = result * jnp.maximum(term, 0) ** weight
    return jnp.mean(result, axis=1) if window.cropped else result


def _halved(x: Pictures, variant: str) -> Float[Array, "b i j c"]:
    """Means of 2 x 2 pixels. What is left over at an odd side is dropped, or padded by zeros (pytorch-msssim)."""
    padding = [(0, 0)] * 4
    if variant == "pytorch_msssim":
        # Black, not grey: the package pools pictures in [0, 1].
        x = x + 1
        padding = [(0, 0), *((n % 2, n % 2) for n in x.shape[1:3]), (0, 0)]
    pooled = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), padding) / 4
    return pooled - 1 if variant == "pytorch_msssim" else pooled
