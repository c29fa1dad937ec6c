"""The Fréchet distance in closed form, and statistics that merge."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from reenax.core.errors import UserError
from reenax.metrics import frechet
from reenax.metrics.frechet import Stats, distance

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(90, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(size=(70, 6)) + 1


def test_moments_are_those_of_numpy():
    stats = Stats.of(X.astype(np.float32))
    np.testing.assert_allclose(stats.mean, X.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats.covariance, np.cov(X, rowvar=False), rtol=1e-5)
    assert stats.mean.dtype == np.float64


def test_distance_of_gaussians_whose_covariances_commute():
    # then it is |m1 - m2|^2 + sum (s1 - s2)^2 over the common axes
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    s1, s2 = np.array([1.0, 2.0, 3.0, 0.5]), np.array([2.0, 1.0, 3.0, 0.25])
    a = Stats.from_moments(np.zeros(4), rotation @ np.diag(s1**2) @ rotation.T, 100)
    b = Stats.from_moments(np.array([1.0, 0.0, 0.0, 2.0]), rotation @ np.diag(s2**2) @ rotation.T, 50)
    np.testing.assert_allclose(distance(a, b), 5 + ((s1 - s2) ** 2).sum(), rtol=1e-12)


def test_distance_of_a_set_to_itself_and_to_itself_moved():
    x = Stats.of(X)
    assert abs(distance(x, x)) < 1e-10
    np.testing.assert_allclose(distance(x, Stats.of(X + 2)), 4 * 6, rtol=1e-10)
    np.testing.assert_allclose(distance(x, Stats.of(Y)), distance(Stats.of(Y), x), rtol=1e-10)


def test_it_is_that_of_the_matrix_root_even_where_a_covariance_is_singular():
    def by_root(a: Stats, b: Stats) -> float:
        root = np.real(scipy.linalg.sqrtm(a.covariance @ b.covariance))
        return ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)

    few, y = Stats.of(X[:4]), Stats.of(Y)
    np.testing.assert_allclose(distance(few, y), by_root(few, y), rtol=1e-6)
    np.testing.assert_allclose(distance(Stats.of(X), y), by_root(Stats.of(X), y), rtol=1e-10)
    constant = Stats.of(np.ones((5, 6)))
    np.testing.assert_allclose(distance(constant, constant), 0, atol=1e-10)


def test_parts_merge_into_the_whole_in_any_order():
    whole = Stats.of(X + 1000)
    parts = [Stats.of(p + 1000) for p in np.split(X, [1, 30, 30, 77])]
    for order in (parts, parts[::-1]):
        merged = Stats.empty(6)
        for part in order:
            merged = merged.merge(part)
        assert merged.count == 90
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-9)
    updated = Stats.of(X[:50] + 1000).update(X[50:] + 1000)
    np.testing.assert_allclose(updated.covariance, whole.covariance, rtol=1e-9)
    assert Stats.empty(3).merge(Stats.empty(3)).count == 0


def test_what_is_wrong_is_said():
    x = Stats.of(X)
    with pytest.raises(UserError, match="features of 6 and of 4 numbers"):
        distance(x, Stats.empty(4))
    with pytest.raises(UserError, match="two features at least, there is 1"):
        distance(x, Stats.of(X[:1]))
    with pytest.raises(UserError, match="two features at least, there is none"):
        distance(Stats.empty(6), x)
    with pytest.raises(UserError, match="count=1"):
        Stats.from_moments(np.zeros(2), np.eye(2), 1)
    with pytest.raises(UserError, match="not finite"):
        Stats.of(np.array([[1.0, np.nan]]))
    with pytest.raises(UserError, match=r"FID needs weights: .*reenax\.interop\.inception\.load"):
        frechet.fid_features(jnp.zeros((1, 32, 32, 3)))
