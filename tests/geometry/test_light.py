"""Light by spherical harmonics, against the integral over the sphere that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.light import directional_light, radiance, sh9, studio_light


@pytest.fixture(scope="module")
def sphere():
    """Directions [n 3] and their solid angles [n]: exact quadrature for harmonics of low order."""
    cosine, weight = np.polynomial.legendre.leggauss(40)
    around = 2 * np.pi * (np.arange(80) + 0.5) / 80
    sine = np.sqrt(1 - cosine**2)[:, None]
    z = np.broadcast_to(cosine[:, None], (40, 80))
    directions = np.stack([sine * np.cos(around), sine * np.sin(around), z], axis=-1).reshape(-1, 3)
    return directions.astype(np.float32), np.repeat(weight * 2 * np.pi / 80, 80)


def test_constants_are_the_published_ones():
    x, y, z = n = np.array([0.48, -0.6, 0.64])
    expected = [
        0.886227,
        -1.772454 * y,
        1.772454 * z,
        -1.772454 * x,
        2.427032 * x * y,
        -2.427032 * y * z,
        0.700624 * (3 * z * z - 1),
        -2.427032 * x * z,
        1.213516 * (x * x - y * y),
    ]
    np.testing.assert_allclose(sh9(jnp.asarray(n, jnp.float32)), expected, rtol=1e-5)


def test_basis_functions_are_orthogonal(sphere):
    directions, angles = sphere
    basis = np.asarray(sh9(jnp.asarray(directions)), np.float64)
    products = basis.T @ (angles[:, None] * basis)
    a = np.pi * np.array([1, *[2 / np.sqrt(3)] * 3, *[2 / np.sqrt(8)] * 5])  # the published factors of the bands
    np.testing.assert_allclose(products, np.diag(a**2), atol=1e-4)


def test_a_matt_surface_receives_the_integral_of_the_clamped_cosine(sphere):
    directions, angles = sphere
    rng = np.random.default_rng(0)
    # a smooth environment: sources from everywhere, of a strength that the nine harmonics can express
    strength = np.asarray(sh9(jnp.asarray(directions)), np.float64) @ rng.normal(size=9)
    every = jnp.asarray(directions), jnp.asarray(angles * strength, jnp.float32)
    light = sum_of_lights(*every)
    normals = rng.normal(size=(30, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    fine = np.asarray(directions, np.float64)
    expected = np.maximum(normals @ fine.T, 0) @ (angles * strength)
    white = jnp.ones((30, 3))
    got = radiance(white, jnp.asarray(normals, jnp.float32), light)
    np.testing.assert_allclose(got[:, 0], expected, atol=2e-3 * np.abs(expected).max())


def sum_of_lights(directions, strengths):
    each = jax.vmap(lambda d, s: directional_light(d, s * jnp.ones(3)))
    return jax.jit(lambda d, s: each(d, s).sum(axis=0))(directions, strengths)


def test_a_directional_light_is_close_to_the_clamped_cosine(sphere):
    directions, angles = sphere
    towards = np.array([0.36, 0.48, 0.8], np.float32)
    light = directional_light(jnp.asarray(towards), jnp.asarray([1.0, 0.5, 0.25]))
    got = np.asarray(radiance(jnp.ones((len(directions), 3)), jnp.asarray(directions), light), np.float64)
    exact = np.maximum(directions @ towards, 0)
    assert np.abs(got[:, 0] - exact).max() < 0.1
    energy = (angles * got[:, 0] ** 2).sum() / (angles * exact**2).sum()
    assert 0.98 < energy < 1.0
    np.testing.assert_allclose((angles * got[:, 0]).sum(), np.pi, rtol=1e-3)  # all of a beam's power on a sphere
    np.testing.assert_allclose(got[:, 1:], got[:, :1] * [[0.5, 0.25]], rtol=1e-5, atol=1e-6)


def test_radiance_is_linear_in_albedo_and_light():
    rng = np.random.default_rng(2)
    normals = jnp.asarray([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]])
    light = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    albedo = jnp.asarray(rng.uniform(0, 1, (2, 3)), jnp.float32)
    np.testing.assert_allclose(radiance(2 * albedo, normals, light), 2 * radiance(albedo, normals, light), rtol=1e-6)
    both = radiance(albedo, normals, light) + radiance(albedo, normals, 3 * light)
    np.testing.assert_allclose(both, radiance(albedo, normals, 4 * light), rtol=1e-5, atol=1e-5)


def test_studio_light_comes_from_its_side():
    key = jnp.asarray([0.6, 0.0, 0.8])
    light = studio_light(key)
    towards, away = jnp.asarray([[0.6, 0.0, 0.8]]), jnp.asarray([[-0.95, 0.0, 0.3122499]])
    white = jnp.ones((1, 3))
    assert (radiance(white, towards, light) > 2 * radiance(white, away, light)).all()
