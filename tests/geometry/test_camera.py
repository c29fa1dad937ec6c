"""Cameras: where points fall, by hand and by matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reenax.geometry.camera import (
    Camera,
    euler_rotation,
    intrinsics,
    pixels_to_unit,
    project,
    project_intrinsics,
    rotate,
    unit_to_pixels,
    view,
)


@pytest.fixture(scope="module")
def points():
    return jnp.asarray(np.random.default_rng(0).uniform(-10, 10, (20, 3)), jnp.float32)


def test_the_field_at_the_head_fills_the_picture():
    camera = Camera()
    corners = jnp.asarray([[-15.5, -2.2 + 15.5, 0.0], [15.5, -2.2 - 15.5, 0.0], [0.0, -2.2, 0.0]])
    pixels, depth = project(corners, camera, 128)
    np.testing.assert_allclose(pixels, [[0, 0], [128, 128], [64, 64]], atol=1e-4)
    np.testing.assert_allclose(depth, 75.0)


def test_projection_is_the_formula_of_a_pinhole(points):
    camera, size = Camera(half_field=12.0, distance=60.0, height=1.5), 200
    pixels, depth = project(points, camera, size)
    x, y, z = np.asarray(points, np.float64).T
    focal = size / 2 * 60 / 12
    expected = np.stack([size / 2 + focal * x / (60 - z), size / 2 - focal * (y - 1.5) / (60 - z)], axis=1)
    np.testing.assert_allclose(pixels, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(depth, 60 - z, rtol=1e-6)


def test_a_file_camera_projects_by_its_matrix(points):
    # the published face model's camera: focal 1015 pixels at 224, 10 decimetres away
    camera = Camera(half_field=112 / 1015 * 10, distance=10.0, height=0.0)
    matrix = np.asarray(intrinsics(camera, 224))
    np.testing.assert_allclose(matrix, [[1015, 0, 112], [0, 1015, 112], [0, 0, 1]], rtol=1e-6)
    seen = np.asarray(view(points / 10, camera), np.float64)
    homogeneous = seen @ matrix.T.astype(np.float64)
    pixels, depth = project_intrinsics(jnp.asarray(seen, jnp.float32), jnp.asarray(matrix))
    np.testing.assert_allclose(pixels, homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-5)
    np.testing.assert_allclose(depth, seen[:, 2], rtol=1e-6)


def test_units_call_the_centres_of_the_outer_pixels_one():
    pixels = jnp.asarray([[0.5, 0.5], [31.5, 31.5], [16.0, 0.5]])
    np.testing.assert_allclose(pixels_to_unit(pixels, 32), [[-1, -1], [1, 1], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(unit_to_pixels(pixels_to_unit(pixels, 32), 32), pixels, atol=1e-5)


def test_points_in_the_cameras_plane_stay_finite():
    camera = Camera()
    pixels, depth = project(jnp.asarray([[1.0, 2.0, 75.0], [1.0, 2.0, 90.0]]), camera, 64)
    assert np.isfinite(pixels).all()
    assert (np.asarray(depth) <= 0).all()
    gradient = jax.jit(jax.grad(lambda p: project(p, camera, 64)[0].sum()))(jnp.asarray([1.0, 2.0, 75.0]))
    assert np.isfinite(gradient).all()


def test_euler_angles_turn_about_x_then_y_then_z(points):
    angles = np.random.default_rng(1).uniform(-1, 1, (5, 3)).astype(np.float32)
    matrices = euler_rotation(jnp.asarray(angles))
    np.testing.assert_allclose(matrices, Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-6)
    turned = rotate(points, matrices[0])
    np.testing.assert_allclose(turned, Rotation.from_euler("xyz", angles[0]).apply(points), rtol=1e-4, atol=1e-5)


def test_positive_pitch_looks_down_and_positive_yaw_to_the_right():
    nose = jnp.asarray([[0.0, 0.0, 1.0]])
    down = rotate(nose, euler_rotation(jnp.asarray([0.3, 0.0, 0.0])))[0]
    right = rotate(nose, euler_rotation(jnp.asarray([0.0, 0.3, 0.0])))[0]
    assert down[1] < 0
    assert right[0] > 0
