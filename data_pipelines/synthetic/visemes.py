"""How the mouth looks while it speaks: ARKit-52 weights of every phoneme, and how neighbours blend.

A sound pulls the jaw, the lips and the tongue towards its shape with a strength of its own (a dominance function in
the sense of Cohen and Massaro, "Modeling coarticulation in synthetic visual speech", 1993): the lips of a B insist on
being closed, those of a K take whatever the vowels around want. Over time each pull is its interval smoothed by a
raised cosine, so a mouth moves ahead of the sound.
"""

from typing import NamedTuple

import numpy as np

from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES
from reenax.geometry.head.names import EXPRESSIONS

SMOOTHING = 0.10  # seconds, full width of the raised cosine
RELEASE = 0.2  # share of a stop in which the mouth is already on its way to the next sound
CLOSURE = len(EXPRESSIONS)
"""An extra channel after the 52: in [0, 1], how far the lips are closed over the open jaw (see `close`)."""


class Viseme(NamedTuple):
    """Weights of a mouth shape (names without a side mean both), how far it closes the lips, and how strongly it pulls
    at the jaw, the lips and the tongue."""

    shapes: dict[str, float]
    closure: float = 0.0
    jaw: float = 1.0
    lips: float = 1.0
    tongue: float = 1.0


_SPREAD = {"mouthSmile": 0.35, "jawOpen": 0.15, "mouthStretch": 0.10}
_ROUND = {"mouthPucker": 0.80, "mouthFunnel": 0.30, "jawOpen": 0.15}
_HALF_ROUND = {"mouthFunnel": 0.45, "mouthPucker": 0.30, "jawOpen": 0.22}
_OPEN = {"jawOpen": 0.70, "mouthLowerDown": 0.15, "mouthUpperUp": 0.06}
_LAX = {"jawOpen": 0.22, "mouthSmile": 0.18, "mouthStretch": 0.06}

_PRESS = Viseme(
    {"mouthPress": 0.60, "jawOpen": 0.12, "mouthShrugLower": 0.08}, closure=1.0, jaw=1.0, lips=8.0, tongue=0.5
)
_BITE = Viseme({"mouthRollLower": 0.70, "mouthUpperUp": 0.30, "jawOpen": 0.06}, jaw=4.0, lips=5.0, tongue=0.5)
_TIP = Viseme({"jawOpen": 0.17, "mouthLowerDown": 0.12, "mouthUpperUp": 0.06}, jaw=0.9, lips=0.25, tongue=0.8)
_BACK = Viseme({"jawOpen": 0.22, "mouthLowerDown": 0.08}, jaw=0.5, lips=0.15, tongue=0.3)
_HISS = Viseme(
    {"jawOpen": 0.05, "mouthSmile": 0.18, "mouthStretch": 0.20, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12},
    jaw=3.0,
    lips=0.8,
)
_HUSH = Viseme({"jawOpen": 0.08, "mouthFunnel": 0.60, "mouthPucker": 0.20, "mouthLowerDown": 0.12}, jaw=2.5, lips=1.6)
_TEETH = Viseme({"jawOpen": 0.20, "tongueOut": 0.45, "mouthLowerDown": 0.15}, jaw=1.5, lips=0.5, tongue=4.0)

VISEMES: dict[str, tuple[Viseme, ...]] = {
    "SIL": (Viseme({}, jaw=0.8, lips=0.5, tongue=0.5),),
    "AA": (Viseme(_OPEN),),
    "AE": (Viseme({"jawOpen": 0.55, "mouthSmile": 0.25, "mouthStretch": 0.15, "mouthLowerDown": 0.15}),),
    "AH": (Viseme({"jawOpen": 0.42, "mouthLowerDown": 0.10}),),
    "AO": (Viseme({"jawOpen": 0.50, "mouthFunnel": 0.50}),),
    "AW": (Viseme(_OPEN), Viseme(_ROUND)),
    "AY": (Viseme(_OPEN), Viseme(_LAX)),
    "EH": (Viseme({"jawOpen": 0.40, "mouthSmile": 0.20, "mouthStretch": 0.10, "mouthLowerDown": 0.08}),),
    "ER": (Viseme({"jawOpen": 0.25, "mouthFunnel": 0.35, "mouthPucker": 0.15}),),
    "EY": (Viseme({"jawOpen": 0.40, "mouthSmile": 0.25, "mouthStretch": 0.10}), Viseme(_SPREAD)),
    "IH": (Viseme(_LAX),),
    "IY": (Viseme(_SPREAD),),
    "OW": (Viseme({"jawOpen": 0.35, "mouthFunnel": 0.70}), Viseme(_ROUND)),
    "OY": (Viseme({"jawOpen": 0.42, "mouthFunnel": 0.60}), Viseme(_SPREAD)),
    "UH": (Viseme(_HALF_ROUND),),
    "UW": (Viseme(_ROUND),),
    **dict.fromkeys(("B", "P", "M"), (_PRESS,)),
    **dict.fromkeys(("F", "V"), (_BITE,)),
    **dict.fromkeys(("T", "D", "N", "L"), (_TIP,)),
    **dict.fromkeys(("K", "G", "NG"), (_BACK,)),
    **dict.fromkeys(("S", "Z"), (_HISS,)),
    **dict.fromkeys(("SH", "ZH", "CH", "JH"), (_HUSH,)),
    **dict.fromkeys(("TH", "DH"), (_TEETH,)),
    "HH": (Viseme({"jawOpen": 0.25}, jaw=0.3, lips=0.1, tongue=0.3),),
    "R": (Viseme({"jawOpen": 0.15, "mouthFunnel": 0.45, "mouthPucker": 0.15}, jaw=1.0, lips=1.2),),
    "W": (Viseme({"jawOpen": 0.08, "mouthPucker": 0.90, "mouthFunnel": 0.20}, jaw=1.5, lips=2.5),),
    "Y": (Viseme(_SPREAD, jaw=1.2, lips=0.8),),
}
"""The mouth shapes of each phoneme in turn: two for a diphthong, else one."""


def both_sides(shapes: dict[str, float]) -> dict[int, float]:
    """Numbers of `EXPRESSIONS` and their weights; a name without a side stands for Left and Right."""
    numbers = {}
    for name, weight in shapes.items():
        for full in (name,) if name in EXPRESSIONS else (f"{name}Left", f"{name}Right"):
            numbers[EXPRESSIONS.index(full)] = weight
    return numbers


def mouth(phonemes: np.ndarray, times: np.ndarray, loudness: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The mouth at any times.

    Args:
        phonemes: int [p], numbers of `PHONEMES`.
        times: [p 2], seconds, may begin at minus and end at plus infinity.
        loudness: [p], 1 is normal; loud vowels open the jaw wider.
        at: [t], seconds.

    Returns:
        [t 53] in [0, 1]: the weights of `EXPRESSIONS` and, last, `CLOSURE`.
    """
    times = times.copy()
    for place in np.flatnonzero([PHONEMES[phoneme].kind == "stop" for phoneme in phonemes]):
        end = times[place, 1] - RELEASE * (times[place, 1] - times[place, 0])
        times[place, 1] = times[place + 1 : place + 2, 0] = end
    targets, pulls, spans = [], [], []
    for phoneme, (start, end), loud in zip(phonemes.tolist(), times.tolist(), loudness.tolist(), strict=True):
        kinds = _ROWS[phoneme]
        edges = np.linspace(start, end, len(kinds) + 1) if len(kinds) > 1 else (start, end)
        for number, (target, pull) in enumerate(kinds):
            target = target.copy()
            if PHONEMES[phoneme].kind == "vowel":
                target[_JAW] *= 0.65 + 0.35 * loud
            targets.append(target)
            pulls.append(pull)
            spans.append((edges[number], edges[number + 1]))
    starts, ends = np.array(spans).T
    weights = _raised_cosine_step(at[:, None] - starts[None]) - _raised_cosine_step(at[:, None] - ends[None])
    pull = np.array(pulls)
    return (weights @ (pull * np.array(targets))) / (weights @ pull)


def close(expression: np.ndarray, closure: np.ndarray) -> np.ndarray:
    """Close the lips over the jaw, whatever opened it: mouthClose undoes jawOpen by the closure [t] in [0, 1]."""
    closed = expression.copy()
    closed[..., _MOUTH_CLOSE] = np.maximum(closed[..., _MOUTH_CLOSE], closure * closed[..., _JAW_OPEN])
    return closed


def _raised_cosine_step(time: np.ndarray) -> np.ndarray:
    """From 0 to 1 around time 0: the integral of a raised cosine of width `SMOOTHING`."""
    place = np.clip(time / SMOOTHING, -0.5, 0.5)
    return 0.5 + place + np.sin(2 * np.pi * place) / (2 * np.pi)


_JAW_OPEN, _MOUTH_CLOSE = EXPRESSIONS.index("jawOpen"), EXPRESSIONS.index("mouthClose")
_JAW = [number for number, name in enumerate(EXPRESSIONS) if name.startswith("jaw")]


def _row(viseme: Viseme) -> tuple[np.ndarray, np.ndarray]:
    target, pull = np.zeros(len(EXPRESSIONS) + 1), np.full(len(EXPRESSIONS) + 1, viseme.lips)
    for number, weight in both_sides(viseme.shapes).items():
        target[number] = weight
    target[CLOSURE] = viseme.closure
    pull[_JAW] = viseme.jaw
    pull[EXPRESSIONS.index("tongueOut")] = viseme.tongue
    pull[CLOSURE] = 12.0 if viseme.closure else 1.0  # closed lips are closed, however short
    return target, pull


_ROWS = [[_row(viseme) for viseme in VISEMES[phoneme.symbol]] for phoneme in PHONEMES]
assert len(_ROWS) == len(NUMBER)
