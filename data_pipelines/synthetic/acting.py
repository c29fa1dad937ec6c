"""What everybody acts in front of the camera: numbered expressions under numbered views, as in studio databases.

Expression 0 is neutral; 1 to 7 are the basic emotions of the Radboud Faces Database (Langner et al. 2010) by the
action units of Ekman and Friesen's Emotional FACS; the rest are action units that are drawn at random, some alone and
some together, of all 17 and of every intensity. Two clips of the same seed show exactly the same expressions, whoever
acts them, and a longer series begins like a shorter one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipelines.synthetic.life import Performance
from data_pipelines.synthetic.motion import VERGENCE
from data_pipelines.synthetic.people import HAIR_COLOURS, Person
from data_pipelines.synthetic.streams import stream
from data_pipelines.synthetic.visemes import both_sides
from reenax.geometry.head.action_units import ACTION_UNITS, MAXIMUM
from reenax.geometry.head.names import EXPRESSIONS

VIEW_STEP = np.deg2rad(15)
"""Between two views, which turn the head to +x and -x in turns, ever further."""

MOST_VIEWS, MOST_EXPRESSIONS = 7, 10_000

LIPS = 0.4  # AU25 per shape of the lips, see `action_units`
JAW = 3 / 5  # jawOpen of a full AU26
TOGETHER = (2, 5)  # units of a combination, both included
FAINTEST = 0.25  # least intensity that is acted
NOT_TOGETHER = (
    {"AU05", "AU45"},  # eyes wide and shut
    {"AU07", "AU45"},
    {"AU12", "AU15"},  # corners of the mouth up and down
    {"AU20", "AU23"},  # lips stretched, pressed,
    {"AU23", "AU25"},  # and parted
    {"AU23", "AU26"},
    {"AU10", "AU23"},
)


class Emotion(NamedTuple):
    """An expression by the intensities of its action units; `side`: the side of the face that it is on, "" for both."""

    name: str
    units: Mapping[str, float]
    side: str = ""


EMOTIONS = (
    Emotion("neutral", {}),
    Emotion("anger", {"AU04": 4, "AU05": 2.5, "AU07": 3.5, "AU23": 4}),
    Emotion("contempt", {"AU12": 1.5, "AU14": 2.5}, "Right"),
    Emotion("disgust", {"AU09": 4, "AU15": 2, "AU17": 3}),
    Emotion("fear", {"AU01": 4, "AU02": 3, "AU04": 2.5, "AU05": 4, "AU07": 1, "AU20": 4, "AU25": 3, "AU26": 2}),
    Emotion("happiness", {"AU06": 3.5, "AU12": 4.5, "AU25": 1.2}),
    Emotion("sadness", {"AU01": 4, "AU04": 2.5, "AU15": 4, "AU17": 2}),
    Emotion("surprise", {"AU01": 4.5, "AU02": 4.5, "AU05": 4, "AU25": 4, "AU26": 3.5}),
)

ATTRIBUTES = (
    "black hair",
    "brown hair",
    "blond hair",
    "smile",
    "open mouth",
    "closed eyes",
    "raised brows",
    "frown",
)
"""What the field "attributes" of acted clips says, in order. Hair may be red or grey, too, and is then none of them."""

SEEN = 1.5  # intensity from which an action unit counts as an attribute
SHUT = 3.5  # and of AU45


def act(seed: int, expressions: int, views: int) -> Performance:
    """What everybody acts: every expression under every view, [expressions * views] frames; nothing is said.

    Frame k has the expression k // views and the view k % views. The head is in its place and looks straight ahead.
    """
    weights = np.repeat(acted_expressions(seed, expressions), views, axis=0)
    count = len(weights)
    rotation, gaze = np.zeros((count, 3), np.float32), np.zeros((count, 2, 2), np.float32)
    rotation[:, 1] = np.tile([view_yaw(view) for view in range(views)], expressions)
    gaze[:, 0, 1], gaze[:, 1, 1] = -VERGENCE, VERGENCE
    return Performance(
        expression=weights,
        rotation=rotation,
        translation=np.zeros((count, 3), np.float32),
        gaze=gaze,
        audio=np.zeros(0, np.int16),
        phonemes=np.zeros(0, np.int32),
        phoneme_times=np.zeros((0, 2), np.float32),
    )


def acted_numbers(expressions: int, views: int) -> np.ndarray:
    """The field "acted" of `act`: [expressions * views 3] int32, expression, view and gaze."""
    return np.array([(number, view, 0) for number in range(expressions) for view in range(views)], np.int32)


def view_yaw(view: int) -> float:
    """The yaw of a view in radians: 0, 15, -15, 30, -30, ... degrees."""
    return float(VIEW_STEP) * ((view + 1) // 2) * (1 if view % 2 else -1)


def acted_expressions(seed: int, count: int) -> np.ndarray:
    """Weights of `EXPRESSIONS`, [count 52] float32 in [0, 1]: neutral, the seven emotions, then random ones."""
    rows = [expression_of(emotion.units, emotion.side) for emotion in EMOTIONS[:count]]
    rng = stream(seed, "acted expressions")
    alone: list[str] = []
    together: list[str] = []
    for number in range(len(EMOTIONS), count):
        wanted = int(rng.integers(TOGETHER[0], TOGETHER[1] + 1))
        dealt = _deal(rng, alone, 1) if number % 3 == 0 else _deal(rng, together, wanted)
        rows.append(expression_of(_with_lips(dealt)))
    return np.stack(rows)


def expression_of(units: Mapping[str, float], side: str = "") -> np.ndarray:
    """Weights of `EXPRESSIONS`, [52] float32 in [0, 1], whose `action_units` have these intensities, others being 0.

    units: name -> intensity in [0, 5]. Lips part (AU25) at least as far as jaw (AU26) and upper lip (AU10) take them
        unless they close over the jaw (mouthClose), and at most 4 further.
    side: "Left" or "Right": one side alone acts the paired units, of at most half the full intensity, since what only
        one side does has half of it.

    Raises ValueError for intensities that no face can show.
    """
    share = {name: value / MAXIMUM for name, value in units.items()}
    mouth = {name: share.pop(name, 0.0) for name in ("AU25", "AU26")}
    shapes = {_SHAPES[name]: value for name, value in share.items()}
    jaw, upper = mouth["AU26"], share.get("AU10", 0.0)
    lips = mouth["AU25"] - jaw - LIPS * upper
    shapes["jawOpen"] = JAW * jaw
    shapes["mouthClose"] = JAW * max(0.0, -lips)
    shapes["mouthLowerDown"] = min(max(0.0, lips) / LIPS, 1.0)
    shapes["mouthFunnel"] = max(0.0, lips / LIPS - 1)
    weights = np.zeros(len(EXPRESSIONS))
    for number, weight in both_sides(shapes).items():
        name = EXPRESSIONS[number]
        sided = name.endswith(("Left", "Right")) and side
        weights[number] = weight if not sided else 2 * weight * name.endswith(side)
    if weights.max() > 1 + 1e-9 or weights.min() < 0 or shapes["mouthClose"] > shapes["jawOpen"] + 1e-9:
        raise ValueError(f"no face shows {dict(units)} {side}")
    return np.clip(weights, 0, 1).astype(np.float32)


def attributes(person: Person, intensities: np.ndarray) -> np.ndarray:
    """Which of `ATTRIBUTES` are true of somebody's frames: [t 8], 0 or 1 float32, from intensities [t 17] in [0, 5]."""
    unit = dict(zip(ACTION_UNITS, intensities.T, strict=True))
    nearest = int(np.square(np.sqrt(HAIR_COLOURS) - np.sqrt(person.materials["hair"])).sum(1).argmin())
    hair = [nearest == 0, nearest in (1, 2), nearest == 3]
    face = [
        unit["AU12"] >= SEEN,
        unit["AU25"] >= SEEN,
        unit["AU45"] >= SHUT,
        np.maximum(unit["AU01"], unit["AU02"]) >= SEEN,
        unit["AU04"] >= SEEN,
    ]
    true = [*(np.full(len(intensities), value) for value in hair), *face]
    return np.stack(true, axis=1).astype(np.float32)


def _deal(rng: np.random.Generator, deck: list[str], wanted: int) -> dict[str, float]:
    """Units from a deck that is filled and shuffled anew when it runs out, so that all come equally often."""
    dealt: dict[str, float] = {}
    passed: list[str] = []
    while len(dealt) < wanted and len(passed) < len(ACTION_UNITS):
        if not deck:
            deck += [ACTION_UNITS[k] for k in rng.permutation(len(ACTION_UNITS))]
        name = deck.pop()
        if name in dealt or any({name, other} in NOT_TOGETHER for other in dealt):
            passed.append(name)
        else:
            dealt[name] = float(rng.uniform(FAINTEST, MAXIMUM))
    deck += reversed(passed)  # they are next
    return dealt


def _with_lips(units: dict[str, float]) -> dict[str, float]:
    """The units with AU25 in the range that jaw and upper lip leave it: where in the range its intensity tells."""
    jaw, upper = units.get("AU26", 0.0), LIPS * units.get("AU10", 0.0)
    least = min(jaw + upper, MAXIMUM)
    most = min(jaw + upper + 2 * LIPS * MAXIMUM, MAXIMUM)
    place = units.get("AU25", 0.0) / MAXIMUM
    parted = least + (most - least) * place
    return {**units, "AU25": parted} if parted > 0 else units


_SHAPES = {
    "AU01": "browInnerUp",
    "AU02": "browOuterUp",
    "AU04": "browDown",
    "AU05": "eyeWide",
    "AU06": "cheekSquint",
    "AU07": "eyeSquint",
    "AU09": "noseSneer",
    "AU10": "mouthUpperUp",
    "AU12": "mouthSmile",
    "AU14": "mouthDimple",
    "AU15": "mouthFrown",
    "AU17": "mouthShrugLower",
    "AU20": "mouthStretch",
    "AU23": "mouthPress",
    "AU45": "eyeBlink",
}
"""Of the units that one shape, or one of each side, makes alone (see `reenax.geometry.head.action_units`)."""
