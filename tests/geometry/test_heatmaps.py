"""Heatmaps with a covariance, in space, and keypoints drawn into pictures."""

import jax.numpy as jnp
import numpy as np

from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import (
    covariance_heatmap,
    expected_covariance,
    expected_points,
    gaussian_heatmap,
    mark_points,
)

POINTS = jnp.asarray([[[0.25, -0.5], [-0.125, 0.25]]])


def test_a_round_covariance_is_a_variance() -> None:
    covariance = 0.01 * jnp.broadcast_to(jnp.eye(2)[None, None], (1, 2, 2, 2))
    drawn = covariance_heatmap(POINTS, covariance, (17, 33))
    np.testing.assert_allclose(drawn, gaussian_heatmap(POINTS, (17, 33), 0.01), atol=1e-6)


def test_a_covariance_is_read_back() -> None:
    covariance = jnp.asarray([[[[0.01, 0.004], [0.004, 0.02]], [[0.02, -0.01], [-0.01, 0.015]]]])
    heat = covariance_heatmap(POINTS, covariance, (129, 129))
    heat = heat / heat.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(expected_covariance(heat, POINTS), covariance, atol=2e-4)


def test_space_has_x_along_the_last_axis() -> None:
    grid = coordinate_grid(3, 5, 9)
    assert grid.shape == (3, 5, 9, 3)
    np.testing.assert_allclose(grid[0, 0, :, 0], np.linspace(-1, 1, 9))
    np.testing.assert_allclose(grid[:, 0, 0, 2], [-1, 0, 1])
    points = jnp.asarray([[[0.5, -0.5, 0.0], [-0.25, 0.0, 0.2]]])
    heat = gaussian_heatmap(points, (33, 33, 33), 0.01)
    assert float(heat[0, 16, 8, 24, 0]) == 1
    np.testing.assert_allclose(expected_points(heat / heat.sum(axis=(1, 2, 3), keepdims=True)), points, atol=2e-4)


def test_marks_lie_at_their_points() -> None:
    marked = np.asarray(mark_points(jnp.zeros((1, 33, 33, 3)), POINTS))
    changed = np.abs(marked[0]).max(axis=-1) > 0
    assert changed[8, 20]
    assert changed[20, 14]
    assert 2 <= changed.sum() < 20
