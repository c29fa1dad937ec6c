"""The mean head: all parts in one mesh, with the weights that jaw, neck and expressions need."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reenax.geometry.head import parts, relief
from reenax.geometry.head.names import HEAD
from reenax.geometry.head.parts import Piece
from reenax.geometry.head.surface import MOUTH_SLIT, MOUTH_V, Detail, Grid, base_surface, build_grid

HEAD_UV = 0.75  # the head's share of the texture's height, from the top; the strip below holds the other parts


@dataclass(frozen=True)
class Template:
    """The mean head. Vertices: the grid of the skin first, then part after part.

    Attributes:
        grid: the skin's vertices are numbered as there.
        vertices: centimetres, with hair.
        canonical: without hair; places on the skin for the texture, never deformed.
        local: skin: hair mask, theta in radians (-72 .. 280 degrees), v; other parts: see their makers.
        uv: texture coordinates in [0, 1], v upwards. The skin's are (1/2 + theta / 2 pi, 1 - 3/4 v / 17) with theta in
            (-180, 180], the seam behind; each other part has a tile of the strip below.
        faces: counter-clockwise from outside.
        face_part: number in `names.PARTS` of each face.
        vertex_part: of each vertex.
        jaw: 1 moves with the jaw, 0 stays.
        head: 1 moves with the head, 0 stays.
        side_mouth, side_eye: +1 above the slits, -1 below, 0 where neither.
        follow: share of the expressions' bumps that reaches a vertex: 1 on the skin, less down the linings.
        eyes: first and last + 1 vertex of the eyeballs, x > 0 first.
    """

    grid: Grid
    vertices: Float[np.ndarray, "n 3"]
    canonical: Float[np.ndarray, "n 3"]
    local: Float[np.ndarray, "n 3"]
    uv: Float[np.ndarray, "n 2"]
    faces: Int[np.ndarray, "f 3"]
    face_part: Int[np.ndarray, " f"]
    vertex_part: Int[np.ndarray, " n"]
    jaw: Float[np.ndarray, " n"]
    head: Float[np.ndarray, " n"]
    side_mouth: Int[np.ndarray, " n"]
    side_eye: Int[np.ndarray, " n"]
    follow: Float[np.ndarray, " n"]
    eyes: tuple[tuple[int, int], tuple[int, int]]

    @property
    def on_skin(self) -> np.ndarray:
        """Which vertices are the grid's."""
        return self.vertex_part == HEAD


def eye_centre(side: int) -> Float[np.ndarray, " 3"]:
    """The middle of the eyeball at x > 0 (side +1) or x < 0 (-1)."""
    return np.array(relief.EYE_CENTRE) * [side, 1, 1]


def jaw_weight(grid: Grid, canonical: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """How much of the jaw's motion each vertex of the skin takes part in.

    Everything below the row of the mouth moves, everything above stays, with a border that widens from the corners of
    the mouth towards the ears. At the corners both lips have 0.45; it goes to 0 and 1 at the middle of the lips.
    """
    turn = np.abs(grid.turn)
    below = base_surface(np.full_like(grid.theta, MOUTH_V), grid.theta)[:, 1] - canonical[:, 1]
    border = 0.04 + 0.04 * np.maximum(turn - MOUTH_SLIT[1], 0)
    weight = np.where(grid.side_mouth == 0, 0.5, relief.smoothstep(-1.0, 1.0, below / border))
    arc = np.sqrt(np.maximum(1 - np.clip(np.abs(canonical[:, 0]) / relief.MOUTH_CORNER, 0, 1) ** 2, 0))
    near = np.exp(-np.abs(below) / 1.2)
    lower_lip = 1 - near * (1 - (0.45 + 0.55 * arc))
    upper_lip = near * 0.45 * (1 - arc) ** 1.2
    at_mouth = np.select([grid.side_mouth < 0, grid.side_mouth > 0], [lower_lip, upper_lip], 0.45)
    weight = np.where(turn <= MOUTH_SLIT[1], at_mouth, weight)
    return weight * relief.smoothstep(105.0, 60.0, turn) * relief.smoothstep(14.6, 12.4, grid.vertex_v)


def _skin(grid: Grid) -> Piece:
    """The grid with its face and hair. local = (hair mask, theta, v)."""
    points = relief.bend_mouth_rows(base_surface(grid.vertex_v, grid.theta))
    points = relief.raise_relief(points, grid.side_mouth)
    canonical = relief.open_lids(points, grid.side_eye)
    hair = relief.hair_mask(canonical[:, 1], grid.turn)
    u = 0.5 + np.where(grid.degrees > 180, grid.degrees - 360, grid.degrees)[grid.column] / 360
    return Piece(
        part=HEAD,
        vertices=relief.grow_hair(canonical, hair),
        faces=grid.faces(),
        canonical=canonical,
        local=np.stack([hair, grid.theta, grid.vertex_v], axis=1),
        uv=np.stack([u, 1 - HEAD_UV * grid.vertex_v / grid.v[-1]], axis=1),
        jaw=jaw_weight(grid, canonical),
        head=relief.smoothstep(-19.0, -12.0, canonical[:, 1]),
        side_mouth=grid.side_mouth,
        side_eye=grid.side_eye,
        follow=np.ones(len(points)),
    )


@functools.cache
def build_template(detail: Detail = "full") -> Template:
    """The mean head; "half" has about half the rows and columns, for quick tests. Arrays are shared: do not write."""
    grid = build_grid(detail)
    skin = _skin(grid)
    mouth, left, right = (grid.slits[name] for name in ("mouth", "left_eye", "right_eye"))
    front = float(skin.vertices[mouth.loop, 2].max())  # of the lips
    makers = (
        lambda start: parts.mouth_bag(mouth, skin, start),
        lambda start: parts.eye_bag(left, skin, 1, start),
        lambda start: parts.eye_bag(right, skin, -1, start),
        lambda start: parts.eyeball(1, detail, start),
        lambda start: parts.eyeball(-1, detail, start),
        lambda start: parts.teeth(1, front, detail, start),
        lambda start: parts.teeth(-1, front, detail, start),
        lambda start: parts.tongue(front, detail, start),
        lambda start: parts.ear(1, detail, start),
        lambda start: parts.ear(-1, detail, start),
        lambda start: parts.torso(detail, start),
    )
    pieces, starts = [skin], [0]
    for make in makers:
        starts.append(starts[-1] + len(pieces[-1].vertices))
        pieces.append(make(starts[-1]))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    return Template(
        grid=grid,
        face_part=np.concatenate([np.full(len(piece.faces), piece.part) for piece in pieces]),
        vertex_part=np.concatenate([np.full(len(piece.vertices), piece.part) for piece in pieces]),
        eyes=((starts[4], starts[5]), (starts[5], starts[6])),
        **{name: joined(name) for name in ("vertices", "canonical", "local", "uv", "faces")},
        **{name: joined(name) for name in ("jaw", "head", "side_mouth", "side_eye", "follow")},
    )
