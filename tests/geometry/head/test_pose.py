"""Posing: rigid heads, turning eyes, lids that close and never show the eye through the skin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reenax.geometry.camera import Camera, pixels_to_unit, project
from reenax.geometry.head.head import synthetic_head
from reenax.geometry.head.names import EXPRESSIONS, HEAD
from reenax.geometry.head.parameters import neutral_parameters
from reenax.geometry.head.pose import PIVOT, eye_centres, pose_vertices, posed_landmarks

from .conftest import any_frame, weights

UPPER, LOWER = [37, 38, 43, 44], [41, 40, 47, 46]  # landmarks on the lids


@pytest.fixture(scope="module")
def head():
    return synthetic_head()


@pytest.fixture(scope="module")
def pose(head):
    compiled = jax.jit(pose_vertices)
    return lambda parameters: np.asarray(compiled(head, parameters))


@pytest.fixture(scope="module")
def neutral():
    return neutral_parameters()


def still(frame):
    """Without movement of the head."""
    return frame.replace(rotation=jnp.zeros(3), translation=jnp.zeros(3))


def gaps(head, vertices):
    """How far the lids are apart at four places, centimetres."""
    y = np.asarray(head.model.landmarks(jnp.asarray(vertices)))[:, 1]
    return y[UPPER] - y[LOWER]


def test_at_rest_it_is_the_mean(head, pose, neutral):
    moved = np.linalg.norm(pose(neutral) - np.asarray(head.model.mean), axis=1)
    assert moved.max() < 0.05  # the corners of the lids lie a little inside what is kept free


def test_away_from_lids_and_lips_it_is_the_linear_model(head, pose, neutral):
    frame = neutral.replace(
        identity=jnp.asarray(np.random.default_rng(0).normal(size=80), jnp.float32),
        expression=weights(jawOpen=0.6, mouthSmile=0.5, browInnerUp=1.0, cheekPuff=0.7),
    )
    linear = np.asarray(head.model.shape(frame.identity, frame.expression))
    near_eyes = (np.hypot(np.abs(head.canonical[:, 0]) - 3.08, head.canonical[:, 1]) < 3) & (head.canonical[:, 2] > 0)
    away = ~np.asarray(near_eyes)
    np.testing.assert_allclose(pose(frame)[away], linear[away], atol=2e-3)


def test_the_head_turns_about_its_pivot_and_the_torso_stays(head, pose, neutral):
    angles, shift = np.array([0.2, -0.6, 0.1], np.float32), np.array([1.0, -0.5, 2.0], np.float32)
    before = pose(neutral)
    after = pose(neutral.replace(rotation=jnp.asarray(angles), translation=jnp.asarray(shift)))
    rigid = np.asarray(head.head_weight) == 1
    expected = Rotation.from_euler("xyz", angles).apply(before[rigid] - PIVOT) + PIVOT + shift
    np.testing.assert_allclose(after[rigid], expected, atol=1e-4)
    fixed = np.asarray(head.head_weight) == 0
    np.testing.assert_array_equal(after[fixed], before[fixed])
    assert rigid.sum() > 4000
    assert fixed.sum() > 1000


def test_eyes_turn_about_their_own_centres(head, pose, neutral):
    identity = jnp.asarray(np.random.default_rng(2).normal(size=80), jnp.float32)
    gaze = jnp.asarray([[0.3, 0.0], [0.0, 0.4]])  # the left one up, the right one to +x
    vertices = pose(neutral.replace(identity=identity, gaze=gaze))
    centres = np.asarray(eye_centres(head, identity))
    for side, expected in ((0, [0, np.sin(0.3), np.cos(0.3)]), (1, [np.sin(0.4), 0, np.cos(0.4)])):
        ball = np.asarray(head.eye) == side + 1
        radius = np.linalg.norm(vertices[ball] - centres[side], axis=1)
        np.testing.assert_allclose(radius, 1.5, atol=1e-4)
        pole = vertices[ball][np.asarray(head.local)[ball, 2].argmax()]
        np.testing.assert_allclose((pole - centres[side]) / 1.5, expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_no_skin_enters_an_eye(head, pose, seed):
    """Not for any mix of identity, expression and gaze: vertices, and the middles of edges and faces."""
    frame = still(any_frame(seed))
    if seed % 3 == 0:
        frame = frame.replace(expression=jnp.maximum(frame.expression, weights(eyeBlink=1.0, eyeSquint=1.0)))
    if seed % 3 == 1:
        frame = frame.replace(expression=jnp.maximum(frame.expression, weights(eyeWide=1.0, eyeLookUp=1.0)))
    vertices = pose(frame)
    skin = vertices[np.asarray(head.model.faces)[np.asarray(head.part) == HEAD]]
    places = np.concatenate([skin, (skin + np.roll(skin, 1, axis=1)) / 2, skin.mean(axis=1, keepdims=True)], axis=1)
    for centre in np.asarray(eye_centres(head, frame.identity)):
        assert np.linalg.norm(places - centre, axis=-1).min() > 1.5  # the eyeball's radius


@pytest.mark.parametrize("seed", range(6))
def test_a_blink_closes_any_eye_whatever_else_its_lids_do(head, pose, seed):
    frame = still(any_frame(seed))
    for others in (weights(), weights(eyeWide=1.0), weights(eyeSquint=1.0, eyeLookDown=1.0, cheekSquint=1.0)):
        expression = jnp.maximum(frame.expression, others)
        shut = pose(frame.replace(expression=jnp.maximum(expression, weights(eyeBlink=1.0))))
        assert (gaps(head, shut) < 0.0).all()
        assert (gaps(head, shut) > -0.1).all()  # lids overlap a little, and never turn over


@pytest.mark.parametrize("seed", range(6))
def test_lids_meet_and_never_pass(head, pose, seed):
    frame = still(any_frame(seed))
    down = jnp.maximum(frame.expression, weights(eyeSquint=1.0, eyeLookDown=1.0, cheekSquint=1.0, mouthSmile=1.0))
    for blink in (0.0, 0.5, 1.0):
        both = jnp.asarray([EXPRESSIONS.index("eyeBlinkLeft"), EXPRESSIONS.index("eyeBlinkRight")])
        assert (gaps(head, pose(frame.replace(expression=down.at[both].set(blink)))) > -0.1).all()


def test_a_blink_closes_in_proportion(head, pose, neutral):
    opened = [gaps(head, pose(neutral.replace(expression=weights(eyeBlink=b)))) for b in (0.0, 0.25, 0.5, 0.75, 1.0)]
    steps = -np.diff(opened, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps.mean(axis=0), steps.shape), atol=0.03)
    one = pose(neutral.replace(expression=weights(eyeBlinkLeft=1.0)))
    assert (gaps(head, one)[:2] > 0.5).all()  # the right eye stays open
    assert (gaps(head, one)[2:] < 0.0).all()


def test_lips_close_no_further_than_the_jaw_opened_them(pose, neutral):
    shut = pose(neutral.replace(expression=weights(mouthClose=1.0)))
    np.testing.assert_allclose(shut, pose(neutral), atol=1e-5)
    half_open = pose(neutral.replace(expression=weights(mouthClose=0.3, jawOpen=0.3)))
    np.testing.assert_allclose(half_open, pose(neutral.replace(expression=weights(mouthClose=1.0, jawOpen=0.3))))


def test_landmarks_are_projected_vertices(head, pose):
    frame = any_frame(3)
    vertices = pose(frame)
    camera = Camera(half_field=12.0)
    pixels, _ = project(head.model.landmarks(jnp.asarray(vertices)), camera, 100)
    got = posed_landmarks(head, frame, camera, size=100)
    np.testing.assert_allclose(got, pixels_to_unit(pixels, 100), atol=1e-5)
