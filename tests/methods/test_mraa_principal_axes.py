"""The closed form of principal axes against LAPACK, its gradient against differences, and regions without a shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.grids import inverse_2x2
from reenax.methods.mraa.principal_axes import lifted, principal_axes, relative_motion, without_axis_swap


def covariances(count: int, seed: int = 0) -> np.ndarray:
    """Random ones in float64, of all directions and of aspect ratios up to some hundreds."""
    root = np.random.default_rng(seed).normal(size=(count, 2, 2))
    return root @ root.swapaxes(1, 2)


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def test_equals_the_singular_value_decomposition() -> None:
    c = covariances(2000)
    axes = np.asarray(principal_axes(jnp.asarray(c, jnp.float32)), np.float64)
    u, s, _ = np.linalg.svd(c)
    np.testing.assert_allclose(np.abs(axes), np.abs(u * np.sqrt(s)[:, None]), atol=3e-4)
    np.testing.assert_allclose(axes @ axes.swapaxes(1, 2), c, rtol=1e-5, atol=1e-5)
    lengths = np.linalg.norm(axes, axis=1)
    assert (lengths[:, 0] >= lengths[:, 1]).all(), "the longest axis is the first column"


def test_the_signs_are_those_of_lapack() -> None:
    """The determinant is always negative, and the first entry as well but for nearly round regions with b > 0."""
    c = covariances(2000, seed=1)
    a, b, d = c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]
    axes = np.asarray(principal_axes(jnp.asarray(c, jnp.float32)), np.float64)
    assert (np.linalg.det(axes) < 0).all()
    positive = (b > 0) & (a * d - b**2 > a**2 + b**2)
    assert 20 < positive.sum() < 1980
    np.testing.assert_array_equal(axes[:, 0, 0] > 0, positive)
    # one of each kind, as LAPACK 3.12 gives them
    wanted = [
        [[-0.94868330, -0.31622777], [-0.31622777, 0.94868330]],
        [[0.31622777, 0.94868330], [0.94868330, -0.31622777]],
    ]
    for u, s1, s2 in zip(wanted, (2.0, 3.0), (0.5, 2.0), strict=True):
        matrix = np.array(u) @ np.diag([s1, s2]) @ np.array(u).T
        np.testing.assert_allclose(principal_axes(jnp.asarray(matrix, jnp.float32)), u * np.sqrt([s1, s2]), atol=1e-5)


def test_a_turned_region_moves_by_that_turn() -> None:
    """Up to a right angle, at which the axes cannot tell one turn from another."""
    c, mirrored = covariances(50, seed=2), 0
    for degrees in (-80.0, -30.0, 5.0, 80.0):
        turn = rotation(degrees)
        with jax.enable_x64(True):
            driving = principal_axes(jnp.asarray(c))[None]
            source = principal_axes(jnp.asarray(turn @ c @ turn.T))[None]
            motion = relative_motion(source, driving, revert_axis_swap=True)
            np.testing.assert_allclose(motion, np.broadcast_to(turn, motion.shape), atol=1e-8)
            mirrored += int((relative_motion(source, driving, revert_axis_swap=False)[..., 0, 0] < 0).sum())
    assert mirrored, "without the revert some are mirrored through the origin"


def test_gradient_is_that_of_differences() -> None:
    with jax.enable_x64(True):
        c = jnp.asarray(covariances(200, seed=3))
        change = np.random.default_rng(4).normal(size=c.shape)
        change = jnp.asarray(change + change.swapaxes(1, 2))
        tangent = jax.jvp(principal_axes, (c,), (change,))[1]
        step = 1e-7
        difference = (principal_axes(c + step * change) - principal_axes(c - step * change)) / (2 * step)
        scale = np.abs(difference).max(axis=(1, 2), keepdims=True)
        assert np.median(np.abs(tangent - difference) / scale) < 1e-6
        assert np.quantile(np.abs(tangent - difference) / scale, 0.98) < 1e-4
        pulled = jax.grad(lambda x: (principal_axes(x) * change).sum())(c)
    np.testing.assert_allclose(pulled, np.swapaxes(pulled, 1, 2), atol=1e-12)


@pytest.mark.parametrize("variance", [1e-6, 0.01, 0.3])
def test_gradient_stays_finite_near_isotropy(variance: float) -> None:
    """It grows as one over the anisotropy, as it must, and stops growing at a millionth."""
    gradient = jax.jit(jax.vmap(jax.grad(lambda x, cotangent: (principal_axes(x) * cotangent).sum()), (0, None)))
    cotangent = jnp.asarray([[0.3, -0.7], [0.2, 0.5]])
    anisotropy = np.array([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3]) * variance
    c = variance * np.eye(2) + anisotropy[:, None, None] * np.array([[1.0, 0.6], [0.6, -1.0]])
    got = np.asarray(gradient(jnp.asarray(c, jnp.float32), cotangent))
    assert np.isfinite(got).all()
    assert np.abs(got).max() < np.sqrt(variance) * 1e6 + 1 / np.sqrt(variance)
    round_one = np.asarray(principal_axes(jnp.asarray(variance * np.eye(2), jnp.float32)))
    np.testing.assert_allclose(round_one, np.sqrt(variance) * np.array([[-1, 0], [0, 1]]), rtol=1e-6)


@pytest.mark.parametrize(
    "covariance",
    [
        np.zeros((2, 2)),
        np.full((2, 2), 0.15),
        np.array([[0.3, 0.0], [0.0, 0.0]]),
        np.array([[0.0, 0.0], [0.0, 1e-5]]),
        np.full((2, 2), 1e-7),
        np.array([[0.07, -0.13], [-0.13, 0.13**2 / 0.07]]),
    ],
)
def test_a_collapsed_region_can_still_be_inverted(covariance: np.ndarray) -> None:
    """A point, lines of several directions: all heatmaps can shrink to these."""

    def sizes(x: jax.Array) -> jax.Array:
        whole = lifted(x)
        return jnp.abs(inverse_2x2(principal_axes(whole))).sum() + 1e-6 * jnp.abs(inverse_2x2(whole)).sum()

    x = jnp.asarray(covariance, jnp.float32)
    value, gradient = jax.value_and_grad(sizes)(x)
    assert np.isfinite(value)
    assert value < 1e5
    assert np.isfinite(gradient).all()
    assert np.linalg.eigvalsh(np.asarray(lifted(x), np.float64)).min() > 0
    assert np.abs(lifted(x) - x).max() <= 1.1e-8 + 1.1e-6 * covariance.trace() / 2


def test_ordinary_regions_are_not_lifted() -> None:
    c = jnp.asarray(np.concatenate([covariances(500), [[[1e-4, 0], [0, 1e-5]], [[0.3, 0], [0, 1e-6]]]]), jnp.float32)
    thin = np.asarray(c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1] ** 2) < 1e-4
    np.testing.assert_array_equal(lifted(c)[~thin], c[~thin])
    np.testing.assert_array_equal(lifted(c)[-2:], c[-2:])


def test_a_sign_of_zero_is_positive() -> None:
    motion = jnp.asarray([[[0.0, 2.0], [1.0, 3.0]], [[-1.0, 2.0], [1.0, 3.0]], [[1.0, 2.0], [1.0, 3.0]]])
    signs = jnp.asarray([1.0, -1.0, 1.0])[:, None, None]
    np.testing.assert_array_equal(without_axis_swap(motion), motion * signs)
    gradient = jax.grad(lambda x: without_axis_swap(x).sum())(motion)
    np.testing.assert_array_equal(gradient, jnp.broadcast_to(signs, motion.shape))
