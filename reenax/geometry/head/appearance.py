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
Vectors = Float[Array, "3 *n"]  # planes that lie in one piece each are computed several times as fast


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


class _Skin(NamedTuple):
    """How much of what is on the head's skin, [*n] each."""

    tone: Plane  # relative change
    cheeks: Plane
    sockets: Plane
    nostrils: Plane
    beard: Plane
    lips: Plane
    lip_line: Plane  # where they meet
    brows: Plane
    strands: Plane
    lashes: Plane
    crease: Plane  # above the lids
    hair: Plane
    lock: Plane  # brightness of the strands


class _Eye(NamedTuple):
    """How much of what is on an eyeball, [*n] each."""

    white: Plane  # brightness
    iris: Plane
    rays: Plane  # brightness
    rim: Plane
    pupil: Plane
    angle: Plane  # from the axis, degrees


def coordinates_first(vectors: Float[Array, "*n c"]) -> Float[Array, "c *n"]:
    """Vectors as planes. A product with the identity, since a transposition would only be read across, many times."""
    return jnp.tensordot(jnp.eye(vectors.shape[-1]), vectors, axes=(1, -1), precision="highest")


def coordinates_last(planes: Float[Array, "c *n"]) -> Float[Array, "*n c"]:
    """Planes as vectors, computed once and not again by everything that uses them."""
    return jnp.tensordot(planes, jnp.eye(planes.shape[0]), axes=(0, 0), precision="highest")


def _bell(distance: Plane, width: float) -> Plane:
    return jnp.exp(-0.5 * (distance / width) ** 2)


def _blob(a: Plane, b: Plane, width: float, height: float) -> Plane:
    return jnp.exp(-0.5 * (a / width) ** 2 - 0.5 * (b / height) ** 2)


def _step(start: float, end: float, x: Plane) -> Plane:
    t = jnp.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _wave(turns: Plane) -> Plane:
    """Two parabolas for the sine of an angle in turns; off by 0.06 at most, and several times as fast."""
    t = turns - jnp.round(turns)
    return t * (8 - 16 * jnp.abs(t))


def _paint(colour: Float[Array, "3"] | tuple[float, float, float], amount: Plane) -> Vectors:
    """One colour in some amount everywhere."""
    return jnp.reshape(jnp.asarray(colour), (3,) + (1,) * amount.ndim) * amount[None]


def _mix(under: Vectors, over: Vectors, share: Plane) -> Vectors:
    return under + (over - under) * share[None]


def _tinted(colour: Vectors, share: Plane, tint: tuple[float, float, float]) -> Vectors:
    """A colour darkened by a share of each channel."""
    return colour * (1 - _paint(tint, share))


def _lips(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The red of the lips, and the line where they meet."""
    a = jnp.abs(x)
    u = jnp.clip(a / MOUTH_CORNER, 0, 1)
    height = y - (MOUTH_Y + 0.10 * u * u - 0.06 * _bell(x, 0.35))
    # powers are kept from 0, where their slope is infinite
    upper = 0.80 * jnp.sqrt(jnp.maximum(1 - jnp.maximum(u, 1e-6) ** 1.7, 1e-6)) - 0.13 * _bell(x, 0.28)
    lower = 0.98 * jnp.maximum(1 - u * u, 1e-6) ** 0.65
    outside = jnp.maximum(height - upper, -lower - height)
    return _step(0.08, -0.08, outside) * _step(MOUTH_CORNER + 0.1, MOUTH_CORNER - 0.15, a), _bell(height, 0.12)


def _brows(a: Plane, y: Plane, thickness: Float[Array, ""]) -> tuple[Plane, Plane]:
    """The brows, and the density of their strands."""
    t = jnp.clip((a - 1.1) / 4.2, 1e-6, 1 - 1e-5)
    height = y - (1.75 + 0.75 * t - 0.98 * t**2.2)
    half = 0.42 * jnp.sqrt(1 - t) * _step(-0.02, 0.12, t) + 0.04
    ends = _step(0.95, 1.25, a) * _step(5.5, 5.0, a)
    strands = 0.875 + 0.125 * _wave(3.02 * a + 2.07 * height)
    return _step(0.12, -0.12, jnp.abs(height) - half * thickness) * ends, strands


def _lids(a: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The line of the lashes, and the crease above it."""
    inner, outer = EYE_CORNERS
    t = jnp.clip((a - inner) / (outer - inner), 0, 1)
    arc = jnp.maximum(jnp.sin(jnp.pi * t), 1e-6) ** 0.75
    above = y - (0.60 * arc * (1 + 0.25 * jnp.cos(jnp.pi * t)) + 0.10 * (t - 0.3))
    lashes = _bell(above - 0.02, 0.075) * _step(0.0, 0.15, t) * _step(1.0, 0.97, t)
    return lashes, _bell(above - 0.42, 0.09) * arc


def _on_skin(canonical: Vectors, hair: Plane, around: Plane, v: Plane, materials: Materials) -> _Skin:
    x, y, z = canonical
    a = jnp.abs(x)
    front = _step(2.0, 5.0, z)
    phase = jnp.tensordot(materials.wave_frequencies, canonical, axes=1, precision="highest")
    phase += jnp.reshape(materials.wave_phases, (-1,) + (1,) * a.ndim)
    lips, lip_line = _lips(x, y)
    brows, strands = _brows(a, y, materials.brow_thickness)
    lashes, crease = _lids(a, y)
    turns = around / (2 * jnp.pi)  # whole numbers of waves around the head
    fringe = 0.07 * _wave(34 * turns) * _wave(11 * turns + 0.16)
    return _Skin(
        tone=jnp.tensordot(materials.wave_weights, _wave(phase / (2 * jnp.pi) + 0.25), axes=1, precision="highest"),
        cheeks=front * _blob(a - 4.2, y + 3.2, 1.4, 1.2),
        sockets=front * _blob(a - 3.1, y - 0.15, 1.5, 0.75),
        nostrils=front * _blob(a - 0.68, y + 4.98, 0.24, 0.14),
        beard=front * _step(-3.5, -5.8, y) * _step(-14.0, -11.2, y),
        lips=front * lips,
        lip_line=lip_line,
        brows=front * brows,
        strands=strands,
        lashes=front * lashes,
        crease=front * crease,
        hair=_step(0.30, 0.55, hair + fringe),
        lock=0.82 + 0.18 * _wave(70 * turns + 0.48 * _wave(0.4 * v)) * _wave(23 * turns),
    )


def _on_eye(cosine: Plane, around: Plane) -> _Eye:
    angle = jnp.rad2deg(jnp.arccos(jnp.clip(cosine, -0.9999, 0.9999)))
    return _Eye(
        white=1 - 0.18 * _step(30.0, 80.0, angle),
        iris=_step(IRIS_ANGLE + 1.5, IRIS_ANGLE - 1, angle),
        rays=0.75 + 0.14 * _wave((13 * around + angle) / (2 * jnp.pi)) + 0.25 * _step(20.0, 9.0, angle),
        rim=_bell(angle - IRIS_ANGLE, 1.6),
        pupil=_step(PUPIL_ANGLE + 1, PUPIL_ANGLE - 0.5, angle),
        angle=angle,
    )


def _skin_colour(on: _Skin, materials: Materials) -> Vectors:
    plain = _paint(materials.skin, jnp.ones_like(on.tone))
    colour = _tinted(plain, on.tone, (-0.9, -1.0, -1.0))
    colour = _tinted(colour, on.cheeks * materials.blush, (-0.02, 0.12, 0.10))
    colour = _tinted(colour, 0.25 * on.sockets, (0.7, 0.9, 0.8))
    colour = _mix(colour, 0.25 * plain, 0.85 * on.nostrils)
    colour = _tinted(colour, 0.35 * on.beard * materials.stubble, (1.0, 0.95, 0.85))
    colour = _mix(colour, _paint(materials.lip, 1 - 0.25 * on.lip_line), on.lips)
    colour = _mix(colour, _paint(0.8 * materials.hair, jnp.ones_like(on.tone)), 0.92 * on.brows * on.strands)
    colour = _mix(colour, 0.12 * plain, 0.8 * on.lashes * materials.lash)
    colour = _tinted(colour, 0.22 * on.crease, (1.0, 1.0, 1.0))
    return _mix(colour, _paint(materials.hair, on.lock), on.hair)


def _eye_colour(on: _Eye, materials: Materials) -> Vectors:
    colour = _mix(_paint((0.88, 0.86, 0.84), on.white), _paint(materials.iris, on.rays), on.iris)
    colour = _tinted(colour, 0.55 * on.rim, (1.0, 1.0, 1.0))
    return _mix(colour, _paint((0.02, 0.02, 0.025), jnp.ones_like(on.pupil)), on.pupil)


def _on_teeth(local: Vectors, x: Plane) -> tuple[Plane, Plane]:
    """Brightness of teeth 0.43 cm wide with gaps between them, and the gum at their roots."""
    column = jnp.abs(local[0]) / 0.43
    gap = jnp.abs(column - jnp.round(column))
    wave = 0.06 * jnp.cos(2 * jnp.pi * column)
    upper, lower = _step(0.40, 0.22, local[1] + wave), _step(0.60, 0.78, local[1] - wave)
    shade = (1 - 0.38 * _step(0.10, 0.0, gap)) * (1 - 0.22 * (x / 2.2) ** 2)
    return shade, jnp.where(local[2] > 0, upper, lower)


def appearance(
    part: Int[Array, "*n"],
    canonical: Float[Array, "3 *n"],
    local: Float[Array, "3 *n"],
    around: Float[Array, "*n"],
    materials: Materials,
) -> Appearance:
    """The look of surface points.

    Args:
        part: numbers in `names.PARTS`.
        canonical: centimetres; coordinates first.
        local: each part's own coordinates; (hair mask, anything, v) on the head's skin.
        around: radians; on the head's skin around the head with 0 in front, on an eyeball around its axis.
        materials: of the person.
    """
    x, y, _ = canonical
    skin = _on_skin(canonical, local[0], around, local[2], materials)
    eye = _on_eye(local[2], around)
    shade, gum = _on_teeth(local, x)
    ear = 1 - 0.35 * _bell(jnp.sqrt(local[1] ** 2 + local[2] ** 2 + 1e-9) - 0.45, 0.2)
    seam = _step(0.03, 0.0, jnp.abs(jnp.sqrt((x / 7.0) ** 2 + ((y + 15.5) / 4.5) ** 2 + 1e-9) - 1))
    lining = 0.9 * jnp.exp(-3.2 * local[0])  # darker towards the throat
    one = jnp.ones_like(x)
    colours = {
        HEAD: _skin_colour(skin, materials),
        MOUTH: _paint(materials.lip, lining) + _paint((0.05, 0.015, 0.015), one),
        EYE_BAG: _paint(materials.skin * jnp.asarray([0.45, 0.315, 0.2925]), one),
        EYEBALL: _eye_colour(eye, materials),
        TEETH: _mix(_paint((0.90, 0.88, 0.82), shade), _paint((0.62, 0.30, 0.29), one), gum),
        TONGUE: _paint((0.62, 0.28, 0.27), one),
        EAR: _paint(materials.skin * jnp.asarray([1.0, 0.93, 0.92]), ear),
        TORSO: _paint(materials.cloth, 1 - 0.5 * seam),
    }
    albedo = jnp.zeros_like(canonical)
    for number, colour in colours.items():
        albedo = jnp.where((part == number)[None], colour, albedo)
    segment = part
    head, eyeball = part == HEAD, part == EYEBALL
    for mask, number in (
        (head & (skin.brows > 0.5), BROWS),
        (head & (skin.lips > 0.5), LIPS),
        (head & (skin.hair > 0.5), HAIR),
        (eyeball & (eye.angle < IRIS_ANGLE), IRIS),
        (eyeball & (eye.angle < PUPIL_ANGLE), PUPIL),
    ):
        segment = jnp.where(mask, number, segment)
    lips, hair = jnp.where(head, skin.lips, 0.0), jnp.where(head, skin.hair, 0.0)
    return Appearance(coordinates_last(albedo), segment, lips, hair)
