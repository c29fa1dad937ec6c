"""What makes the smooth head a face: brows, nose, lips, lids and hair, as sums of bumps in centimetres.

Every function is symmetric in x. The lines of lips, brows and lids are those that the texture is painted along.
"""

import numpy as np
from jaxtyping import Float, Int

MOUTH_Y = -7.0
MOUTH_CORNER = 2.37  # |x| of the corners
EYE_CENTRE = (3.08, -0.02, 6.05)  # of the eyeball at x > 0
EYE_RADIUS = 1.50
LID_RADIUS = 1.64  # of the sphere that the lids lie on
EYE_CORNERS = (7.25 * np.sin(np.deg2rad(12.0)), 7.25 * np.sin(np.deg2rad(39.0)))  # |x| of the inner and outer corner
HAIR_THICKNESS = 0.75

# The nose down its ridge: y, how far it stands out, half its width.
_NOSE = np.array(
    [
        [1.5, 0.0, 0.6],
        [0.6, 0.45, 0.50],
        [-0.5, 0.75, 0.50],
        [-2.0, 1.65, 0.62],
        [-3.2, 2.45, 0.75],
        [-4.0, 2.85, 0.85],
        [-4.5, 2.25, 0.85],
        [-4.95, 0.55, 0.80],
        [-5.5, 0.0, 0.7],
    ]
)
_FOLD = np.array(
    [[-8.0, 3.35], [-7.0, 3.15], [-5.5, 2.55], [-4.2, 1.95]]
)  # y, |x| of the fold from the nose to the mouth
# degrees from the front, y of the hairline
_HAIRLINE = np.array([[0, 7.0], [25, 6.7], [45, 5.4], [62, 2.6], [75, 1.2], [95, 1.0], [120, -5.0], [180, -7.5]])

Numbers = Float[np.ndarray, "*n"]


def gaussian(distance: Numbers, width: float) -> Numbers:
    """``exp(-distance^2 / (2 width^2))``: 1 in the middle."""
    return np.exp(-0.5 * (distance / width) ** 2)


def smoothstep(start: float, end: float, x: Numbers) -> Numbers:
    """From 0 at ``start`` to 1 at ``end``, a cubic between them; ``start`` may be the larger."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def smooth_maximum(a: Numbers, b: Numbers, softness: float) -> Numbers:
    """The larger of two numbers, rounded where they are closer than ``softness``."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + softness**2))


def _along(y: Numbers, knots: np.ndarray, column: int) -> Numbers:
    """Piecewise linear in y, through knots from the top down."""
    return np.interp(y, knots[::-1, 0], knots[::-1, column])


def mouth_line(x: Numbers) -> Numbers:
    """y where the closed lips meet: corners 0.1 higher than the middle, and a dip there."""
    u = np.clip(np.abs(x) / MOUTH_CORNER, 0, 1.6)
    return MOUTH_Y + 0.10 * u**2 - 0.06 * gaussian(x, 0.35)


def upper_lip(x: Numbers) -> Numbers:
    """How high the red of the upper lip is above the mouth line, with Cupid's bow."""
    u = np.clip(np.abs(x) / MOUTH_CORNER, 0, 1)
    return 0.80 * np.sqrt(1 - u**1.7) - 0.13 * gaussian(x, 0.28)


def lower_lip(x: Numbers) -> Numbers:
    """How far the red of the lower lip reaches below the mouth line."""
    u = np.clip(np.abs(x) / MOUTH_CORNER, 0, 1)
    return 0.98 * (1 - u**2) ** 0.65


def brow_line(x: Numbers) -> Numbers:
    """y of the middle of the brows, which run from |x| = 1.1 to 5.3."""
    t = np.clip((np.abs(x) - 1.1) / 4.2, 0, 1)
    return 1.75 + 0.75 * t - 0.98 * t**2.2


def lid_place(x: Numbers) -> Numbers:
    """0 at the inner corner of an eye, 1 at the outer one, clipped."""
    inner, outer = EYE_CORNERS
    return np.clip((np.abs(x) - inner) / (outer - inner), 0, 1)


def lid_arc(x: Numbers) -> Numbers:
    """The arc of both lids: 0 at the corners and outside, 1 between."""
    inner, outer = EYE_CORNERS
    between = (np.abs(x) > inner) & (np.abs(x) < outer)
    return np.where(between, np.maximum(np.sin(np.pi * lid_place(x)), 0) ** 0.75, 0)


def upper_lid(x: Numbers) -> Numbers:
    """How high the upper lid stands above the row of the eyes; highest towards the nose."""
    return 0.60 * lid_arc(x) * (1 + 0.25 * np.cos(np.pi * lid_place(x)))


def lower_lid(x: Numbers) -> Numbers:
    """How far the lower lid hangs below the row of the eyes."""
    return 0.42 * lid_arc(x) * (1 - 0.2 * np.cos(np.pi * lid_place(x)))


def lid_sphere(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """z of the sphere that the lids of the nearer eye lie on, and the squared distance from its axis."""
    side = np.where(x > 0, 1.0, -1.0)
    from_axis = (x - side * EYE_CENTRE[0]) ** 2 + (y - EYE_CENTRE[1]) ** 2
    return EYE_CENTRE[2] + np.sqrt(np.maximum(LID_RADIUS**2 - from_axis, 0)), from_axis


def bend_mouth_rows(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The rows around the mouth follow the line of the lips."""
    x, y, z = points.T
    near = gaussian(y - MOUTH_Y, 1.5) * smoothstep(0.0, 3.0, z)
    return np.stack([x, y + (mouth_line(x) - MOUTH_Y) * near, z], axis=1)


def _bones(a: Numbers, y: Numbers) -> Numbers:
    """Brow ridge, sockets, root of the nose, cheek bones, temples, hollow cheeks and chin; a = |x|."""
    return (
        0.35 * gaussian(a - 3.0, 1.6) * gaussian(y - 1.9, 0.7)
        - 0.95 * gaussian(a - 3.0, 1.35) * gaussian(y, 0.85)
        - 0.30 * gaussian(a - 1.2, 0.5) * gaussian(y - 0.1, 0.8)
        + 0.45 * gaussian(a - 4.3, 1.2) * gaussian(y + 2.9, 1.1)
        - 0.25 * gaussian(a - 5.6, 1.0) * gaussian(y - 2.6, 1.4)
        - 0.45 * gaussian(a - 4.2, 1.2) * gaussian(y + 6.6, 1.6)
        + 0.25 * gaussian(a, 1.4) * gaussian(y + 10.2, 0.8)
    )


def _nose(a: Numbers, y: Numbers) -> Numbers:
    """Ridge with flat-topped cross sections, wings, nostrils."""
    ridge = _along(y, _NOSE, 1) * np.exp(-((a / (1.45 * _along(y, _NOSE, 2))) ** 2.6))
    wings = 1.05 * gaussian(a - 1.35, 0.38) * gaussian(y + 4.25, 0.45)
    nostrils = 0.35 * gaussian(a - 0.68, 0.28) * gaussian(y + 4.95, 0.20)
    return ridge + wings - nostrils


def _folds(a: Numbers, y: Numbers) -> Numbers:
    """The groove of the philtrum between its two ridges, and the fold from the nose to the mouth."""
    philtrum = (0.06 * gaussian(a - 0.45, 0.2) - 0.13 * gaussian(a, 0.22)) * gaussian(y + 5.9, 0.5)
    across = gaussian(a - np.interp(y, _FOLD[:, 0], _FOLD[:, 1]), 0.28)
    return philtrum - 0.16 * across * smoothstep(-8.6, -7.2, y) * smoothstep(-3.9, -4.9, y)


def _lips(x: Numbers, y: Numbers, side_mouth: Int[np.ndarray, " n"]) -> Numbers:
    """Both lips, the rise that carries them, the groove between them and the dimples beside the corners."""
    a, d = np.abs(x), y - mouth_line(x)
    within = np.sqrt(np.maximum(1 - (a / (1.02 * MOUTH_CORNER)) ** 2, 0))
    upper = 0.50 * gaussian(d - 0.42 * np.maximum(upper_lip(x), 0.15), 0.34) * (side_mouth >= 0)
    lower = 0.62 * gaussian(d + 0.45 * np.maximum(lower_lip(x), 0.15), 0.42) * (side_mouth <= 0)
    rise = 0.22 * gaussian(a, 1.9) * gaussian(y + 6.6, 1.3)
    dimple = 0.15 * gaussian(a - MOUTH_CORNER - 0.15, 0.3) * gaussian(d, 0.35)
    return within * (upper + lower - 0.30 * gaussian(d, 0.13)) + rise - dimple


def raise_relief(points: Float[np.ndarray, "n 3"], side_mouth: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """The face stands out of the smooth head, along z and only in front."""
    x, y, z = points.T
    a = np.abs(x)
    height = _bones(a, y) + _nose(a, y) + _folds(a, y) + _lips(x, y, side_mouth)
    return np.stack([x, y, z + height * smoothstep(0.0, 3.0, z)], axis=1)


def open_lids(points: Float[np.ndarray, "n 3"], side_eye: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """The slits of the eyes open to their neutral shape, the lids lie on their sphere, a crease runs above."""
    x, y, z = points.T
    in_front = z > 2
    fade = np.exp(-np.abs(y) / 0.75) * in_front
    move = np.where(side_eye > 0, upper_lid(x), np.where(side_eye < 0, -lower_lid(x), 0)) * fade
    slant = 0.10 * (lid_place(x) - 0.3) * gaussian(y, 0.8) * (in_front & (np.abs(x) > EYE_CORNERS[0] - 1))
    y = y + move + slant
    sphere, from_axis = lid_sphere(x, y)
    z = np.where(in_front & (from_axis < LID_RADIUS**2), smooth_maximum(z, sphere, 0.12), z)
    crease = 0.10 * gaussian(y - (upper_lid(x) + 0.42), 0.10) * lid_arc(x)
    return np.stack([x, y, z - crease * (in_front & (side_eye >= 0))], axis=1)


def hair_mask(y: Numbers, turn: Numbers) -> Numbers:
    """0 on skin, 1 in the hair, smooth at the hairline; ``turn`` in degrees from the front."""
    hairline = np.interp(np.abs(turn), _HAIRLINE[:, 0], _HAIRLINE[:, 1])
    return smoothstep(-0.5, 0.9, y - hairline)


def grow_hair(points: Float[np.ndarray, "n 3"], mask: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Hair is a shell: its skin moves outwards, away from the middle of the skull."""
    outward = points - np.array([0, 1, -1])
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return points + HAIR_THICKNESS * mask[:, None] * outward
