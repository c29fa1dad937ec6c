"""Identity: 16 directions with a meaning and 64 smooth random fields, all for coefficients that are N(0, 1).

An eyeball must stay round: all its vertices take the displacement of its centre.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from reenax.geometry.head.names import TORSO
from reenax.geometry.head.relief import MOUTH_Y, gaussian, smoothstep
from reenax.geometry.head.template import Template, build_template, eye_centre

SEMANTIC = (
    "face_width",
    "face_length",
    "jaw_width",
    "chin",
    "nose_length",
    "nose_width",
    "nose_ridge",
    "eye_distance",
    "eye_height",
    "brow_height",
    "cheek",
    "mouth_width",
    "mouth_height",
    "lip_fullness",
    "forehead",
    "cranium",
)
RANDOM_FIELDS = 64
IDENTITIES = len(SEMANTIC) + RANDOM_FIELDS

_ASYMMETRIC = 20  # the last fields, which differ between left and right, at half the size
_EXTENT = (7.5, 11.5, 9.0)  # centimetres of the head that count as one unit of a wave's phase / pi
_LARGEST = 0.34  # root mean square of the first field in centimetres
_SPREAD = 0.8  # standard deviation of the random fields' coefficients, folded in
_WAVES = 4  # of each field

Points = Float[np.ndarray, "n 3"]


def _flat_top(distance: Float[np.ndarray, " n"], width: float) -> Float[np.ndarray, " n"]:
    """Like a Gaussian, but wide in the middle and steep at its ends."""
    return np.exp(-0.5 * (distance / width) ** 4)


def _skull(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, tuple]:
    """Directions (dx, dy, dz) of the whole head's form."""
    a, side = np.abs(x), np.sign(x)
    chin = gaussian(x, 2.0)
    return {
        "face_width": (0.06 * x, 0, 0),
        "face_length": (0, 0.07 * np.minimum(y, 0), 0),
        "jaw_width": (0.14 * x * gaussian(y + 8, 3.0), 0, 0),
        "chin": (0, -0.5 * chin * gaussian(y + 10.8, 1.2), 0.5 * chin * gaussian(y + 10.3, 1.2) * (z > 0)),
        "cheek": (
            0.35 * side * gaussian(a - 4.8, 1.6) * gaussian(y + 3, 1.6),
            0,
            0.4 * gaussian(a - 4.4, 1.6) * gaussian(y + 3, 1.6) * (z > 0),
        ),
        "forehead": (
            0,
            0.6 * gaussian(y - 8, 3.0) * smoothstep(1.0, 5.0, y),
            0.35 * gaussian(y - 6, 2.5) * smoothstep(-3.0, 3.0, z),
        ),
        "cranium": (0.06 * x * smoothstep(-3.0, 5.0, y), 0, 0.06 * np.minimum(z, 0)),
    }


def _features(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, tuple]:
    """Directions (dx, dy, dz) of nose, eyes, brows and mouth."""
    a, side = np.abs(x), np.sign(x)
    nose = gaussian(x, 1.6) * (z > 3)
    mouth = _flat_top(x, 3.2) * gaussian(y - MOUTH_Y, 1.6) * (z > 2)
    above_mouth = y - MOUTH_Y
    return {
        "nose_length": (0, -0.45 * nose * gaussian(y + 4.3, 1.1), 0.2 * nose * gaussian(y + 4.3, 1.3)),
        "nose_width": (0.3 * x * gaussian(x, 1.7) * gaussian(y + 4.3, 1.0) * (z > 3), 0, 0),
        "nose_ridge": (0, 0, 0.45 * nose * gaussian(y + 1.8, 1.3)),
        "eye_distance": (0.3 * side * _flat_top(a - 3.1, 1.8) * gaussian(y, 1.8) * (z > 2), 0, 0),
        "eye_height": (0, 0.35 * _flat_top(a - 3.1, 2.2) * gaussian(y, 1.6) * (z > 2), 0),
        "brow_height": (0, 0.4 * gaussian(a - 3, 2.0) * gaussian(y - 2.2, 0.9) * (z > 2), 0),
        "mouth_width": (0.14 * x * mouth, 0, 0),
        "mouth_height": (0, 0.4 * mouth, 0),
        "lip_fullness": (
            0,
            0.22 * np.clip(above_mouth, -0.8, 0.8) * mouth,
            0.18 * mouth * (np.abs(above_mouth) > 0.1),
        ),
    }


def _places(template: Template) -> Points:
    """Where each vertex reads a field: its own place, or its eyeball's centre."""
    points = template.vertices.copy()
    for side, (first, end) in zip((1, -1), template.eyes, strict=True):
        points[first:end] = eye_centre(side)
    return points


def _share(template: Template) -> Float[np.ndarray, "n 1"]:
    """1 on the head, fading down the neck, 0 on the torso."""
    return (template.head * (template.vertex_part != TORSO))[:, None]


def semantic_fields(template: Template) -> Float[np.ndarray, "16 n 3"]:
    """Displacements in centimetres per coefficient, float32, in the order of `SEMANTIC`."""
    x, y, z = _places(template).T
    directions = _skull(x, y, z) | _features(x, y, z)
    fields = [np.stack(np.broadcast_arrays(*directions[name], x)[:3], axis=1) for name in SEMANTIC]
    return (np.stack(fields) * _share(template)[None]).astype(np.float32)


def _wave_fields(count: int = RANDOM_FIELDS) -> list[Callable[[Points], Points]]:
    """Sums of a few random plane waves, the same on every machine; the further, the shorter the waves."""
    random = np.random.RandomState(0)  # NumPy promises that its stream never changes

    def field(number: int) -> Callable[[Points], Points]:
        wave_number = 0.6 + 2.2 * number / IDENTITIES
        waves = []
        for _ in range(_WAVES):
            k = random.normal(0, 1, 3)
            k *= wave_number * random.uniform(0.6, 1.4) / np.linalg.norm(k)
            waves.append((k, random.uniform(0, 2 * np.pi, 3), random.normal(0, 1, 3)))  # and phase, amplitude
        symmetric = number < count - _ASYMMETRIC
        return lambda unit: np.sum([(_mirrored_wave if symmetric else _wave)(unit, *wave) for wave in waves], axis=0)

    return [field(number) for number in range(count)]


def _wave(unit: Points, k: np.ndarray, phase: np.ndarray, amplitude: np.ndarray) -> Points:
    return amplitude * np.cos(np.pi * (unit @ k)[:, None] + phase)


def _mirrored_wave(unit: Points, k: np.ndarray, phase: np.ndarray, amplitude: np.ndarray) -> Points:
    """A standing wave across x: displacements left and right mirror each other."""
    across = np.pi * k[0] * unit[:, 0]
    upright = np.cos(np.pi * (unit[:, 1:] @ k[1:])[:, None] + phase)
    return amplitude * np.stack([np.sin(across), np.cos(across), np.cos(across)], axis=1) * upright


@functools.cache
def _full_statistics() -> list[tuple[Float[np.ndarray, " 3"], float]]:
    """Mean and root mean square of each raw field over the full head, so that every detail shows the same person."""
    template = build_template("full")
    unit, share = _places(template) / _EXTENT, _share(template)
    on_head = template.vertex_part != TORSO
    statistics = []
    for field in _wave_fields():
        values = field(unit) * share
        mean = values[on_head].mean(axis=0)
        size = np.sqrt(((values - mean * share)[on_head] ** 2).sum(axis=1).mean())
        statistics.append((mean, float(size)))
    return statistics


def random_fields(template: Template) -> Float[np.ndarray, "64 n 3"]:
    """Displacements in centimetres per coefficient, float32.

    Of zero mean over the head and of root mean square 0.8 * 0.34 (1 + i)^-0.55; the last 20 are not symmetric and half
    as large.
    """
    unit, share = _places(template) / _EXTENT, _share(template)
    fields = []
    for number, (field, (mean, size)) in enumerate(zip(_wave_fields(), _full_statistics(), strict=True)):
        scale = _SPREAD * _LARGEST * (1 + number) ** -0.55 / size
        if number >= RANDOM_FIELDS - _ASYMMETRIC:
            scale *= 0.5
        fields.append(scale * (field(unit) - mean) * share)
    return np.stack(fields).astype(np.float32)


def identity_fields(template: Template) -> Float[np.ndarray, "80 n 3"]:
    """The directions of `SEMANTIC`, then the random fields; float32 centimetres per coefficient that is N(0, 1)."""
    return np.concatenate([semantic_fields(template), random_fields(template)])
