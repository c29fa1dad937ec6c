"""Keypoint metrics by hand, under motions that must not matter, and with points that are missing."""

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.metrics.keypoint import (
    JAW_LIPS,
    LIPS,
    akd,
    aucon,
    detected,
    landmark_suite,
    lmd,
    mkr,
    nme,
    pose_error,
    prmse,
)

RNG = np.random.default_rng(0)
FACES = jnp.asarray(RNG.normal(size=(3, 68, 2)) * 40 + 128, jnp.float32)
OTHERS = FACES + jnp.asarray(RNG.normal(size=(3, 68, 2)), jnp.float32)


def test_keypoint_distances_by_hand():
    truth = jnp.zeros((2, 2, 2))
    output = jnp.asarray([[[3.0, 4.0], [0.0, 0.0]], [[0.0, -1.0], [2.0, 0.0]]])
    np.testing.assert_allclose(akd(output, truth), [7 / 4, 3 / 4])
    np.testing.assert_allclose(akd(output, truth, norm="l2"), [5 / 2, 3 / 2])
    np.testing.assert_allclose(akd(FACES, FACES), 0)


def test_missing_keypoints():
    truth = jnp.asarray([[[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]], [[-1.0, -1.0]] * 3])
    output = jnp.asarray([[[1.0, 3.0], [-1.0, -1.0], [5.0, 5.0]], [[1.0, 1.0]] * 3])
    seen, wanted = detected(output), detected(truth)
    np.testing.assert_array_equal(seen[0], [True, False, True])
    np.testing.assert_allclose(mkr(seen, wanted), [1 / 2, np.nan])
    # only the first point was found in both
    np.testing.assert_allclose(akd(output, truth, seen & wanted), [1, np.nan])
    np.testing.assert_allclose(mkr(wanted, wanted), [0, np.nan])


def test_normalised_error_has_no_unit():
    eyes = np.zeros((1, 68, 2), np.float32)
    eyes[0, 36], eyes[0, 45] = (0, 0), (30, 40)
    shifted = eyes + np.array([[[0.0, 5.0]]], np.float32)
    np.testing.assert_allclose(nme(jnp.asarray(shifted), jnp.asarray(eyes)), 0.1, rtol=1e-6)
    np.testing.assert_allclose(nme(7 * OTHERS, 7 * FACES), nme(OTHERS, FACES), rtol=1e-4)
    half = jnp.arange(68)[None] < 34
    expected = np.linalg.norm(OTHERS - FACES, axis=-1)[:, :34].mean(axis=1)
    expected = expected / np.linalg.norm(FACES[:, 36] - FACES[:, 45], axis=-1)
    np.testing.assert_allclose(nme(OTHERS, FACES, jnp.broadcast_to(half, (3, 68))), expected, rtol=1e-5)


def test_pose_error_with_and_without_alignment():
    np.testing.assert_allclose(pose_error(OTHERS, FACES), nme(OTHERS, FACES), rtol=1e-6)
    moved = 0.7 * FACES + jnp.asarray([[[30.0, -12.0]]])
    assert (pose_error(moved, FACES) > 0.05).all()
    np.testing.assert_allclose(pose_error(moved, FACES, align=True), 0, atol=1e-5)
    # nothing nearer than the least-squares fit, in squares
    aligned = pose_error(OTHERS, FACES, align=True)
    assert (aligned < 1.01 * pose_error(OTHERS, FACES)).all()
    # eyes in one place: the unit is 0.01 pixels
    flat = jnp.zeros((1, 68, 2))
    np.testing.assert_allclose(pose_error(flat + 0.01, flat), np.sqrt(2), rtol=1e-5)


def test_lip_distance_ignores_where_the_lips_are():
    np.testing.assert_allclose(lmd(FACES + 5.0, FACES), 0, atol=1e-4)
    truth, output = np.zeros((2, 1, 68, 2), np.float32)
    output[0, 48:58, 0], output[0, 58:68, 0] = 3, -3
    np.testing.assert_allclose(lmd(jnp.asarray(output), jnp.asarray(truth)), 3)
    output[:, :48] += 100
    np.testing.assert_allclose(lmd(jnp.asarray(output), jnp.asarray(truth)), 3)


def test_pose_and_action_units_by_hand():
    truth = jnp.zeros((2, 3))
    output = jnp.asarray([[3.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    np.testing.assert_allclose(prmse(output, truth), np.sqrt(90 / 6), rtol=1e-6)
    np.testing.assert_allclose(prmse(output, truth, root="frame"), (np.sqrt(3) + np.sqrt(27)) / 2, rtol=1e-6)
    units = jnp.asarray([[True, False, True, True], [False, False, False, False]])
    np.testing.assert_allclose(aucon(units, ~units), 0)
    np.testing.assert_allclose(aucon(units, jnp.zeros((2, 4), bool)), [1 / 4, 1])


def head(frames=6):
    """A made-up head: lips as an ellipse that opens over time, everything else scattered and still."""
    shape = np.random.default_rng(1).normal(size=(68, 3)) * 3
    shape[0], shape[16] = (-8, 0, 0), (8, 0, 0)
    angles = np.arange(8) * np.pi / 4
    sequence = np.repeat(shape[None], frames, axis=0)
    for t in range(frames):
        opening = 0.5 + t / frames
        sequence[t, 60:68] = np.stack([2 * np.cos(angles), opening * np.sin(angles), 0 * angles], axis=-1)
        sequence[t, 48], sequence[t, 54] = (-3, 0, 0), (3, 0, 0)
    return sequence


def landmarks(sequence):
    return jnp.asarray(sequence, jnp.float32)


def test_landmark_suite_of_the_truth_is_zero():
    suite = landmark_suite(landmarks(head()), landmarks(head()))
    np.testing.assert_allclose(np.array(suite), 0, atol=1e-3)


def test_landmark_suite_of_a_shift():
    suite = landmark_suite(landmarks(head() + np.array([0.0, 0.8, 0.0])), landmarks(head()))
    # of a lip width of 6 and a face width of 16
    np.testing.assert_allclose([suite.lips, suite.face, suite.position], [100 * 0.8 / 6, 5, 5], rtol=1e-4)
    np.testing.assert_allclose([suite.lip_velocity, suite.velocity, suite.mouth_area], 0, atol=1e-3)
    np.testing.assert_allclose(suite.rotation, 0, atol=1e-2)


def test_landmark_suite_of_a_shaking_turned_and_closed_face():
    truth = head()
    shaking = truth + 0.3 * (-1.0) ** np.arange(6)[:, None, None] * np.array([1.0, 0.0, 0.0])
    suite = landmark_suite(landmarks(shaking), landmarks(truth))
    np.testing.assert_allclose([suite.lips, suite.lip_velocity], [5, 10], rtol=1e-4)
    np.testing.assert_allclose(suite.velocity, 100 * 0.6 / 16, rtol=1e-4)
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    turned = truth @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    suite = landmark_suite(landmarks(turned), landmarks(truth), mean_shape=landmarks(truth[0]))
    np.testing.assert_allclose(suite.rotation, 12 / 3, rtol=1e-3)  # roll alone, the mean over three angles
    closed = truth.copy()
    closed[:, 60:68, 1] = 0
    suite = landmark_suite(landmarks(closed), landmarks(truth))
    openings = 0.5 + np.arange(6) / 6
    np.testing.assert_allclose(suite.mouth_area, 100 * openings.mean() / openings.max(), rtol=1e-4)


def test_landmark_suite_with_the_jaw():
    assert set(JAW_LIPS) - set(LIPS) == set(range(3, 14))
    truth = head()
    dropped = truth.copy()
    dropped[:, 3:14, 1] -= 1
    plain = landmark_suite(landmarks(dropped), landmarks(truth))
    with_jaw = landmark_suite(landmarks(dropped), landmarks(truth), lips=JAW_LIPS)
    np.testing.assert_allclose(plain.lips, 0, atol=1e-4)
    np.testing.assert_allclose(with_jaw.lips, 100 * 11 / 31 / 6, rtol=1e-4)


def test_what_is_wrong_is_said():
    with pytest.raises(UserError, match="norm must be 'l1mean' or 'l2', got 'l1'"):
        akd(FACES, FACES, norm="l1")
    with pytest.raises(UserError, match="root must be 'set' or 'frame', got 'all'"):
        prmse(jnp.zeros((1, 3)), jnp.zeros((1, 3)), root="all")
    with pytest.raises(UserError, match="two frames"):
        landmark_suite(jnp.zeros((1, 68, 3)), jnp.zeros((1, 68, 3)))
