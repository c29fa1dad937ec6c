"""The 52 expressions of ARKit as displacements of the mean head.

Most are sums of bumps in the frontal plane; jaw, lids and the rounding of the lips have formulas of their own. The
numbers beside them are units of the Facial Action Coding System.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from reenax.geometry.head.names import EXPRESSIONS, TONGUE
from reenax.geometry.head.relief import (
    EYE_CENTRE,
    LID_RADIUS,
    MOUTH_CORNER,
    MOUTH_Y,
    gaussian,
    lid_arc,
    lid_sphere,
    lower_lid,
    upper_lid,
)
from reenax.geometry.head.template import Template

Side = Literal["upper lip", "lower lip", "lower lid"]
Field = Float[np.ndarray, "n 3"]

LEAST = 2e-4  # centimetres; smaller displacements are 0, so that an expression stays where it belongs
JAW_AXIS = (0.0, -1.5, -1.0)  # the jaw turns about it
JAW_ANGLE, JAW_SWAY = 17.0, 7.0  # degrees of jawOpen, and of jawLeft and jawRight
_LID_GAP = 0.06  # between the lids of a closed eye
_LID_FADE = 0.42  # how far above its edge the lid takes part in a blink


@dataclass(frozen=True)
class Bump:
    """``move * exp(-((x - cx) / sx)^2 / 2 - ((y - cy) / sy)^2 / 2)`` in front of the head, all in centimetres.

    Attributes:
        at: (cx, cy), on canonical coordinates.
        width: (sx, sy).
        move: displacement in the middle.
        only: one side of the lips or lids, where the bump must not cross the slit.
    """

    at: tuple[float, float]
    width: tuple[float, float]
    move: tuple[float, float, float]
    only: Side | None = None

    def mirrored(self) -> "Bump":
        return replace(self, at=(-self.at[0], self.at[1]), move=(-self.move[0], *self.move[1:]))


# Expressions with a Left and a Right: the left one (x > 0).
_PAIRED: Mapping[str, tuple[Bump, ...]] = {
    "mouthSmile": (  # 12
        Bump((MOUTH_CORNER, MOUTH_Y), (1.05, 1.0), (0.65, 0.75, -0.45)),
        Bump((4.0, -3.9), (1.3, 1.1), (0.1, 0.45, 0.25)),
        Bump((1.0, MOUTH_Y), (0.8, 0.6), (0.15, 0.10, -0.05)),
        Bump((3.2, -0.9), (1.2, 0.45), (0.0, 0.12, 0.0), "lower lid"),
    ),
    "mouthFrown": (Bump((MOUTH_CORNER, MOUTH_Y - 0.1), (0.85, 0.9), (0.05, -0.7, -0.05)),),  # 15
    "mouthDimple": (Bump((MOUTH_CORNER + 0.2, MOUTH_Y), (0.7, 0.7), (0.35, 0.05, -0.4)),),  # 14
    "mouthStretch": (Bump((MOUTH_CORNER, MOUTH_Y - 0.2), (1.1, 1.1), (0.6, -0.2, -0.3)),),  # 20
    "mouthPress": (  # 24
        Bump((1.2, MOUTH_Y + 0.4), (0.9, 0.35), (0.0, -0.18, -0.12), "upper lip"),
        Bump((1.2, MOUTH_Y - 0.5), (0.9, 0.4), (0.0, 0.2, -0.15), "lower lip"),
    ),
    "mouthLowerDown": (Bump((0.9, MOUTH_Y - 0.2), (0.85, 0.75), (0.0, -0.62, 0.05), "lower lip"),),  # 16
    "mouthUpperUp": (  # 10
        Bump((0.9, MOUTH_Y + 0.2), (0.85, 0.75), (0.0, 0.55, 0.05), "upper lip"),
        Bump((1.9, -4.9), (0.6, 0.8), (0.0, 0.18, 0.0)),
    ),
    "noseSneer": (  # 9
        Bump((1.2, -3.9), (0.6, 0.8), (0.0, 0.38, 0.1)),
        Bump((0.8, -0.8), (0.6, 0.8), (0.0, 0.2, 0.15)),
        Bump((1.2, MOUTH_Y + 0.6), (0.6, 0.6), (0.0, 0.25, 0.0), "upper lip"),
    ),
    "cheekSquint": (  # 6
        Bump((3.9, -2.6), (1.4, 1.1), (0.0, 0.5, 0.28)),
        Bump((3.1, -0.5), (1.2, 0.35), (0.0, 0.16, 0.0), "lower lid"),
    ),
    "browDown": (Bump((2.4, 1.9), (1.5, 0.75), (-0.22, -0.62, 0.12)),),  # 4
    "browOuterUp": (Bump((4.4, 2.0), (1.1, 0.9), (0.0, 0.75, 0.05)),),  # 2
    "eyeLookIn": (Bump((3.1, 0.0), (1.0, 0.4), (-0.05, 0.0, 0.03)),),  # 61, 62: the lids go along with the gaze
    "eyeLookOut": (Bump((3.1, 0.0), (1.0, 0.4), (0.05, 0.0, 0.03)),),
}
_BLINK_LOWER = Bump((3.1, -0.4), (1.1, 0.3), (0.0, 0.06, 0.0), "lower lid")
# Shares of a blink and of the upper lid's opening wide, and what the lower lid adds.
_LIDS: Mapping[str, tuple[float, float, Bump]] = {
    "eyeSquint": (0.30, 0.0, Bump((3.1, -0.45), (1.15, 0.45), (0.0, 0.22, 0.03), "lower lid")),  # 7
    "eyeWide": (0.0, 1.0, Bump((3.1, -0.5), (1.1, 0.3), (0.0, -0.06, 0.0), "lower lid")),  # 5
    "eyeLookUp": (0.0, 0.7, Bump((3.1, -0.45), (1.1, 0.3), (0.0, 0.08, 0.0), "lower lid")),  # 63
    "eyeLookDown": (0.38, 0.0, Bump((3.1, -0.45), (1.1, 0.3), (0.0, -0.08, 0.0), "lower lid")),  # 64
}
_CHEEK = Bump((4.0, -6.0), (1.3, 1.6), (0.55, 0.0, 0.6))
_INNER_BROW = Bump((1.6, 2.0), (1.1, 0.9), (0.0, 0.8, 0.05))
_SINGLE: Mapping[str, tuple[Bump, ...]] = {
    "mouthLeft": (Bump((0.0, MOUTH_Y), (2.2, 1.2), (0.75, 0.0, 0.0)),),
    "mouthRight": (Bump((0.0, MOUTH_Y), (2.2, 1.2), (-0.75, 0.0, 0.0)),),
    "mouthRollLower": (Bump((0.0, MOUTH_Y - 0.5), (1.6, 0.5), (0.0, 0.25, -0.35), "lower lip"),),  # 28
    "mouthRollUpper": (Bump((0.0, MOUTH_Y + 0.4), (1.6, 0.45), (0.0, -0.22, -0.3), "upper lip"),),
    "mouthShrugLower": (  # 17
        Bump((0.0, MOUTH_Y - 0.9), (1.6, 0.9), (0.0, 0.35, 0.25), "lower lip"),
        Bump((0.0, -10.0), (1.4, 0.7), (0.0, 0.25, 0.1)),
    ),
    "mouthShrugUpper": (Bump((0.0, MOUTH_Y + 0.4), (1.5, 0.6), (0.0, 0.25, 0.2), "upper lip"),),
    "cheekPuff": (_CHEEK, _CHEEK.mirrored()),  # 34
    "browInnerUp": (_INNER_BROW, _INNER_BROW.mirrored()),  # 1
}


def _admitted(template: Template, only: Side | None) -> Bool[np.ndarray, " n"]:
    """The vertices on one side of the lips or lids."""
    masks = {
        None: np.ones(len(template.vertices), bool),
        "upper lip": template.side_mouth > 0,
        "lower lip": template.side_mouth < 0,
        "lower lid": template.side_eye <= 0,
    }
    return masks[only]


def _bump(template: Template, bump: Bump) -> Field:
    x, y, z = template.canonical.T
    weight = gaussian(x - bump.at[0], bump.width[0]) * gaussian(y - bump.at[1], bump.width[1])
    weight = weight * template.follow * (z > 1) * _admitted(template, bump.only)
    return weight[:, None] * np.array(bump.move)


def _bumps(template: Template, bumps: tuple[Bump, ...]) -> Field:
    return np.sum([_bump(template, bump) for bump in bumps], axis=0)


def _jaw_turn(template: Template, degrees: float, axis: Literal["x", "y"]) -> Field:
    """The way from the neutral place to that of a turned jaw, straight, as far as a vertex moves with the jaw."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turns = {
        "x": np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]),
        "y": np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]),
    }
    lever = template.vertices - np.array(JAW_AXIS)
    return (lever @ turns[axis].T - lever) * template.jaw[:, None]


def _jaw_and_lips(template: Template) -> dict[str, Field]:
    """The jaw with all that hangs on it, and lips that close while it is down (26, 27, 29, 30)."""
    x, y, _ = template.canonical.T
    jaw_open = _jaw_turn(template, JAW_ANGLE, "x")
    at_lips = gaussian(y - MOUTH_Y, 1.0) * (np.abs(x) < 3.2) * (template.follow > 0)
    return {
        "jawOpen": jaw_open,
        "jawForward": template.jaw[:, None] * np.array([0, 0, 0.9]),
        "jawLeft": _jaw_turn(template, JAW_SWAY, "y"),
        "jawRight": _jaw_turn(template, -JAW_SWAY, "y"),
        "mouthClose": -0.9 * jaw_open * at_lips[:, None],
    }


def _rounding(template: Template, narrowing: float, parting: float) -> Field:
    """Lips pushed forward: narrower by a share of x, and apart by centimetres in the middle (18, 22)."""
    x, y, z = template.canonical.T
    weight = np.exp(-0.5 * ((x / 2.6) ** 4 + ((y - MOUTH_Y) / 1.1) ** 2)) * template.follow * (z > 1)
    apart = parting * np.sign(template.side_mouth) * np.maximum(1 - (x / MOUTH_CORNER) ** 2, 0)
    forward = 0.75 * np.maximum(1 - (x / 3) ** 2, 0)
    return weight[:, None] * np.stack([-narrowing * x, apart, forward], axis=1)


def _upper_lid(template: Template, side: int) -> tuple[Field, Field]:
    """The upper lid of one eye closing, and opening wide.

    Closing brings its edge down to the lower lid, on the sphere of the lids, and pulls the skin above along.
    """
    x, y, z = template.canonical.T
    upper, lower = upper_lid(x), lower_lid(x)
    along = np.exp(-np.maximum(y - upper, 0) / _LID_FADE)
    along = along * (template.side_eye > 0) * (x * side > 0) * (lid_arc(x) > 0) * (z > 2)
    down = (_LID_GAP - upper - lower) * along
    sphere, from_axis = lid_sphere(x, y + down)
    place = np.maximum(sphere + 0.04, z - 0.25 * along)
    on_lid = template.on_skin & (along > 0.02) & (from_axis < LID_RADIUS**2)
    outward = np.where(on_lid, (place - z) * np.clip(1.5 * along, 0, 1), 0)
    closing = np.stack([0 * x, down, outward], axis=1)
    widening = np.stack([0 * x, 0.28 * along * lid_arc(x), 0 * x], axis=1)
    return closing, widening


def _lids(template: Template, side: int) -> dict[str, Field]:
    """The expressions of one eye whose upper lid moves."""
    closing, widening = _upper_lid(template, side)
    lower = _bump(template, _BLINK_LOWER if side > 0 else _BLINK_LOWER.mirrored())
    blink = closing + lower * (template.side_eye < 0)[:, None]  # not at the corners  (45)
    fields = {"eyeBlink": blink}
    for name, (share_of_blink, share_of_wide, bump) in _LIDS.items():
        rest = _bump(template, bump if side > 0 else bump.mirrored())
        fields[name] = share_of_blink * blink + share_of_wide * widening + rest
    return fields


def expression_fields(template: Template) -> Float[np.ndarray, "52 n 3"]:
    """Displacements in centimetres at weight 1, float32, in the order of `names.EXPRESSIONS`."""
    fields = _jaw_and_lips(template)
    fields["mouthFunnel"] = _rounding(template, 0.22, 0.32)
    fields["mouthPucker"] = _rounding(template, 0.42, 0.0)
    fields["tongueOut"] = (template.vertex_part == TONGUE)[:, None] * np.array([0, 0.35, 2.6])
    fields |= {name: _bumps(template, bumps) for name, bumps in _SINGLE.items()}
    for side, ending in ((1, "Left"), (-1, "Right")):
        for name, bumps in _PAIRED.items():
            fields[name + ending] = _bumps(template, bumps if side > 0 else tuple(b.mirrored() for b in bumps))
        fields |= {name + ending: field for name, field in _lids(template, side).items()}
    stacked = np.stack([fields[name] for name in EXPRESSIONS]).astype(np.float32)
    return np.where(np.abs(stacked) < LEAST, np.float32(0), stacked)


def lid_weights(template: Template) -> Float[np.ndarray, "2 n"]:
    """Where the lids of each eye (x > 0 first) are: 1 around the eyeball, 0 from 2 cm on, in front."""
    x, y, z = template.canonical.T
    in_front = template.on_skin & (z > 4)
    distance = [np.hypot(x - side * EYE_CENTRE[0], y) for side in (1, -1)]
    return np.stack([in_front * np.clip((2 - d) / 0.4, 0, 1) for d in distance]).astype(np.float32)
