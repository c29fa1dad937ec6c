"""Rotations against SciPy's, expressions by hand."""

import jax.numpy as jnp
import numpy as np
import scipy.spatial.transform

from reenax.metrics.pose import (
    euler_angles,
    expression_correlation,
    expression_error,
    rotation_error,
    rotation_of_landmarks,
)

Rotation = scipy.spatial.transform.Rotation
RNG = np.random.default_rng(0)


def matrices(rotations):
    return jnp.asarray(rotations.as_matrix(), jnp.float32)


def test_rotation_error_is_the_geodesic_distance():
    angles = np.array([0.0, 0.01, 1.0, 90.0, 179.0, 180.0])
    axes = RNG.normal(size=(6, 3))
    turn = Rotation.from_rotvec(np.radians(angles)[:, None] * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    start = Rotation.random(6, np.random.default_rng(1))
    np.testing.assert_allclose(rotation_error(matrices(start), matrices(turn * start)), angles, atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(rotation_error(matrices(turn * start), matrices(start)), angles, atol=2e-4, rtol=1e-4)


def test_euler_angles_are_pitch_yaw_roll():
    angles = RNG.uniform(-80, 80, (8, 3))
    rotations = Rotation.from_euler("xyz", angles, degrees=True)  # lower case: R = Rz Ry Rx
    np.testing.assert_allclose(euler_angles(matrices(rotations)), angles, atol=1e-3)


def test_rotation_of_landmarks_ignores_size_and_place():
    shape = RNG.normal(size=(68, 3))
    rotations = Rotation.random(4, np.random.default_rng(2))
    points = np.stack([3 * r.apply(shape) + RNG.normal(size=3) for r in rotations])
    made = rotation_of_landmarks(jnp.asarray(points, jnp.float32), jnp.asarray(shape, jnp.float32))
    np.testing.assert_allclose(made, rotations.as_matrix(), atol=1e-5)


def test_rotation_of_landmarks_is_never_a_reflection():
    shape = RNG.normal(size=(20, 3))
    mirrored = shape * np.array([-1.0, 1.0, 1.0])
    made = rotation_of_landmarks(jnp.asarray(mirrored[None], jnp.float32), jnp.asarray(shape, jnp.float32))
    np.testing.assert_allclose(np.linalg.det(made), 1, atol=1e-5)


def test_expressions():
    truth = jnp.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 1.0, 2.0]])
    output = jnp.asarray([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [3.0, 1.0, 5.0]])
    np.testing.assert_allclose(expression_error(output, truth), [1, 4 / 3, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(expression_correlation(output, truth), [1, -1, np.nan], rtol=1e-6)
    a, b = (jnp.asarray(RNG.normal(size=(30, 5)), jnp.float32) for _ in range(2))
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(5)]
    np.testing.assert_allclose(expression_correlation(a, b), expected, rtol=1e-4, atol=1e-6)
