"""How they move besides speech: head, eyes, blinks and moods, all as functions of continuous time.

Nothing here knows a frame rate. Everything that happens one after the other (blinks, glances, moods) is drawn in that
order from a stream of its own, so a longer clip begins like a shorter one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_pipelines.synthetic.people import MotionStyle
from data_pipelines.synthetic.visemes import both_sides
from reenax.geometry.head.names import EXPRESSIONS

WAVES = (3, 5)  # sinusoids in a curve, both included
FREQUENCIES = (0.1, 1.2)  # Hz
ROTATION_LIMIT = np.array([0.3, 0.5, 0.25])  # radians, pitch, yaw and roll
TRANSLATION_LIMIT = 1.0  # centimetres
RESTING_SHARE = 0.4  # of the variance of the head's pose that is between clips, not within them

BLINK = 0.15  # seconds
BLINK_BEFORE = 0.6  # no two blinks closer than this
SACCADE = 0.045  # seconds
GAZE_LIMIT = np.array([0.3, 0.4])  # radians, pitch and yaw
GAZE_FULL = 0.5  # radians at which the shapes of a look are fully there
STEADY_EYES = 0.7  # how much of the head's rotation the eyes undo to keep looking at the camera
VERGENCE = 0.04  # radians that each eye turns inwards to a camera 75 cm away

MOOD_PAUSE, MOOD_HOLD, MOOD_CHANGE = (0.3, 3.0), (0.4, 2.5), (0.25, 0.7)  # seconds


class Mood(NamedTuple):
    """A facial expression, and how often it is worn. A name without a side means both sides."""

    share: float
    shapes: dict[str, float]


UPPER_MOODS = (
    Mood(3, {"browInnerUp": 0.7, "browOuterUp": 0.6, "eyeWide": 0.35}),  # surprise
    Mood(3, {"browDown": 0.8, "eyeSquint": 0.4}),  # frown
    Mood(2, {"browInnerUp": 0.8, "browDown": 0.15}),  # worry
    Mood(1.5, {"eyeSquint": 0.7, "cheekSquint": 0.5}),
    Mood(1.5, {"eyeWide": 0.7, "browOuterUp": 0.3}),
    Mood(1, {"browOuterUpLeft": 0.8, "browDownRight": 0.4}),
    Mood(1, {"browOuterUpRight": 0.8, "browDownLeft": 0.4}),
)
LOWER_MOODS = (
    Mood(5, {"mouthSmile": 0.75, "cheekSquint": 0.45, "mouthDimple": 0.15}),  # smile
    Mood(
        2, {"mouthSmile": 0.9, "cheekSquint": 0.6, "jawOpen": 0.3, "mouthUpperUp": 0.3, "mouthLowerDown": 0.2}
    ),  # laugh
    Mood(2, {"mouthFrown": 0.7, "mouthShrugLower": 0.5}),
    Mood(1.5, {"noseSneer": 0.7, "mouthUpperUp": 0.4}),  # disgust
    Mood(1, {"jawOpen": 0.45, "mouthFunnel": 0.15}),  # amazement
    Mood(1, {"mouthPress": 0.7, "mouthRollUpper": 0.3, "mouthRollLower": 0.3}),
    Mood(1, {"mouthStretch": 0.7, "mouthFrown": 0.3}),  # fear
    Mood(1, {"mouthPucker": 0.7}),
    Mood(1, {"mouthSmileLeft": 0.7, "mouthDimpleLeft": 0.5, "mouthLeft": 0.3}),  # smirks
    Mood(1, {"mouthSmileRight": 0.7, "mouthDimpleRight": 0.5, "mouthRight": 0.3}),
    Mood(0.7, {"mouthLeft": 0.7, "jawLeft": 0.4}),
    Mood(0.7, {"mouthRight": 0.7, "jawRight": 0.4}),
    Mood(0.7, {"cheekPuff": 0.7, "mouthPress": 0.4}),
    Mood(0.7, {"jawForward": 0.7, "mouthShrugLower": 0.4, "mouthShrugUpper": 0.4}),
    Mood(0.4, {"tongueOut": 0.8, "jawOpen": 0.35}),
)


@dataclass(frozen=True)
class Waves:
    """A smooth random curve with mean 0 and standard deviation 1: a sum of sinusoids, slow ones larger."""

    amplitudes: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, speed: float = 1.0) -> "Waves":
        count = int(rng.integers(WAVES[0], WAVES[1] + 1))
        low, high = np.log(FREQUENCIES)
        places = (np.arange(count) + rng.random(count)) / count
        frequencies = np.clip(np.exp(low + (high - low) * places) * speed, *FREQUENCIES)
        amplitudes = frequencies**-0.6 * rng.uniform(0.6, 1.4, count)
        return cls(amplitudes / np.sqrt((amplitudes**2).sum() / 2), frequencies, rng.uniform(0, 2 * np.pi, count))

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """The curve at times [t] in seconds, [t]."""
        turns = 2 * np.pi * self.frequencies[:, None] * times[None]
        return (self.amplitudes[:, None] * np.sin(turns + self.phases[:, None])).sum(0)


def head(rng: np.random.Generator, style: MotionStyle, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [t 3] (pitch, yaw, roll in radians) and translation [t 3] (centimetres) of the head at times [t]."""
    spreads = [style.pitch, style.yaw, style.roll, *[style.translation] * 3]
    limits = [*ROTATION_LIMIT, *[TRANSLATION_LIMIT] * 3]
    curves = []
    for spread, limit in zip(spreads, limits, strict=True):
        rest = np.clip(rng.normal(), -2, 2) * RESTING_SHARE**0.5
        curve = spread * (rest + (1 - RESTING_SHARE) ** 0.5 * Waves.draw(rng, style.speed)(times))
        curves.append(limit * np.tanh(curve / limit))
    pose = np.stack(curves, 1)
    return pose[:, :3], pose[:, 3:]


def nods(
    rng: np.random.Generator, style: MotionStyle, accents: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What goes with the accents of speech: a dip of the head (radians) and lifted brows in [0, 1]; each [t]."""
    dip, lift = np.zeros(len(times)), np.zeros(len(times))
    for accent, (nod, delay, raised) in zip(accents, rng.random((len(accents), 3)), strict=True):
        dip += style.nod * nod * np.exp(-0.5 * ((times - accent - 0.1 * delay) / 0.11) ** 2)
        lift += max(0.0, 1.6 * raised - 0.8) * np.exp(-0.5 * ((times - accent - 0.05) / 0.13) ** 2)
    return dip, np.minimum(lift * style.expressiveness, 1)


def blinks(rng: np.random.Generator, style: MotionStyle, times: np.ndarray, until: float) -> np.ndarray:
    """How far the eyes are closed by blinks, [t] in [0, 1], from second 0 to `until`."""
    closed = np.zeros(len(times))
    at = rng.uniform(-BLINK, style.blink_interval)
    while at < until + BLINK:
        place = (times - at) / BLINK  # falls faster than it rises, shut in between
        shut = np.minimum(_ease(place / 0.35), _ease((1 - place) / 0.5))
        closed = np.maximum(closed, shut)
        interval = style.blink_interval * rng.uniform(0.5, 1.5)
        at += max(BLINK_BEFORE, interval)
    return closed


def gaze(
    rng: np.random.Generator, style: MotionStyle, rotation: np.ndarray, times: np.ndarray, until: float
) -> np.ndarray:
    """Where the eyes look: [t 2 2], left eye (x > 0) first, pitch up and yaw to +x in radians, against the head.

    The eyes jump from one place around the camera to the next and hold it while the head turns by
    `rotation` [t 3].
    """
    target = np.zeros((len(times), 2))
    at, held = -1.0, np.zeros(2)
    while at < until:
        near = rng.random() < 0.65
        place = rng.normal(size=2) * style.gaze * np.array([0.7, 1.0]) * (0.4 if near else 1.6)
        target += _ease((times - at) / SACCADE)[:, None] * (place - held)
        held = place
        at += rng.uniform(0.4, 1.6) / style.gaze_rate
    looking = target + STEADY_EYES * np.stack([rotation[:, 0], -rotation[:, 1]], 1)
    looking = GAZE_LIMIT * np.tanh(looking / GAZE_LIMIT)
    inwards = np.array([[0, -VERGENCE], [0, VERGENCE]])
    return looking[:, None, :] + inwards[None]


def look_shapes(looking: np.ndarray) -> dict[str, np.ndarray]:
    """The shapes of the lids that go with a gaze [t 2 2]: eyeLook* weights [t] in [0, 1]."""
    amount = looking / GAZE_FULL
    shapes = {}
    for eye, (side, outwards) in enumerate((("Left", 1), ("Right", -1))):
        up, out = amount[:, eye, 0], amount[:, eye, 1] * outwards
        shapes |= {
            f"eyeLookUp{side}": up,
            f"eyeLookDown{side}": -up,
            f"eyeLookOut{side}": out,
            f"eyeLookIn{side}": -out,
        }
    return {name: np.clip(weight, 0, 1) for name, weight in shapes.items()}


def moods(
    rng: np.random.Generator, kinds: tuple[Mood, ...], style: MotionStyle, times: np.ndarray, until: float
) -> np.ndarray:
    """Facial expressions that come and go, [t 52], not yet clipped."""
    shares = np.array([kind.share for kind in kinds])
    worn = np.zeros((len(times), len(EXPRESSIONS)))
    at = -rng.uniform(0, MOOD_HOLD[1] + MOOD_PAUSE[1])
    while at < until:
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        come, go = rng.uniform(*MOOD_CHANGE, 2)
        hold, strength, pause = rng.uniform(*MOOD_HOLD), rng.uniform(0.3, 1.0), rng.uniform(*MOOD_PAUSE)
        end = at + come + hold + go
        envelope = np.minimum(_ease((times - at) / come), _ease((end - times) / go))
        for number, weight in both_sides(kind.shapes).items():
            worn[:, number] += envelope * strength * weight * style.expressiveness
        at = end + pause
    return worn


def _ease(place: np.ndarray) -> np.ndarray:
    """From 0 to 1 while `place` goes from 0 to 1, with level ends."""
    place = np.clip(place, 0, 1)
    return place * place * (3 - 2 * place)
