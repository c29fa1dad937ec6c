"""A performance: somebody talks, moves the head, blinks, looks around and shows moods, with the sound of the voice.

All curves are functions of continuous time: the same take at another frame rate is the same performance, seen at
other moments, and a longer one begins like a shorter one.
"""

from dataclasses import dataclass

import numpy as np

from data_pipelines.synthetic import motion, speech, visemes, voice
from data_pipelines.synthetic.people import MotionStyle, Person
from data_pipelines.synthetic.streams import stream
from reenax.geometry.head.names import EXPRESSIONS

MARGIN = 0.5  # seconds of speech behind the end of a clip, which the mouth already prepares
MOOD_WHILE_SPEAKING = 0.55  # how much of a mood is left around a mouth that speaks
BROW_ON_ACCENT = {"browInnerUp": 0.35, "browOuterUp": 0.25}
RESTLESS = 0.03  # standard deviation of small movements
_RESTLESS_SHAPES = ("browInnerUp", "browDown", "browOuterUp", "eyeSquint", "mouthSmile", "mouthPress", "cheekSquint")
_CLOSED_EYES_HIDE = ("eyeWide", "eyeSquint", "eyeLookUp", "eyeLookDown")  # a blink overrides them


@dataclass(frozen=True)
class Performance:
    """What happens in a clip of t frames; frame k is at time k / fps.

    Attributes:
        expression: [t 52] in [0, 1], weights of `EXPRESSIONS`.
        rotation: [t 3], pitch, yaw and roll of the head in radians.
        translation: [t 3], of the head in centimetres.
        gaze: [t 2 2], left eye (x > 0) first, pitch up and yaw to +x in radians.
        audio: int16 [round(t / fps * 16000)], mono at 16 kHz.
        phonemes: int32 [p], numbers of `PHONEMES` in the order they are heard; silences included.
        phoneme_times: [p 2], start and end of each in seconds; they cover the clip without gaps.

    All float32 but the audio and the phonemes.
    """

    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    gaze: np.ndarray
    audio: np.ndarray
    phonemes: np.ndarray
    phoneme_times: np.ndarray


def perform(person: Person, seed: int, take: int, seconds: float, fps: float) -> Performance:
    """What somebody does in one take.

    Args:
        person: who.
        seed, take: which performance of theirs, each at least 0; the same numbers give the same performance.
        seconds: length; there are max(2, round(seconds * fps)) frames.
        fps: frames per second.
    """
    count = max(2, round(seconds * fps))
    duration = count / fps
    times = np.arange(count) / fps
    spoken = speech.talk(person, seed, take, duration + MARGIN)
    style = person.motion

    def rng(name: str) -> np.random.Generator:
        return stream(seed, name, person.name, take)

    rotation, translation = motion.head(rng("head"), style, times)
    dip, lift = motion.nods(rng("nods"), style, spoken.accents, times)
    rotation[:, 0] += dip
    looking = motion.gaze(rng("gaze"), style, rotation, times, duration)

    said = visemes.mouth(spoken.phonemes, spoken.times, spoken.loudness, times)
    mouth, closure = said[:, : visemes.CLOSURE] * style.articulation, said[:, visemes.CLOSURE]
    speaking = _speaking(spoken, times)
    lower = motion.moods(rng("lower moods"), motion.LOWER_MOODS, style, times, duration)
    expression = mouth + lower * (1 - (1 - MOOD_WHILE_SPEAKING) * speaking)[:, None]
    expression += motion.moods(rng("upper moods"), motion.UPPER_MOODS, style, times, duration)
    for number, weight in visemes.both_sides(BROW_ON_ACCENT).items():
        expression[:, number] += weight * lift
    _small_movements(rng("small movements"), expression, times)
    _make_uneven(expression, style)
    expression = visemes.close(np.clip(expression, 0, 1), closure)
    _look_and_blink(expression, looking, motion.blinks(rng("blinks"), style, times, duration))

    heard = (spoken.times[:, 1] > 0) & (spoken.times[:, 0] < duration)
    samples = round(duration * voice.RATE)
    return Performance(
        expression=np.clip(expression, 0, 1).astype(np.float32),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        gaze=looking.astype(np.float32),
        audio=voice.synthesise(spoken, person.voice, samples),
        phonemes=spoken.phonemes[heard],
        phoneme_times=np.clip(spoken.times[heard], 0, duration).astype(np.float32),
    )


def _speaking(spoken: speech.Talk, times: np.ndarray) -> np.ndarray:
    """[t], 1 while somebody speaks, 0 in the pauses, with soft edges of 0.15 s."""
    speaking = np.zeros(len(times))
    for start, said in zip(spoken.starts, spoken.phrases, strict=True):
        inside = np.minimum(times - start, start + said.duration - times)
        speaking = np.maximum(speaking, np.clip(0.5 + inside / 0.15, 0, 1))
    return speaking


def _small_movements(rng: np.random.Generator, expression: np.ndarray, times: np.ndarray) -> None:
    """Add to `expression` [t 52] what a face does that does nothing."""
    for name in _RESTLESS_SHAPES:
        curve = RESTLESS * np.maximum(motion.Waves.draw(rng)(times), 0)
        for number in visemes.both_sides({name: 1.0}):
            expression[:, number] += curve


def _make_uneven(expression: np.ndarray, style: MotionStyle) -> None:
    """Let one side of the face in `expression` [t 52] do a little more than the other."""
    for number, name in enumerate(EXPRESSIONS):
        if name.endswith("Left"):
            expression[:, number] *= 1 + style.asymmetry
        elif name.endswith("Right"):
            expression[:, number] *= 1 - style.asymmetry


def _look_and_blink(expression: np.ndarray, looking: np.ndarray, closed: np.ndarray) -> None:
    """Set the lids of `expression` [t 52] for a gaze [t 2 2] and blinks [t]."""
    for name, weight in motion.look_shapes(looking).items():
        expression[:, EXPRESSIONS.index(name)] = weight
    for number in visemes.both_sides(dict.fromkeys(_CLOSED_EYES_HIDE, 1.0)):
        expression[:, number] *= 1 - closed
    for number in visemes.both_sides({"eyeBlink": 1.0}):
        expression[:, number] = closed
