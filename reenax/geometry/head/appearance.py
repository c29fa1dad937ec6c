"""The colours of the synthetic head: albedo and finer segments of each pixel from coordinates that never deform.

There are no texture files: everything is painted along the same lines that shaped the mesh, in canonical coordinates
(x, y, z in centimetres) and in each part's own local coordinates.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from reenax.geometry.head.names import EAR, EYE_BAG, EYEBALL, HEAD, MOUTH, PARTS, TEETH, TONGUE, TORSO
from reenax.geometry.head.parameters import Materials
from reenax.geometry.head.relief import EYE_CORNERS, MOUTH_CORNER, MOUTH_Y

SEGMENTS: tuple[str, ...] = (*PARTS, "lips", "brows", "hair", "iris", "pupil")
LIPS, BROWS, HAIR, IRIS, PUPIL = range(len(PARTS), len(SEGMENTS))

PUPIL_ANGLE, IRIS_ANGLE = 10.5, 24.0  # degrees from the axis of the eye

Plane = Float[Array, "*n"]
Colour = Float[Array, "*n 3"]


class Appearance(NamedTuple):
    """What a pixel's surface is like.

    Attributes:
        albedo: linear RGB, 0 or more, [*n 3].
        segment: numbers in `SEGMENTS`, int32 [*n].
        lips, hair: soft masks in [0, 1], [*n].
    """

    albedo: Float[Array, "*n 3"]
    segment: Int[Array, "*n"]
    lips: Float[Array, "*n"]
    hair: Float[Array, "*n"]


def _bell(distance: Plane, width: float) -> Plane:
    return jnp.exp(-0.5 * (distance / width) ** 2)


def _step(start: float, end: float, x: Plane) -> Plane:
    t = jnp.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _paint(colour: Float[Array, "3"] | tuple[float, float, float], amount: Plane) -> Colour:
    """One colour in some amount everywhere."""
    return amount[..., None] * jnp.reshape(jnp.asarray(colour), (1,) * amount.ndim + (3,))


def _mix(under: Colour, over: Colour, share: Plane) -> Colour:
    return under + (over - under) * share[..., None]


def _tinted(colour: Colour, share: Plane, tint: tuple[float, float, float]) -> Colour:
    """A colour darkened by a share of each channel."""
    return colour * (1 - _paint(tint, share))


def _lips(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The mask of the red of the lips, and the height over the line where they meet."""
    a = jnp.abs(x)
    u = jnp.clip(a / MOUTH_CORNER, 0, 1)
    height = y - (MOUTH_Y + 0.10 * u * u - 0.06 * _bell(x, 0.35))
    # powers are kept from 0, where their slope is infinite
    upper = 0.80 * jnp.sqrt(jnp.maximum(1 - jnp.maximum(u, 1e-6) ** 1.7, 1e-6)) - 0.13 * _bell(x, 0.28)
    lower = 0.98 * jnp.maximum(1 - u * u, 1e-6) ** 0.65
    outside = jnp.maximum(height - upper, -lower - height)
    return _step(0.08, -0.08, outside) * _step(MOUTH_CORNER + 0.1, MOUTH_CORNER - 0.15, a), height


def _brows(a: Plane, y: Plane, thickness: Plane) -> tuple[Plane, Plane]:
    """The mask of the brows, and the strands in it."""
    t = jnp.clip((a - 1.1) / 4.2, 1e-6, 1 - 1e-5)
    height = y - (1.75 + 0.75 * t - 0.98 * t**2.2)
    half = 0.42 * jnp.sqrt(1 - t) * _step(-0.02, 0.12, t) + 0.04
    ends = _step(0.95, 1.25, a) * _step(5.5, 5.0, a)
    return _step(0.12, -0.12, jnp.abs(height) - half * thickness) * ends, 0.75 + 0.25 * (
        0.5 + 0.5 * jnp.sin(19 * a + 13 * height)
    )


def _lids(colour: Colour, a: Plane, y: Plane, front: Plane, materials: Materials) -> Colour:
    """The line of the lashes and the crease above it."""
    inner, outer = EYE_CORNERS
    t = jnp.clip((a - inner) / (outer - inner), 0, 1)
    arc = jnp.maximum(jnp.sin(jnp.pi * t), 1e-6) ** 0.75
    above = y - (0.60 * arc * (1 + 0.25 * jnp.cos(jnp.pi * t)) + 0.10 * (t - 0.3))
    lashes = _bell(above - 0.02, 0.075) * _step(0.0, 0.15, t) * _step(1.0, 0.97, t) * front
    colour = _mix(colour, _paint(materials.skin * 0.12, jnp.ones_like(a)), 0.8 * lashes * materials.lash)
    return _tinted(colour, 0.22 * _bell(above - 0.42, 0.09) * arc * front, (1.0, 1.0, 1.0))


def _skin(
    canonical: Float[Array, "*n 3"], hair: Plane, angle: Plane, v: Plane, materials: Materials
) -> tuple[Colour, Plane, Plane, Plane]:
    """Albedo of the head's skin with hair; masks of lips, brows and hair."""
    x, y, z = canonical[..., 0], canonical[..., 1], canonical[..., 2]
    a = jnp.abs(x)
    front = _step(2.0, 5.0, z)
    phase = jnp.einsum("...d,kd->k...", canonical, materials.wave_frequencies, precision="highest")
    waves = jnp.stack([jnp.cos(wave + start) for wave, start in zip(phase, materials.wave_phases, strict=True)])
    tone = jnp.tensordot(materials.wave_weights, waves, axes=1, precision="highest")
    skin = _paint(materials.skin, jnp.ones_like(a))
    colour = _tinted(skin, tone, (-0.9, -1.0, -1.0))
    cheeks = front * _bell(a - 4.2, 1.4) * _bell(y + 3.2, 1.2)
    colour = _tinted(colour, cheeks * materials.blush, (-0.02, 0.12, 0.10))
    sockets = 0.25 * front * _bell(a - 3.1, 1.5) * _bell(y - 0.15, 0.75)
    colour = _tinted(colour, sockets, (0.7, 0.9, 0.8))
    nostrils = 0.85 * front * jnp.exp(-(((a - 0.68) / 0.34) ** 2) - ((y + 4.98) / 0.2) ** 2)
    colour = _mix(colour, skin * 0.25, nostrils)
    beard = front * _step(-3.5, -5.8, y) * _step(-14.0, -11.2, y)
    colour = _tinted(colour, 0.35 * beard * materials.stubble, (1.0, 0.95, 0.85))
    lips, height = _lips(x, y)
    lips = lips * front
    colour = _mix(colour, _paint(materials.lip, 1 - 0.25 * _bell(height, 0.12)), lips)
    brows, strands = _brows(a, y, materials.brow_thickness)
    brows = brows * front
    colour = _mix(colour, _paint(materials.hair, 0.8 * jnp.ones_like(a)), 0.92 * brows * strands)
    colour = _lids(colour, a, y, front, materials)
    # whole numbers of waves around the head
    fringe = 0.07 * jnp.sin(34 * angle) * jnp.sin(11 * angle + 1)
    hair = _step(0.30, 0.55, hair + fringe)
    lock = 0.82 + 0.18 * jnp.sin(70 * angle + 3 * jnp.sin(2.5 * v)) * jnp.sin(23 * angle)
    colour = _mix(colour, _paint(materials.hair, lock), hair)
    return colour, lips, brows, hair


def _eye(local: Float[Array, "*n 3"], materials: Materials) -> tuple[Colour, Plane]:
    """Albedo of an eyeball, and the angle from its axis in degrees."""
    cosine = jnp.clip(local[..., 2], -0.9999, 0.9999)
    angle = jnp.rad2deg(jnp.arccos(cosine))
    off_axis = local[..., 0] ** 2 + local[..., 1] ** 2 > 1e-8  # on it there is no direction to differentiate
    around = jnp.arctan2(local[..., 1], jnp.where(off_axis, local[..., 0], 1.0))
    rays = 0.75 + 0.14 * jnp.sin(13 * around + angle) + 0.25 * _step(20.0, 9.0, angle)
    white = _paint((0.88, 0.86, 0.84), 1 - 0.18 * _step(30.0, 80.0, angle))
    colour = _mix(white, _paint(materials.iris, rays), _step(IRIS_ANGLE + 1.5, IRIS_ANGLE - 1, angle))
    colour = _tinted(colour, 0.55 * _bell(angle - IRIS_ANGLE, 1.6), (1.0, 1.0, 1.0))
    pupil = _step(PUPIL_ANGLE + 1, PUPIL_ANGLE - 0.5, angle)
    return _mix(colour, _paint((0.02, 0.02, 0.025), jnp.ones_like(angle)), pupil), angle


def _teeth(local: Float[Array, "*n 3"], x: Plane) -> Colour:
    """Teeth 0.43 cm wide with gaps between them, and the gum at their roots."""
    column = jnp.abs(local[..., 0]) / 0.43
    gap = jnp.abs(column - jnp.round(column))
    shade = (1 - 0.38 * _step(0.10, 0.0, gap)) * (1 - 0.22 * (x / 2.2) ** 2)
    wave = 0.06 * jnp.cos(2 * jnp.pi * column)
    upper, lower = _step(0.40, 0.22, local[..., 1] + wave), _step(0.60, 0.78, local[..., 1] - wave)
    gum = jnp.where(local[..., 2] > 0, upper, lower)
    return _mix(_paint((0.90, 0.88, 0.82), shade), _paint((0.62, 0.30, 0.29), jnp.ones_like(shade)), gum)


def appearance(
    part: Int[Array, "*n"],
    canonical: Float[Array, "*n 3"],
    local: Float[Array, "*n 3"],
    angle: Float[Array, "*n"],
    materials: Materials,
) -> Appearance:
    """The look of surface points.

    Args:
        part: numbers in `names.PARTS`.
        canonical: centimetres.
        local: each part's own coordinates; (hair mask, anything, v) on the head's skin.
        angle: around the head in radians, for its skin; 0 is the front.
        materials: of the person.
    """
    x, y = canonical[..., 0], canonical[..., 1]
    one = jnp.ones_like(x)
    skin, lips, brows, hair = _skin(canonical, local[..., 0], angle, local[..., 2], materials)
    eye, off_axis = _eye(local, materials)
    rim = _bell(jnp.sqrt(local[..., 1] ** 2 + local[..., 2] ** 2 + 1e-9) - 0.45, 0.2)
    seam = jnp.sqrt((x / 7.0) ** 2 + ((y + 15.5) / 4.5) ** 2 + 1e-9) - 1
    lining = _paint(materials.lip, 0.9 * jnp.exp(-3.2 * local[..., 0]))  # darker towards the throat
    colours = {
        HEAD: skin,
        MOUTH: lining + _paint((0.05, 0.015, 0.015), one),
        EYE_BAG: _paint(materials.skin * jnp.asarray([0.45, 0.315, 0.2925]), one),
        EYEBALL: eye,
        TEETH: _teeth(local, x),
        TONGUE: _paint((0.62, 0.28, 0.27), one),
        EAR: _paint(materials.skin * jnp.asarray([1.0, 0.93, 0.92]), 1 - 0.35 * rim),
        TORSO: _paint(materials.cloth, 1 - 0.5 * _step(0.03, 0.0, jnp.abs(seam))),
    }
    albedo = jnp.zeros_like(canonical)
    for number, colour in colours.items():
        albedo = jnp.where((part == number)[..., None], colour, albedo)
    segment = part
    head, eyeball = part == HEAD, part == EYEBALL
    for mask, number in (
        (head & (brows > 0.5), BROWS),
        (head & (lips > 0.5), LIPS),
        (head & (hair > 0.5), HAIR),
        (eyeball & (off_axis < IRIS_ANGLE), IRIS),
        (eyeball & (off_axis < PUPIL_ANGLE), PUPIL),
    ):
        segment = jnp.where(mask, number, segment)
    return Appearance(albedo, segment, jnp.where(head, lips, 0.0), jnp.where(head, hair, 0.0))
