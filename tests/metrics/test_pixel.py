"""Pixel metrics equal the numbers of scikit-image, and closed forms."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.metrics.pixel import l1, psnr, ssim

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "metrics" / "pixel.npz"


def signed(picture):
    return jnp.asarray(picture, jnp.float32)[None] / 127.5 - 1


@pytest.mark.skipif(not GOLDEN.exists(), reason="the full golden set (../shared/golden) is not here")
@pytest.mark.parametrize("other", ["b", "c"])
def test_equal_to_scikit_image(other):
    case = np.load(GOLDEN)
    a, b = signed(case["in_a"]), signed(case[f"in_{other}"])
    np.testing.assert_allclose(l1(a, b)[0], case[f"l1_{other}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(psnr(a, b)[0], case[f"psnr_{other}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ssim(a, b)[0], case[f"ssim_default_{other}"], rtol=1e-4, atol=1e-5)


def test_closed_forms():
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.uniform(-0.8, 0.8, (2, 9, 11, 3)), jnp.float32)
    np.testing.assert_allclose(l1(a, a + 0.1), 0.05, rtol=1e-5)
    np.testing.assert_allclose(psnr(a, a + 0.1), -10 * np.log10(0.05**2), rtol=1e-4)
    np.testing.assert_allclose(psnr(a, a), 100.0)
    np.testing.assert_allclose(ssim(a, a), 1.0, rtol=1e-6)


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
