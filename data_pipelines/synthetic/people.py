"""Who they are: the face, colours, light, voice and manner of any number of made-up people.

Everything is drawn from ranges that stand in one place below. Colours are linear RGB in [0, 1]. The ranges are those
of our own design of the synthetic head; the spread of the face's shape is narrower than N(0, 1), since faces more
than two standard deviations away look odd.
"""

from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np

from data_pipelines.synthetic.streams import stream

IDENTITIES = 80
SEMANTIC_IDENTITIES = 16
"""The first coefficients are directions with a meaning (face width, nose length, ...), the rest are smooth fields."""

SEMANTIC_SPREAD, FIELD_SPREAD, IDENTITY_LIMIT = 0.75, 0.6, 1.6
"""Standard deviations of the shape before the cut, and the largest coefficient that is kept."""

SKIN_TONES = np.array(
    [[0.78, 0.55, 0.44], [0.70, 0.45, 0.33], [0.55, 0.33, 0.22], [0.36, 0.20, 0.13], [0.22, 0.12, 0.08]]
)
HAIR_COLOURS = np.array(  # black, dark brown, brown, blond, red, grey
    [
        [0.03, 0.02, 0.015],
        [0.10, 0.05, 0.025],
        [0.30, 0.17, 0.07],
        [0.50, 0.38, 0.18],
        [0.28, 0.09, 0.04],
        [0.35, 0.34, 0.33],
    ]
)
HAIR_SHARES = np.array([[0.10, 0.25, 0.25, 0.18, 0.10, 0.12], [0.55, 0.25, 0.06, 0.03, 0.01, 0.10]])
"""How often each colour is worn with the palest and with dark skin; in between it is interpolated."""
IRIS_COLOURS = np.array([[0.13, 0.065, 0.026], [0.21, 0.286, 0.13], [0.18, 0.31, 0.52], [0.26, 0.31, 0.34]])
IRIS_SHARES = np.array([[0.30, 0.20, 0.30, 0.20], [0.91, 0.05, 0.01, 0.03]])

KEY_AZIMUTH, KEY_ELEVATION = (-0.9, 0.9), (0.2, 0.7)  # radians
KEY_STRENGTH, FILL_STRENGTH, AMBIENT = (0.60, 0.80), (0.12, 0.22), (0.28, 0.38)
KEY_WARMTH = (-1.0, 1.5)  # in steps of (0, -.03, -.08) on the colour of the key light
EXPOSURE, EXPOSURE_RANGE = 0.45, (0.85, 1.2)  # skin that needs no correction, and how far the camera corrects others
BACKGROUND = (0.05, 0.55)

LOW_VOICE, HIGH_VOICE = (88.0, 145.0), (165.0, 245.0)  # mean pitch in hertz
LOW_FORMANTS, HIGH_FORMANTS = (0.94, 1.06), (1.08, 1.20)  # against the formants of `phonemes`
PITCH_RANGE = (1.2, 3.0)  # semitones that a full accent lifts the pitch
TEMPO = (0.85, 1.2)
BREATHINESS = (0.05, 0.5)

# How people move: moderate, so that small models can learn it. Angles in radians, translation in centimetres.
YAW_SPREAD, PITCH_SPREAD, ROLL_SPREAD = (0.16, 0.26), (0.07, 0.13), (0.05, 0.11)  # standard deviations
TRANSLATION_SPREAD = (0.25, 0.5)
MOTION_SPEED = (0.7, 1.3)  # multiplies the frequencies of all head motion
NOD = (0.0, 0.06)  # how far the head dips on an accent
BLINK_INTERVAL = (2.0, 6.0)  # mean seconds between two blinks
EXPRESSIVENESS = (0.5, 1.1)  # multiplies emotional expressions
ARTICULATION = (0.8, 1.1)  # multiplies the mouth shapes of speech
GAZE_SPREAD = (0.04, 0.16)  # how far from the camera the eyes wander
GAZE_RATE = (0.4, 1.4)  # saccades per second
ASYMMETRY = 0.12  # largest relative difference between the two sides of the face


@dataclass(frozen=True)
class VoiceStyle:
    """How somebody sounds: mean pitch in Hz, the pitch range of accents in semitones, formants and tempo relative to
    the table of phonemes (1 is average), breathiness in [0, 1]."""

    pitch: float
    pitch_range: float
    formant_scale: float
    tempo: float
    breathiness: float


@dataclass(frozen=True)
class MotionStyle:
    """How somebody moves.

    Attributes:
        yaw, pitch, roll: standard deviations of the head's angles, radians.
        translation: standard deviation of the head's place along each axis, centimetres.
        speed: multiplies the frequencies of head motion.
        nod: how far the head dips on a full accent, radians.
        blink_interval: mean seconds between blinks.
        expressiveness, articulation: multiply emotional expressions and the mouth shapes of speech.
        gaze: standard deviation of where the eyes look around the camera, radians.
        gaze_rate: saccades per second.
        asymmetry: relative difference between left (positive: stronger) and right shapes.
    """

    yaw: float
    pitch: float
    roll: float
    translation: float
    speed: float
    nod: float
    blink_interval: float
    expressiveness: float
    articulation: float
    gaze: float
    gaze_rate: float
    asymmetry: float


class Materials(TypedDict):
    """The colours of a head, float32; the keys are those of the renderer's materials.

    skin, hair, iris, lip, cloth [3] linear RGB; blush in [0, 1.2]; stubble in [0, .8]; brow_thickness in [.7, 1.3];
    lash in [0, 1]; wave_frequencies [6 3] (per centimetre), wave_phases [6], wave_weights [6]: cosines that vary the
    skin's tone.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lip: np.ndarray
    cloth: np.ndarray
    blush: np.ndarray
    stubble: np.ndarray
    brow_thickness: np.ndarray
    lash: np.ndarray
    wave_frequencies: np.ndarray
    wave_phases: np.ndarray
    wave_weights: np.ndarray


@dataclass(frozen=True)
class Person:
    """All that stays the same in every clip of somebody.

    Attributes:
        name: unique for (seed, index).
        identity: [80], the shape of the head in standard deviations.
        materials: colours, see `Materials`.
        light: [9 3], spherical harmonics of the light around the head, per colour channel.
        key_light: [3], unit direction towards the strongest light.
        background: [2 3], linear RGB at the top and at the bottom.
        background_phase: phase of the waves in the background, radians.
        voice: how they sound.
        motion: how they move.
    """

    name: str
    identity: np.ndarray
    materials: Materials
    light: np.ndarray
    key_light: np.ndarray
    background: np.ndarray
    background_phase: np.ndarray
    voice: VoiceStyle
    motion: MotionStyle


def person(seed: int, index: int) -> Person:
    """Somebody: depends on nothing but the two numbers (each at least 0), and no two are the same."""
    face = stream(seed, "face", index)
    spread = np.where(np.arange(IDENTITIES) < SEMANTIC_IDENTITIES, SEMANTIC_SPREAD, FIELD_SPREAD)
    identity = np.clip(face.normal(size=IDENTITIES) * spread, -IDENTITY_LIMIT, IDENTITY_LIMIT)
    voice = _voice(stream(seed, "voice", index))
    materials = _materials(stream(seed, "materials", index), bearded=voice.pitch < LOW_VOICE[1])
    light, key_light = _light(stream(seed, "light", index), materials["skin"])
    background = stream(seed, "background", index)
    return Person(
        name=f"synthetic-{seed}-{index:05d}",
        identity=identity.astype(np.float32),
        materials=materials,
        light=light,
        key_light=key_light,
        background=background.uniform(*BACKGROUND, (2, 3)).astype(np.float32),
        background_phase=np.array(background.uniform(0, 2 * np.pi), np.float32),
        voice=voice,
        motion=_motion(stream(seed, "motion style", index)),
    )


def _beam(direction: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """A distant light from a unit direction [3] as nine harmonics per colour [9 3].

    Order and signs are those of `reenax.geometry.light`, whose basis carries the other factors; the full weight of
    every band is harder than a matt surface shows and reads well at few pixels.
    """
    x, y, z = direction
    c0, c1, c2 = 1 / np.sqrt(4 * np.pi), np.sqrt(3) / np.sqrt(4 * np.pi), 3 * np.sqrt(5) / np.sqrt(12 * np.pi)
    linear = [c0, -c1 * y, c1 * z, -c1 * x]
    squares = [x * y, -y * z, (3 * z * z - 1) / (2 * np.sqrt(3)), -x * z, (x * x - y * y) / 2]
    return np.array(linear + [c2 * value for value in squares])[:, None] * np.asarray(colour)


def _light(rng: np.random.Generator, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A key light from the front, a fill light from the other side and an even one: [9 3] and the key's direction.

    The camera exposes for the skin, linear RGB [3], or the palest faces would be white and the darkest black.
    """
    azimuth, elevation = rng.uniform(*KEY_AZIMUTH), rng.uniform(*KEY_ELEVATION)
    key = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    fill = np.array([-0.6 * np.sign(azimuth), 0.1, 0.79])
    warm = np.array([1, 0.97, 0.95]) - rng.uniform(*KEY_WARMTH) * np.array([0, 0.03, 0.08])
    light = _beam(key, warm * rng.uniform(*KEY_STRENGTH))
    light += _beam(fill / np.linalg.norm(fill), np.array([0.8, 0.9, 1.0]) * rng.uniform(*FILL_STRENGTH))
    light[0] += rng.uniform(*AMBIENT)
    light *= np.clip((EXPOSURE / skin.mean()) ** 0.3, *EXPOSURE_RANGE)
    return light.astype(np.float32), key.astype(np.float32)


def _materials(rng: np.random.Generator, *, bearded: bool) -> Materials:
    darkness = rng.random()
    place = darkness * (len(SKIN_TONES) - 1)
    tone = np.array([np.interp(place, np.arange(len(SKIN_TONES)), channel) for channel in SKIN_TONES.T])
    skin = tone * rng.uniform(0.95, 1.05, 3)
    hair = _pick(rng, HAIR_COLOURS, HAIR_SHARES, darkness) * rng.uniform(0.75, 1.25)
    iris = _pick(rng, IRIS_COLOURS, IRIS_SHARES, darkness) * rng.uniform(0.8, 1.2)
    colours = {
        "skin": skin,
        "hair": hair,
        "iris": iris,
        "lip": skin * np.array([0.82, 0.52, 0.52]) * rng.uniform(0.9, 1.1) + np.array([0.05, 0, 0.01]),
        "cloth": rng.random(3) * 0.5 + 0.03,
        "blush": rng.random() * 1.2,
        "stubble": max(0.0, rng.random() * 1.6 - 0.8) * bearded,
        "brow_thickness": rng.uniform(0.7, 1.3),
        "lash": rng.uniform(0.6, 0.95),
        "wave_frequencies": rng.normal(0, 0.5, (6, 3)),
        "wave_phases": rng.uniform(0, 2 * np.pi, 6),
        "wave_weights": rng.normal(0, 0.02, 6),
    }
    return cast(Materials, {key: np.asarray(value, np.float32) for key, value in colours.items()})


def _pick(rng: np.random.Generator, colours: np.ndarray, shares: np.ndarray, darkness: float) -> np.ndarray:
    """One of the colours [n 3] by its share [n], mixed a little with a second one."""
    share = shares[0] + (shares[1] - shares[0]) * min(1.0, 1.5 * darkness)
    first, second = rng.choice(len(colours), size=2, p=share)
    mix = rng.uniform(0, 0.3)
    return colours[first] * (1 - mix) + colours[second] * mix


def _voice(rng: np.random.Generator) -> VoiceStyle:
    low = rng.random() < 0.5
    height = rng.random()  # larger bodies have lower voices and lower formants, loosely
    loose = np.clip(height + rng.normal(0, 0.25), 0, 1)
    pitch, formants = (LOW_VOICE, LOW_FORMANTS) if low else (HIGH_VOICE, HIGH_FORMANTS)
    return VoiceStyle(
        pitch=float(np.interp(height, [0, 1], pitch)),
        pitch_range=float(rng.uniform(*PITCH_RANGE)),
        formant_scale=float(np.interp(loose, [0, 1], formants)),
        tempo=float(rng.uniform(*TEMPO)),
        breathiness=float(rng.uniform(*BREATHINESS)),
    )


def _motion(rng: np.random.Generator) -> MotionStyle:
    return MotionStyle(
        yaw=float(rng.uniform(*YAW_SPREAD)),
        pitch=float(rng.uniform(*PITCH_SPREAD)),
        roll=float(rng.uniform(*ROLL_SPREAD)),
        translation=float(rng.uniform(*TRANSLATION_SPREAD)),
        speed=float(rng.uniform(*MOTION_SPEED)),
        nod=float(rng.uniform(*NOD)),
        blink_interval=float(rng.uniform(*BLINK_INTERVAL)),
        expressiveness=float(rng.uniform(*EXPRESSIVENESS)),
        articulation=float(rng.uniform(*ARTICULATION)),
        gaze=float(rng.uniform(*GAZE_SPREAD)),
        gaze_rate=float(rng.uniform(*GAZE_RATE)),
        asymmetry=float(rng.uniform(-ASYMMETRY, ASYMMETRY)),
    )
