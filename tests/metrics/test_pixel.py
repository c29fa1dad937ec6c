"""Pixel metrics equal those of the tools, computed here from their definition in float64, and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from reenax.core.errors import UserError
from reenax.metrics import pixel
from reenax.metrics.masks import hull_mask
from reenax.metrics.pixel import l1, luma, ms_ssim, psnr, ssim, ssim_map

# size, sigma (None: equal weights), sample covariance, borders in scipy's words, cropped
DEFINITIONS = {
    "skimage": (7, None, True, "reflect", True),
    "wang": (11, 1.5, False, "reflect", True),
    "uniform11": (11, None, True, "reflect", True),
    "pytorch_msssim": (11, 1.5, False, "reflect", True),
    "torchmetrics": (11, 1.5, False, "mirror", False),
}


def blurred(x, size, sigma, borders):
    """Window means of [h, w, c] by SciPy."""
    if sigma is None:
        return scipy.ndimage.uniform_filter(x, size, mode=borders, axes=(0, 1))
    return scipy.ndimage.gaussian_filter(x, sigma, mode=borders, truncate=(size // 2) / sigma, axes=(0, 1))


def reference(a, b, variant):
    """Maps of the whole similarity and of contrast times structure, of pictures in [0, 1], in float64."""
    size, sigma, sample, borders, _ = DEFINITIONS[variant]
    mean = functools.partial(blurred, size=size, sigma=sigma, borders=borders)
    factor = size**2 / (size**2 - 1) if sample else 1
    ma, mb = mean(a), mean(b)
    va, vb, cov = (factor * (mean(x * y) - mean(x) * mean(y)) for x, y in ((a, a), (b, b), (a, b)))
    contrast = (2 * cov + 9e-4) / (va + vb + 9e-4)
    return (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4) * contrast, contrast


def cropped(x, radius):
    return x[radius : len(x) - radius, radius : x.shape[1] - radius]


def pictures(shape, seed=0, noise=0.2):
    """Two smooth pictures in [0, 1] of float64, the second with noise."""
    rng = np.random.default_rng(seed)
    a = scipy.ndimage.gaussian_filter(rng.normal(size=shape), (3, 3, 0))
    a = (a - a.min()) / (a.max() - a.min())
    return a, np.clip(a + noise * rng.normal(size=shape), 0, 1)


def signed(*images):
    return jnp.asarray(np.stack(images), jnp.float32) * 2 - 1


@functools.cache
def measured(name, **options):
    """The compiled metric, shared by the tests."""
    return jax.jit(functools.partial(getattr(pixel, name), **options))


@pytest.mark.parametrize("variant", DEFINITIONS)
def test_every_variant_of_ssim_is_that_of_its_tool(variant):
    a, b = pictures((24, 31, 3))
    whole, _ = reference(a, b, variant)
    radius, counted = DEFINITIONS[variant][0] // 2, DEFINITIONS[variant][4]
    expected = (cropped(whole, radius) if counted else whole).mean()
    np.testing.assert_allclose(measured("ssim", variant=variant)(signed(a), signed(b))[0], expected, atol=2e-6)
    np.testing.assert_allclose(measured("ssim_map", variant=variant)(signed(a), signed(b))[0], whole, atol=2e-5)


def halved(x, padded):
    if padded:
        x = np.pad(x, [(n % 2, n % 2) for n in x.shape[:2]] + [(0, 0)])
    h, w = (n // 2 for n in x.shape[:2])
    return x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).mean(axis=(1, 3))


@pytest.mark.parametrize("variant", pixel.MS_SSIM_VARIANTS)
def test_multiscale_similarity_by_its_definition(variant):
    torch_msssim = variant == "pytorch_msssim"
    a, b = pictures((162, 167, 2), seed=1)
    x, y, expected = a, b, 1.0
    for scale, weight in enumerate(pixel.MS_SSIM_WEIGHTS):
        if scale:
            x, y = halved(x, torch_msssim), halved(y, torch_msssim)
        whole, contrast = reference(x, y, variant)
        kept = cropped(contrast, 5) if scale < 4 else cropped(whole, 5) if torch_msssim else whole
        expected = expected * kept.mean(axis=(0, 1) if torch_msssim else None) ** weight
    assert 0.1 < np.mean(expected) < 0.9
    np.testing.assert_allclose(measured("ms_ssim", variant=variant)(signed(a), signed(b)), np.mean(expected), rtol=1e-5)


def test_a_negative_similarity_counts_as_none():
    a, _ = pictures((161, 161, 1), seed=2)
    np.testing.assert_array_equal(measured("ms_ssim", variant="torchmetrics")(signed(a), signed(1 - a)), 0)


def test_closed_forms():
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.uniform(-0.8, 0.8, (2, 9, 11, 3)), jnp.float32)
    np.testing.assert_allclose(l1(a, a + 0.1), 0.05, rtol=1e-5)
    np.testing.assert_allclose(psnr(a, a + 0.1), -10 * np.log10(0.05**2), rtol=1e-4)
    np.testing.assert_allclose(psnr(a, a), 100.0)
    np.testing.assert_allclose(ssim(a, a), 1.0, rtol=1e-6)
    white, black = jnp.ones((1, 7, 7, 3)), -jnp.ones((1, 7, 7, 3))
    np.testing.assert_allclose([l1(white, black)[0], psnr(white, black)[0]], [1, 0], atol=1e-6)
    np.testing.assert_allclose(luma(white)[0, 0, 0], 1, rtol=1e-6)
    np.testing.assert_allclose(luma(jnp.asarray([[[[1.0, -1.0, -1.0]]]])), 2 * 0.299 - 1, rtol=1e-6)


def test_all_are_symmetric_and_perfect_for_equal_pictures():
    a, b = (signed(x) for x in pictures((161, 164, 1), seed=3))
    for name, variants in (("ssim", ("skimage",)), ("ms_ssim", pixel.MS_SSIM_VARIANTS)):
        for variant in variants:
            metric = measured(name, variant=variant)
            np.testing.assert_allclose(metric(a, b), metric(b, a), rtol=1e-5)
            np.testing.assert_allclose(metric(a, a), 1, rtol=1e-6)


def test_one_value_per_picture_by_the_definition_of_ssim():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-1, 1, (2, 2, 7, 7, 1))
    expected = []
    for x, y in zip((a + 1) / 2, (b + 1) / 2, strict=True):
        cov = np.cov(x.ravel(), y.ravel())
        mx, my = x.mean(), y.mean()
        top = (2 * mx * my + 1e-4) * (2 * cov[0, 1] + 9e-4)
        expected.append(top / ((mx**2 + my**2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)))
    made = ssim(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(made, expected, rtol=1e-4)


def test_masked_over_the_frame_is_the_metric_of_pictures_that_are_black_outside():
    a, b = (signed(x) for x in pictures((20, 22, 3), seed=4))
    mask = np.zeros((1, 20, 22), bool)
    mask[:, 4:15, 6:18] = True
    dark = [jnp.where(mask[..., None], x, -1.0) for x in (a, b)]
    for metric in (l1, psnr, measured("ssim", variant="skimage")):
        np.testing.assert_allclose(metric(a, b, jnp.asarray(mask)), metric(*dark), rtol=1e-5)
    share = mask.mean()
    difference = psnr(a, b, jnp.asarray(mask)) - psnr(a, b, jnp.asarray(mask), reduce="mask")
    np.testing.assert_allclose(difference, -10 * np.log10(share), rtol=1e-5)


def test_masked_over_the_mask_is_the_mean_over_its_pixels():
    a, b = (signed(x) for x in pictures((20, 22, 3), seed=5))
    mask = np.zeros((1, 20, 22), bool)
    mask[:, 3:12, 5:22] = True
    inside = np.asarray(a - b)[mask]
    np.testing.assert_allclose(l1(a, b, jnp.asarray(mask), reduce="mask")[0], np.abs(inside).mean() / 2, rtol=1e-5)
    np.testing.assert_allclose(
        psnr(a, b, jnp.asarray(mask), reduce="mask")[0], -10 * np.log10((inside**2).mean() / 4), rtol=1e-5
    )
    windows = mask.copy()
    windows[:, :, -3:] = False  # no window within the picture is centred there
    expected = np.asarray(ssim_map(a, b))[windows].mean()
    np.testing.assert_allclose(ssim(a, b, jnp.asarray(mask), reduce="mask")[0], expected, rtol=1e-5)
    everything, nothing = jnp.ones((1, 20, 22), bool), jnp.zeros((1, 20, 22), bool)
    for metric in (l1, psnr, ssim):
        np.testing.assert_allclose(metric(a, b, everything, reduce="mask"), metric(a, b), rtol=1e-5)
        assert np.isnan(metric(a, b, nothing, reduce="mask")).all()


def test_the_face_region_is_the_hull_of_the_landmarks():
    square = np.array([[1.0, 2.0], [5.0, 2.0], [5.0, 6.0], [1.0, 6.0], [3.0, 4.0]])
    line = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    lost = np.full((5, 2), np.nan)
    masks = hull_mask(np.stack([square, line, lost]), 8, 10)
    assert masks.shape == (3, 8, 10)
    expected = np.zeros((8, 10), bool)
    expected[2:6, 1:5] = True
    np.testing.assert_array_equal(masks[0], expected)
    assert not masks[1:].any()
    assert hull_mask(np.zeros((0, 5, 2)), 8, 10).shape == (0, 8, 10)


def test_what_is_wrong_is_said():
    a = jnp.zeros((1, 9, 40, 3))
    with pytest.raises(UserError, match="no variant 'wangg' of SSIM; there are: skimage, wang,"):
        ssim(a, a, variant="wangg")
    with pytest.raises(UserError, match="'wang' needs pictures of at least 11x11, got 9x40"):
        ssim(a, a, variant="wang")
    with pytest.raises(UserError, match="reduce must be 'frame' or 'mask', got 'face'"):
        psnr(a, a, reduce="face")
    with pytest.raises(UserError, match="no variant 'skimage' of MS-SSIM; there are: pytorch_msssim, torchmetrics"):
        ms_ssim(a, a, variant="skimage")
    with pytest.raises(UserError, match="at least 161x161, got 9x40"):
        ms_ssim(a, a)
