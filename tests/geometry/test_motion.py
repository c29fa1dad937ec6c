"""Grids, heatmaps, deformations and hulls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from reenax.geometry.grids import apply_2x2, coordinate_grid, inverse_2x2, matmul_2x2
from reenax.geometry.heatmaps import expectation, expected_points, gaussian_heatmap, spatial_softmax
from reenax.geometry.hull import hull_measure
from reenax.geometry.sampling import grid_sample
from reenax.geometry.tps import TPS, TransformParams, random_tps, transform_image, transform_jacobian, transform_points


def test_grid_runs_over_pixel_centres() -> None:
    grid = coordinate_grid(3, 5)
    np.testing.assert_allclose(grid[0, :, 0], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(grid[:, 0, 1], [-1, 0, 1])
    image = jax.random.normal(jax.random.key(0), (1, 3, 5, 2))
    np.testing.assert_allclose(grid_sample(image, grid[None]), image, atol=1e-6)


def test_small_matrices() -> None:
    left, right = jax.random.normal(jax.random.key(0), (2, 4, 3, 2, 2))
    vector = jax.random.normal(jax.random.key(1), (4, 3, 2))
    np.testing.assert_allclose(inverse_2x2(left), np.linalg.inv(left), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matmul_2x2(left, right), np.asarray(left) @ np.asarray(right), rtol=1e-5, atol=1e-6)
    expected = (np.asarray(left) @ np.asarray(vector)[..., None])[..., 0]
    np.testing.assert_allclose(apply_2x2(left, vector), expected, rtol=1e-5, atol=1e-6)


def test_heatmaps_and_back() -> None:
    points = jnp.asarray([[[0.25, -0.5], [-0.125, 0.25]]])
    heat = gaussian_heatmap(points, (33, 65), 0.01)
    assert heat.shape == (1, 33, 65, 2)
    np.testing.assert_allclose(heat[0, 8, 40, 0], 1.0, rtol=1e-6)  # (x, y) = (0.25, -0.5)
    np.testing.assert_allclose(expected_points(heat / heat.sum(axis=(1, 2), keepdims=True)), points, atol=1e-4)


def test_softmax_expectation() -> None:
    logits = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    heat = spatial_softmax(logits, 0.1)
    np.testing.assert_allclose(heat.sum(axis=(1, 2)), np.ones((2, 3)), rtol=1e-5)
    values = jax.random.normal(jax.random.key(1), (2, 6, 5, 1, 4))
    expected = np.einsum("bhwk,bhwn->bkn", heat, values[..., 0, :])
    np.testing.assert_allclose(expectation(heat, values), expected, rtol=1e-4, atol=1e-5)


def test_jacobian_of_a_deformation_is_its_derivative() -> None:
    with jax.enable_x64(True):
        tps = random_tps(jax.random.key(0), 3, TransformParams(0.2, 0.1))
        points = jax.random.uniform(jax.random.key(1), (3, 2, 7, 2), "float64", minval=-1.2, maxval=1.2)

        def one(sample: TPS, point: jax.Array) -> jax.Array:
            batched = TPS(sample.theta[None], sample.weights[None])
            return transform_points(batched, point[None])[0]

        derivative = jax.vmap(lambda t, p: jax.vmap(jax.vmap(jax.jacfwd(lambda q: one(t, q))))(p))(tps, points)
        np.testing.assert_allclose(transform_jacobian(tps, points), derivative, rtol=1e-10, atol=1e-12)
        check_grads(
            jax.jit(lambda p: transform_jacobian(tps, p)),
            (points,),
            order=2,
            modes=["rev"],
            eps=1e-6,
            atol=1e-4,
            rtol=1e-4,
        )


def test_jacobian_is_finite_at_control_points() -> None:
    tps = random_tps(jax.random.key(0), 1)
    points = coordinate_grid(5, 5)[None]
    jacobian, back = jax.value_and_grad(lambda p: transform_jacobian(tps, p).sum())(points)
    assert jnp.isfinite(jacobian)
    assert jnp.isfinite(back).all()


def test_no_noise_deforms_nothing_and_a_shift_moves_content() -> None:
    image = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    still = random_tps(jax.random.key(1), 2, TransformParams(0.0, 0.0))
    np.testing.assert_allclose(transform_image(still, image), image, atol=1e-5)
    # T(z) = z + (0.25, 0) is one pixel of nine: each pixel shows its right neighbour, the last one the mirror image.
    shift = TPS(still.theta.at[:, 0, 2].set(0.25), still.weights)
    moved = transform_image(shift, image)
    np.testing.assert_allclose(moved[:, :, :-1], image[:, :, 1:], atol=1e-5)
    np.testing.assert_allclose(moved[:, :, -1], image[:, :, -2], atol=1e-5)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([[0, 0], [2, 0], [2, 1], [0, 1], [1, 0.5]], 2.0),
        ([[0, 0], [1, 1], [2, 2]], 0.0),
        ([[0, 0], [1, 1]], 0.0),
    ],
)
def test_hull_measure(points: list[list[float]], area: float) -> None:
    assert hull_measure(np.asarray(points, np.float32)) == pytest.approx(area)
