"""The parts behind and beside the head's skin: linings of mouth and eyes, eyeballs, teeth, tongue, ears, torso.

Each is a `Piece` with local coordinates of its own, which the painter of the texture reads. Vertices are numbered
through the whole mesh, so every maker takes the number of its first vertex.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reenax.geometry.head.names import EAR, EYE_BAG, EYEBALL, MOUTH, TEETH, TONGUE, TORSO
from reenax.geometry.head.relief import EYE_CENTRE, EYE_RADIUS, MOUTH_CORNER, MOUTH_Y
from reenax.geometry.head.surface import Detail, Slit

# The mouth's lining: for each ring the depth behind the edge of the lips, the way up or down in the middle, the scale
# of x, and the share of the lips' expressions that reaches it.
_BAG_RINGS = (
    (0.22, 0.06, 0.99, 1.0),
    (0.5, 0.16, 0.97, 0.9),
    (1.0, 0.75, 1.02, 0.5),
    (2.6, 1.3, 0.9, 0.2),
    (4.6, 1.0, 0.5, 0.0),
)
_BAG_END = 6.2  # depth of the vertex that closes it
# Behind the lids: depth, scale about the eye, share of the expressions.
_EYE_BAG_RINGS = ((0.35, 1.0, 1.0), (1.55, 0.95, 0.8))
_UPPER_TEETH = (MOUTH_Y + 1.0, MOUTH_Y - 0.12, 0.62)  # y of the first and the last row, depth behind the lips
_TEETH_WIDTH = 2.15  # half, straight across
_LOWER_TEETH = (MOUTH_Y - 0.22, MOUTH_Y - 1.1, 0.85)
_TONGUE = ((0.0, MOUTH_Y - 0.95, 2.6), (1.45, 0.5, 1.8))  # x, y, depth behind the lips; radii
_EAR = ((7.3, -0.7, -1.3), (0.55, 3.0, 1.6))  # centre at x > 0; radii
_TILES = {"mouth": 0, "teeth +1": 1, "teeth -1": 2, "tongue": 3, "torso": 4}
_TILES |= {"eyeball +1": 5, "eyeball -1": 6, "ear +1": 7, "ear -1": 8}

# Rings and sectors of each part, rows and columns of the teeth.
_COUNTS: dict[Detail, dict[str, tuple[int, int]]] = {
    "full": {"eyeball": (14, 20), "teeth": (4, 25), "tongue": (9, 14), "ear": (11, 14), "torso": (26, 56)},
    "half": {"eyeball": (8, 12), "teeth": (3, 13), "tongue": (7, 8), "ear": (7, 8), "torso": (13, 28)},
}


@dataclass(frozen=True)
class Piece:
    """A part of the mesh: n vertices and its faces.

    Attributes:
        part: its number in `names.PARTS`.
        vertices: centimetres.
        faces: vertex numbers of the whole mesh, counter-clockwise from outside where the part is closed.
        canonical: where the texture is read, centimetres.
        local: coordinates of the part's own, as each maker says.
        uv: texture coordinates in [0, 1], v upwards.
        jaw: 1 moves with the jaw, 0 stays.
        head: 1 moves with the head, 0 stays.
        side_mouth, side_eye: of the lips and lids that the vertices follow: +1 upper, -1 lower, 0 neither.
        follow: share of the expressions' bumps that reaches a vertex.
    """

    part: int
    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    canonical: Float[np.ndarray, "n 3"]
    local: Float[np.ndarray, "n 3"]
    uv: Float[np.ndarray, "n 2"]
    jaw: Float[np.ndarray, " n"]
    head: Float[np.ndarray, " n"]
    side_mouth: Int[np.ndarray, " n"]
    side_eye: Int[np.ndarray, " n"]
    follow: Float[np.ndarray, " n"]


def _piece(part: int, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, **given: np.ndarray) -> Piece:
    """A piece that moves with the head and follows nothing, but for what is given."""
    count = len(vertices)
    fields = {
        "canonical": vertices,
        "local": np.zeros((count, 3)),
        "jaw": np.zeros(count),
        "head": np.ones(count),
        "side_mouth": np.zeros(count, int),
        "side_eye": np.zeros(count, int),
        "follow": np.zeros(count),
    }
    return Piece(part=part, vertices=vertices, faces=faces, uv=uv, **(fields | given))


def _tile(name: str, place: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Texture coordinates in a part's tile of the strip below the head's, for places in [-1, 1]^2 (y up)."""
    row, column = divmod(_TILES[name], 5)
    centre = np.array([(column + 0.5) / 5, 0.06 + 0.12 * row])
    return centre + place * np.array([0.095, 0.055])


def _disc(radius: np.ndarray, angle: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Polar to plane: a surface around an axis gets texture coordinates without a seam."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)


def _corners(rows: int, columns: int, *, closed: bool) -> tuple[np.ndarray, ...]:
    """For every quad of a grid with numbered vertices, row by row: this vertex, the next, and those of the next row."""
    row = columns * np.arange(rows - 1)[:, None]
    here = np.arange(columns if closed else columns - 1)[None]
    right = (here + 1) % columns
    return row + here, row + right, row + columns + here, row + columns + right


def _triangles(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> Int[np.ndarray, "*quads 2 3"]:
    """Two triangles for every quad."""
    return np.stack([np.stack(first, axis=-1), np.stack(second, axis=-1)], axis=-2)


def _sheet(rows: int, columns: int, *, closed: bool) -> Int[np.ndarray, "r c 2 3"]:
    """Two triangles per quad, cut from this vertex to the opposite one; outward where rows go down, columns to +x."""
    here, right, below, across = _corners(rows, columns, closed=closed)
    return _triangles((here, below, across), (here, across, right))


def _rim(edge: Int[np.ndarray, " n"], ring: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 2 3"]:
    """Triangles between two loops of as many vertices."""
    next_edge, next_ring = np.roll(edge, -1), np.roll(ring, -1)
    return _triangles((edge, ring, next_ring), (edge, next_ring, next_edge))


def mouth_bag(slit: Slit, skin: Piece, start: int) -> Piece:
    """The lining of the mouth. local = (0 at the lips .. 1 at the back, side, x of the lips)."""
    loop, side = slit.loop, slit.loop_side.astype(float)
    lips, count = skin.vertices[loop], len(loop)
    bow = np.sqrt(np.maximum(1 - (lips[:, 0] / MOUTH_CORNER) ** 2, 0.02))
    inside_jaw = 0.5 - 0.5 * side  # the palate stays, the floor goes down with the jaw
    angle = np.pi - 2 * np.pi * np.arange(count) / count
    vertices, jaw, local, uv = [], [], [], [skin.uv[loop]]
    for ring, (depth, rise, scale, _) in enumerate(_BAG_RINGS):
        vertices.append(lips * [scale, 1, 1] + np.stack([0 * bow, side * rise * bow, 0 * bow - depth], axis=1))
        blend = min(1, (ring + 1) / 3)
        jaw.append((1 - blend) * skin.jaw[loop] + blend * inside_jaw)
        local.append(np.stack([np.full(count, ring / 5), side, lips[:, 0]], axis=1))
        uv.append(_tile("mouth", _disc(np.full(count, 1 - ring / 5), angle)))
    rings = len(_BAG_RINGS)
    end = np.array([[0, MOUTH_Y - 0.2, lips[:, 2].max() - _BAG_END]])
    last = (rings - 1) * count + np.arange(count)
    cap = np.stack([last, np.full(count, rings * count), np.roll(last, -1)], axis=1)
    inner_faces = np.concatenate([_sheet(rings, count, closed=True).reshape(-1, 3), cap]) + start
    return _piece(
        MOUTH,
        np.concatenate([*vertices, end]),
        np.concatenate([inner_faces, _rim(loop, start + np.arange(count)).reshape(-1, 3)]),
        np.concatenate([uv[0], *uv[2:], _tile("mouth", np.zeros((1, 2)))]),  # the first ring continues the lips
        canonical=np.concatenate([*[lips] * rings, end]),
        local=np.concatenate([*local, [[1, 0, 0]]]),
        jaw=np.concatenate([*jaw, [0.5]]),
        side_mouth=np.concatenate([np.tile(slit.loop_side, rings), [0]]),
        follow=np.concatenate([np.repeat([share for *_, share in _BAG_RINGS], count), [0]]),
    )


def eye_bag(slit: Slit, skin: Piece, side: int, start: int) -> Piece:
    """The inner edge of the lids and what is behind, around an eyeball. local = 0."""
    loop = slit.loop
    lids, count = skin.vertices[loop], len(loop)
    centre = np.array([side * EYE_CENTRE[0], EYE_CENTRE[1], 0])
    rings = [centre + (lids - centre) * [scale, scale, 1] - [0, 0, depth] for depth, scale, _ in _EYE_BAG_RINGS]
    first, second = start + np.arange(count), start + count + np.arange(count)
    return _piece(
        EYE_BAG,
        np.concatenate(rings),
        np.concatenate([_rim(loop, first), _rim(first, second)], axis=1).reshape(-1, 3),
        np.concatenate([skin.uv[loop]] * 2),
        canonical=np.concatenate([lids] * 2),
        side_eye=np.tile(slit.loop_side, 2),
        follow=np.repeat([share for *_, share in _EYE_BAG_RINGS], count),
    )


def eyeball(side: int, detail: Detail, start: int) -> Piece:
    """A sphere down to 115 degrees from its pole, which looks forward. local = the unit direction from its centre."""
    rings, sectors = _COUNTS[detail]["eyeball"]
    polar = np.deg2rad(np.linspace(0, 115, rings))[:, None]
    around = 2 * np.pi * np.arange(sectors) / sectors
    radius = np.sin(polar) * np.ones(sectors)
    direction = np.stack([radius * np.cos(around), radius * np.sin(around), np.cos(polar) + 0 * radius], axis=-1)
    direction = direction.reshape(-1, 3)
    faces = _sheet(rings, sectors, closed=True)
    faces = np.concatenate([faces[0, :, 0], faces[1:].reshape(-1, 3)]) + start
    uv = _tile(f"eyeball {side:+d}", _disc(polar / polar[-1] * np.ones(sectors), around + 0 * polar))
    return _piece(EYEBALL, EYE_RADIUS * direction + np.array(EYE_CENTRE) * [side, 1, 1], faces, uv, local=direction)


def teeth(side: int, front: float, detail: Detail, start: int) -> Piece:
    """The upper (side +1) or lower (-1) row, an arc behind the lips' ``front``. local = (x, 0 .. 1 downwards, side)."""
    rows, columns = _COUNTS[detail]["teeth"]
    top, bottom, depth = _UPPER_TEETH if side > 0 else _LOWER_TEETH
    t = np.repeat(np.linspace(0, 1, rows), columns)
    x = np.tile(np.linspace(-_TEETH_WIDTH, _TEETH_WIDTH, columns), rows)
    z = front - depth - 0.34 * x**2 + 0.12 * np.sin(np.pi * t)
    return _piece(
        TEETH,
        np.stack([x, top + (bottom - top) * t, z], axis=1),
        _sheet(rows, columns, closed=False).reshape(-1, 3) + start,
        _tile(f"teeth {side:+d}", np.stack([x / _TEETH_WIDTH, 1 - 2 * t], axis=1)),
        local=np.stack([x, t, np.full(len(x), float(side))], axis=1),
        jaw=np.full(len(x), 0.0 if side > 0 else 1.0),
    )


def _ellipsoid(rings: int, sectors: int) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "f 3"]]:
    """Unit directions of a sphere with its poles up and down, and its faces."""
    polar = np.linspace(0, np.pi, rings)[:, None]
    around = 2 * np.pi * np.arange(sectors) / sectors
    radius = np.sin(polar) * np.ones(sectors)
    direction = np.stack([radius * np.sin(around), np.cos(polar) + 0 * radius, radius * np.cos(around)], axis=-1)
    here, right, below, across = _corners(rings, sectors, closed=True)
    faces = _triangles((here, across, right), (here, below, across))
    # At the poles one of the two triangles has no area.
    faces = np.concatenate([faces[0, :, 1], faces[1:-1].reshape(-1, 3), faces[-1, :, 0]])
    return direction.reshape(-1, 3), faces


def _around(axis: Float[np.ndarray, " n"], right: np.ndarray, up: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Directions as a disc around an axis, given by their three coordinates; the radius goes with the angle."""
    return _disc(np.arccos(np.clip(axis, -1, 1)) / np.pi, np.arctan2(up, right))


def tongue(front: float, detail: Detail, start: int) -> Piece:
    """An ellipsoid behind the lips' ``front``. local = the unit direction from its centre."""
    (x, y, depth), radii = _TONGUE
    direction, faces = _ellipsoid(*_COUNTS[detail]["tongue"])
    vertices = np.array([x, y, front - depth]) + direction * radii
    uv = _tile("tongue", _around(direction[:, 2], direction[:, 0], direction[:, 1]))
    return _piece(TONGUE, vertices, faces + start, uv, local=direction, jaw=np.full(len(vertices), 0.9))


def ear(side: int, detail: Detail, start: int) -> Piece:
    """An ellipsoid at the head's side. local = the unit direction from its centre."""
    centre, radii = _EAR
    direction, faces = _ellipsoid(*_COUNTS[detail]["ear"])
    vertices = np.array(centre) * [side, 1, 1] + direction * radii
    uv = _tile(f"ear {side:+d}", _around(side * direction[:, 0], -side * direction[:, 2], direction[:, 1]))
    return _piece(EAR, vertices, faces + start, uv, local=direction)


def torso(detail: Detail, start: int) -> Piece:
    """Neck opening and shoulders, rings from y = -15.5 down to -32; never moves. local = 0."""
    rings, sectors = _COUNTS[detail]["torso"]
    t = np.linspace(0, 1, rings)[:, None] ** 1.6
    around = 2 * np.pi * np.arange(sectors) / sectors
    half_width = 5.9 + 11.6 * np.sqrt(1 - (1 - np.clip(t / 0.45, 0, 1)) ** 2)  # shoulders: a quarter of an ellipse
    half_depth = 4.6 + 3.4 * np.sqrt(np.clip(t / 0.7, 0, 1))
    y = -15.5 - 16.5 * t**1.25 - 0.8 * np.cos(around) * (1 - t)  # the neckline is lower in front
    vertices = np.stack([half_width * np.sin(around), y, -2.0 + half_depth * np.cos(around)], axis=-1).reshape(-1, 3)
    uv = _tile("torso", _disc(0.2 + 0.8 * t * np.ones(sectors), around - np.pi / 2 + 0 * t))
    faces = _sheet(rings, sectors, closed=True).reshape(-1, 3) + start
    return _piece(TORSO, vertices, faces, uv, head=np.zeros(len(vertices)))
