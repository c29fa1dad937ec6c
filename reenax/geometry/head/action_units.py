"""Facial action units from the expression weights, by a fixed linear map.

The units are the 17 whose intensity OpenFace reports, on its scale from 0 (absent) to 5 (maximal). Each expression of
ARKit shows a unit of the Facial Action Coding System (Ekman & Friesen):

    unit  FACS name             from
    AU01  inner brow raiser     browInnerUp
    AU02  outer brow raiser     browOuterUp*
    AU04  brow lowerer          browDown*
    AU05  upper lid raiser      eyeWide*
    AU06  cheek raiser          cheekSquint*
    AU07  lid tightener         eyeSquint*
    AU09  nose wrinkler         noseSneer*
    AU10  upper lip raiser      mouthUpperUp*
    AU12  lip corner puller     mouthSmile*
    AU14  dimpler               mouthDimple*
    AU15  lip corner depressor  mouthFrown*
    AU17  chin raiser           mouthShrugLower
    AU20  lip stretcher         mouthStretch*
    AU23  lip tightener         mouthPress* (AU24, lip pressor, which OpenFace does not tell from it)
    AU25  lips part             5/3 (jawOpen - mouthClose) + 2/5 (mouthLowerDown* + mouthUpperUp* + mouthFunnel)
    AU26  jaw drop              5/3 jawOpen: full at 0.6, above which FACS says AU27, mouth stretch
    AU45  blink                 eyeBlink*

``*`` is the mean of the Left and the Right shape, so what only one side does has half the intensity. A mouthClose as
large as the jawOpen that it compensates means touching lips: AU25 is then 0; AU26 still tells that the jaw is down.
AU25 goes with the gap between the lips of the synthetic head's mean, and is full at 1.65 cm.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from reenax.geometry.head.names import EXPRESSIONS

_JAW = 5 / 3
_SOURCES: dict[str, dict[str, float]] = {
    "AU01": {"browInnerUp": 1},
    "AU02": {"browOuterUp*": 1},
    "AU04": {"browDown*": 1},
    "AU05": {"eyeWide*": 1},
    "AU06": {"cheekSquint*": 1},
    "AU07": {"eyeSquint*": 1},
    "AU09": {"noseSneer*": 1},
    "AU10": {"mouthUpperUp*": 1},
    "AU12": {"mouthSmile*": 1},
    "AU14": {"mouthDimple*": 1},
    "AU15": {"mouthFrown*": 1},
    "AU17": {"mouthShrugLower": 1},
    "AU20": {"mouthStretch*": 1},
    "AU23": {"mouthPress*": 1},
    "AU25": {
        "jawOpen": _JAW,
        "mouthClose": -_JAW,
        "mouthLowerDown*": 2 / 5,
        "mouthUpperUp*": 2 / 5,
        "mouthFunnel": 2 / 5,
    },
    "AU26": {"jawOpen": _JAW},
    "AU45": {"eyeBlink*": 1},
}
ACTION_UNITS: tuple[str, ...] = tuple(_SOURCES)
MAXIMUM = 5.0


def _weights() -> np.ndarray:
    weights = np.zeros((len(ACTION_UNITS), len(EXPRESSIONS)), np.float32)
    for row, sources in enumerate(_SOURCES.values()):
        for name, weight in sources.items():
            both = [name.replace("*", side) for side in ("Left", "Right")] if "*" in name else [name]
            for shape in both:
                weights[row, EXPRESSIONS.index(shape)] = weight / len(both)
    weights.flags.writeable = False
    return weights


# The share of each unit's maximum per expression weight: rows as ACTION_UNITS, columns as EXPRESSIONS.
WEIGHTS: Float[np.ndarray, "17 52"] = _weights()


def action_units(expression: Float[Any, "*batch 52"]) -> Float[Any, "*batch 17"]:
    """The intensities in [0, 5] of ACTION_UNITS, for expression weights in [0, 1].

    ``clip(5 WEIGHTS @ expression, 0, 5)``; takes NumPy and JAX arrays and returns the same kind.
    """
    return (MAXIMUM * (expression @ WEIGHTS.T)).clip(0, MAXIMUM)
