"""People are many, plausible, and depend on nothing but their two numbers."""

import subprocess
import sys
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.synthetic import people
from data_pipelines.synthetic.streams import stream
from reenax.geometry.head.parameters import Materials
from reenax.geometry.light import sh9, studio_light


@pytest.fixture(scope="module")
def crowd() -> list[people.Person]:
    return [people.person(3, index) for index in range(300)]


def fingerprint(somebody: people.Person) -> bytes:
    arrays = [somebody.identity, somebody.light, somebody.key_light, somebody.background, somebody.background_phase]
    arrays += [somebody.materials[key] for key in sorted(somebody.materials)]
    return b"".join(array.tobytes() for array in arrays) + repr((somebody.voice, somebody.motion)).encode()


def test_a_person_is_the_same_again_whatever_was_drawn_before(crowd):
    again = people.person(3, 250)
    assert again.name == crowd[250].name
    assert fingerprint(again) == fingerprint(crowd[250])


def test_a_person_is_the_same_in_another_process(crowd):
    code = (
        "import zlib; from data_pipelines.synthetic import people; somebody = people.person(3, 17);"
        "print(zlib.crc32(somebody.identity.tobytes() + somebody.light.tobytes()), somebody.voice)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    same = crowd[17]
    assert done.stdout.strip() == f"{zlib.crc32(same.identity.tobytes() + same.light.tobytes())} {same.voice}"


def test_ten_thousand_indexes_are_different_people():
    sample = [*range(200), *range(9_900, 10_100), 123_456, 2**31]
    drawn = [people.person(0, index) for index in sample]
    assert len({fingerprint(somebody) for somebody in drawn}) == len(sample)
    assert len({somebody.name for somebody in drawn}) == len(sample)
    faces = np.stack([somebody.identity for somebody in drawn])
    distances = np.sqrt(((faces[:, None] - faces[None]) ** 2).sum(2)) + 99 * np.eye(len(faces))
    assert distances.min() > 2.5  # far apart, not only unequal
    assert people.person(1, 0).name != people.person(0, 0).name
    assert fingerprint(people.person(1, 0)) != fingerprint(people.person(0, 0))


def test_faces_are_ordinary(crowd):
    faces = np.stack([somebody.identity for somebody in crowd])
    assert faces.shape == (300, 80)
    assert faces.dtype == np.float32
    assert np.abs(faces).max() <= people.IDENTITY_LIMIT
    assert np.abs(faces.mean(0)).max() < 0.2
    assert 0.65 < faces[:, :16].std() < 0.8
    assert 0.5 < faces[:, 16:].std() < 0.65


def test_colours_are_colours_of_the_renderer(crowd):
    assert set(crowd[0].materials) == set(Materials.__dataclass_fields__)
    shapes = {"wave_frequencies": (6, 3), "wave_phases": (6,), "wave_weights": (6,)}
    shapes |= dict.fromkeys(("skin", "hair", "iris", "lip", "cloth"), (3,))
    for somebody in crowd:
        for key, value in somebody.materials.items():
            assert isinstance(value, np.ndarray)
            assert value.dtype == np.float32
            assert value.shape == shapes.get(key, ())
        for key in ("skin", "hair", "iris", "lip", "cloth"):
            assert (somebody.materials[key] >= 0).all()
            assert (somebody.materials[key] <= 1).all()
        assert 0 <= somebody.materials["blush"] <= 1.2
        assert 0 <= somebody.materials["stubble"] <= 0.8
        assert 0.7 <= somebody.materials["brow_thickness"] <= 1.3
        assert somebody.background.shape == (2, 3)
        assert (somebody.background > 0).all()
        assert (somebody.background < 1).all()
    brightness = np.array([somebody.materials["skin"].mean() for somebody in crowd])
    assert brightness.min() < 0.18
    assert brightness.max() > 0.5
    dark_hair = np.array([somebody.materials["hair"].max() < 0.16 for somebody in crowd])
    assert dark_hair[brightness < 0.3].mean() > dark_hair[brightness > 0.45].mean() + 0.2


def test_light_comes_from_the_front_and_exposes_the_skin(crowd):
    front = np.asarray(sh9(jnp.asarray([0.0, 0.0, 1.0])))
    for somebody in crowd:
        assert somebody.light.shape == (9, 3)
        assert np.linalg.norm(somebody.key_light) == pytest.approx(1, abs=1e-5)
        assert somebody.key_light[2] > 0.4
        facing = np.asarray(sh9(jnp.asarray(somebody.key_light))) @ somebody.light
        away = np.asarray(sh9(jnp.asarray(-somebody.key_light))) @ somebody.light
        assert (facing > 1.0).all()
        assert (facing < 2.6).all()
        assert (away < 0.5 * facing).all()
        assert 0.1 < (front @ somebody.light * somebody.materials["skin"]).mean() < 1.1


def test_a_beam_has_the_harmonics_of_the_renderer():
    key = np.array([0.48, 0.6, 0.64])
    light = people._beam(key, 0.78 * np.array([1.0, 0.97, 0.92]))
    light += people._beam(np.array([-0.6, 0.1, 0.79]), 0.18 * np.array([0.8, 0.9, 1.0]))
    light[0] += 0.30
    np.testing.assert_allclose(light, np.asarray(studio_light(jnp.asarray(key))), atol=1e-6)


def test_voices_and_manners_keep_to_their_ranges(crowd):
    pitches = np.array([somebody.voice.pitch for somebody in crowd])
    low = pitches <= people.LOW_VOICE[1]
    assert 0.35 < low.mean() < 0.65
    assert pitches[low].min() >= people.LOW_VOICE[0]
    assert pitches[~low].min() >= people.HIGH_VOICE[0]
    assert pitches.max() <= people.HIGH_VOICE[1]
    formants = np.array([somebody.voice.formant_scale for somebody in crowd])
    assert formants[low].max() < formants[~low].min()
    for name, (least, most) in {
        "yaw": people.YAW_SPREAD,
        "pitch": people.PITCH_SPREAD,
        "roll": people.ROLL_SPREAD,
        "blink_interval": people.BLINK_INTERVAL,
        "expressiveness": people.EXPRESSIVENESS,
        "gaze_rate": people.GAZE_RATE,
    }.items():
        values = np.array([getattr(somebody.motion, name) for somebody in crowd])
        assert least <= values.min() < values.max() <= most
        assert values.std() > 0.2 * (most - least)


def test_only_deep_voices_have_stubble(crowd):
    stubble = np.array([float(somebody.materials["stubble"]) for somebody in crowd])
    low = np.array([somebody.voice.pitch < people.LOW_VOICE[1] for somebody in crowd])
    assert not stubble[~low].any()
    assert (stubble[low] > 0).mean() > 0.3


def test_streams_differ_by_every_part_of_their_path():
    first = [stream(*path).random() for path in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a", "1"))]
    assert len(set(first)) == len(first)
    assert stream(0, "a", 1).random() == first[0]
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "a")
