"""A performance is one thing seen at any frame rate: what is heard is seen, eyes blink, and ranges hold."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.synthetic import life, motion, people
from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES, SILENCE
from data_pipelines.synthetic.streams import stream
from reenax.geometry.head.names import EXPRESSIONS

SECONDS = 45
CURVES = ("expression", "rotation", "translation", "gaze")


def weight(performance: life.Performance, name: str) -> np.ndarray:
    return performance.expression[:, EXPRESSIONS.index(name)]


def opening(performance: life.Performance) -> np.ndarray:
    return weight(performance, "jawOpen") - weight(performance, "mouthClose")


@pytest.fixture(scope="module")
def long_takes() -> list[tuple[people.Person, life.Performance]]:
    """Long ones, at 100 frames per second."""
    crowd = [people.person(1, index) for index in range(3)]
    return [(somebody, life.perform(somebody, 1, 0, SECONDS, 100)) for somebody in crowd]


def test_a_take_is_the_same_again():
    somebody = people.person(0, 1)
    first, again = (life.perform(somebody, 4, 2, 1.5, 25) for _ in range(2))
    for field in dataclasses.fields(life.Performance):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))


def test_another_seed_take_or_person_is_another_performance():
    first = life.perform(people.person(0, 1), 4, 2, 1.5, 25)
    for other in (
        life.perform(people.person(0, 1), 5, 2, 1.5, 25),
        life.perform(people.person(0, 1), 4, 3, 1.5, 25),
        life.perform(people.person(0, 2), 4, 2, 1.5, 25),
    ):
        for name in (*CURVES, "audio"):
            assert not np.array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize(("seconds", "fps"), [(0.5, 25.0), (0.01, 25.0), (2.0, 29.97), (3.0, 10.0)])
def test_shapes_and_types(seconds, fps):
    performance = life.perform(people.person(0, 3), 0, 0, seconds, fps)
    count = max(2, round(seconds * fps))
    shapes = {"expression": (count, 52), "rotation": (count, 3), "translation": (count, 3), "gaze": (count, 2, 2)}
    for name, shape in shapes.items():
        assert getattr(performance, name).shape == shape
        assert getattr(performance, name).dtype == np.float32
    assert performance.audio.shape == (round(count / fps * 16000),)
    assert performance.audio.dtype == np.int16
    assert performance.phonemes.dtype == np.int32
    assert performance.phoneme_times.dtype == np.float32
    assert performance.phoneme_times.shape == (len(performance.phonemes), 2)
    assert performance.phoneme_times[0, 0] == 0
    assert performance.phoneme_times[-1, 1] == pytest.approx(count / fps)
    np.testing.assert_array_equal(performance.phoneme_times[1:, 0], performance.phoneme_times[:-1, 1])
    assert (np.diff(performance.phoneme_times) > 0).all()


def test_frame_rate_only_chooses_the_moments():
    somebody = people.person(0, 4)
    slow, fast = (life.perform(somebody, 0, 1, 4, fps) for fps in (10, 60))
    for name in CURVES:
        np.testing.assert_allclose(getattr(slow, name), getattr(fast, name)[::6], atol=1e-5)
    np.testing.assert_array_equal(slow.audio, fast.audio)
    np.testing.assert_array_equal(slow.phonemes, fast.phonemes)


def test_a_longer_take_begins_like_a_shorter_one():
    somebody = people.person(0, 4)
    short, long = (life.perform(somebody, 0, 1, seconds, 25) for seconds in (0.6, 9))
    for name in CURVES:
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:15])
    np.testing.assert_array_equal(short.audio, long.audio[: len(short.audio)])


def test_everything_stays_in_range(long_takes):
    for _, performance in long_takes:
        assert performance.expression.min() >= 0
        assert performance.expression.max() <= 1
        assert np.abs(performance.rotation[:, 1]).max() < 0.5
        assert np.abs(performance.rotation[:, 0]).max() < 0.45
        assert np.abs(performance.rotation[:, 2]).max() < 0.25
        assert np.abs(performance.translation).max() < 1
        assert np.abs(performance.gaze).max() < 0.5
        assert np.abs(performance.audio.astype(int)).max() < 32000


def test_heads_move_as_far_as_they_should():
    yaw, pitch, roll = np.concatenate(
        [
            motion.head(stream(0, "head", index), people.person(0, index).motion, np.linspace(0, 2, 20))[0]
            for index in range(250)
        ]
    ).T[[1, 0, 2]]
    assert 0.16 < yaw.std() < 0.22
    assert 0.07 < pitch.std() < 0.12
    assert 0.05 < roll.std() < 0.1


def test_heads_move_smoothly(long_takes):
    for _, performance in long_takes:
        speed = np.abs(np.diff(performance.rotation, axis=0)) * 100
        assert speed.max() < 2.5  # radians per second
        assert np.abs(np.diff(performance.translation, axis=0)).max() * 100 < 8
        assert (performance.rotation.std(0) > 0.03).all()


def test_eyes_blink_as_often_as_the_person_does(long_takes):
    for somebody, performance in long_takes:
        left, right = weight(performance, "eyeBlinkLeft"), weight(performance, "eyeBlinkRight")
        np.testing.assert_array_equal(left, right)
        shut = left > 0.5
        starts = np.flatnonzero(shut[1:] & ~shut[:-1])
        assert len(starts) == pytest.approx(SECONDS / somebody.motion.blink_interval, rel=0.35)
        assert left.max() == pytest.approx(1)
        assert 0.06 < shut.sum() / 100 / len(starts) < 0.15
        assert np.diff(starts).min() > 50
        assert weight(performance, "eyeWideLeft")[left > 0.99].max(initial=0) < 0.02


def test_lids_follow_the_gaze(long_takes):
    for _, performance in long_takes:
        open_eyes = weight(performance, "eyeBlinkLeft") == 0
        pitch, yaw = performance.gaze[open_eyes, 0].T
        shape = {name: weight(performance, f"eyeLook{name}Left")[open_eyes] for name in ("Up", "Down", "In", "Out")}
        np.testing.assert_allclose(shape["Up"] - shape["Down"], pitch / motion.GAZE_FULL, atol=1e-5)
        np.testing.assert_allclose(shape["Out"] - shape["In"], yaw / motion.GAZE_FULL, atol=1e-5)
        right = weight(performance, "eyeLookInRight") - weight(performance, "eyeLookOutRight")
        np.testing.assert_allclose(right, performance.gaze[:, 1, 1] / motion.GAZE_FULL, atol=1e-5)


def test_eyes_jump_and_hold_the_camera(long_takes):
    for _, performance in long_takes:
        np.testing.assert_allclose(
            performance.gaze[:, 1, 1] - performance.gaze[:, 0, 1], 2 * motion.VERGENCE, atol=1e-5
        )
        yaw = performance.gaze[:, :, 1].mean(1)
        speed = np.abs(np.diff(yaw)) * 100
        assert np.median(speed) < 0.5
        assert speed.max() > 2  # radians per second: saccades
        assert np.corrcoef(yaw, performance.rotation[:, 1])[0, 1] < -0.3


def test_what_is_heard_is_seen(long_takes):
    for _, performance in long_takes:
        sound = performance.audio.astype(float).reshape(-1, 160)
        loudness = np.sqrt(scaled_mean(sound**2))
        assert np.corrcoef(loudness, scaled_mean(opening(performance)))[0, 1] > 0.5


def scaled_mean(values: np.ndarray) -> np.ndarray:
    """Means over 40 ms of what is given every 10 ms."""
    return values.reshape(25 * SECONDS, -1).mean(1)


def test_lips_close_for_lip_sounds_and_open_for_vowels(long_takes):
    for _, performance in long_takes:
        middle = np.minimum((performance.phoneme_times.mean(1) * 100).round().astype(int), 100 * SECONDS - 1)
        whole = (performance.phoneme_times[:, 0] > 0) & (performance.phoneme_times[:, 1] < SECONDS)
        symbols = np.array([PHONEMES[number].symbol for number in performance.phonemes])
        lips = np.isin(symbols, ["M", "B", "P"]) & whole
        assert lips.sum() > 10
        assert opening(performance)[middle[lips]].max() < 0.05
        assert opening(performance)[middle[(symbols == "AA") & whole]].min() > 0.35
        assert weight(performance, "mouthPucker")[middle[symbols == "W"]].mean() > 0.4


def test_moods_come_and_go(long_takes):
    used = np.zeros(52)
    for _, performance in long_takes:
        used = np.maximum(used, performance.expression.max(0))
        assert weight(performance, "browInnerUp").max() > 0.2
        assert weight(performance, "browInnerUp").min() < 0.05
        assert performance.expression.mean() < 0.25
    style = people.person(7, 0).motion
    for kinds in (motion.UPPER_MOODS, motion.LOWER_MOODS):
        worn = motion.moods(stream(0, "moods"), kinds, style, np.arange(0, 1000, 0.5), 1000)
        used = np.maximum(used, worn.max(0))
    never = [name for name, most in zip(EXPRESSIONS, used, strict=True) if most < 0.15]
    assert never == []


def test_faces_are_a_little_uneven(long_takes):
    for somebody, performance in long_takes:
        left, right = weight(performance, "mouthPressLeft"), weight(performance, "mouthPressRight")
        both = (left > 0.05) & (right > 0.05) & (left < 0.95) & (right < 0.95)
        ratio = np.median(left[both] / right[both])
        assert ratio == pytest.approx((1 + somebody.motion.asymmetry) / (1 - somebody.motion.asymmetry), rel=0.02)


def test_first_frames_are_ordinary_poses():
    first = [life.perform(people.person(8, index), 0, 0, 0.08, 25) for index in range(40)]
    yaw = np.array([performance.rotation[0, 1] for performance in first])
    assert yaw.std() > 0.12
    mouths = np.array([opening(performance)[0] for performance in first])
    assert (mouths > 0.1).mean() > 0.4
    speaking = np.mean([performance.phonemes[0] != SILENCE for performance in first])
    assert speaking > 0.65
    assert NUMBER["SIL"] == SILENCE
