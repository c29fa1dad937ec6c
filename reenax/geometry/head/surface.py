"""The head's skin as one grid over (v, theta), cut open at the mouth and the eyes.

``v`` in [0, 17] runs from the crown down to the neck (6: eyes, 9: mouth, 11: chin); ``theta`` is the angle around the
head, 0 in front, positive towards x > 0 (the subject's left). Centimetres; y = 0 is the line of the eyes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Detail = Literal["full", "half"]

EYE_V = 6.0  # the row that is cut between the lids
MOUTH_V = 9.0  # the row that is cut between the lips
EYE_SLIT = (12, 39)  # degrees of its corners
MOUTH_SLIT = (-21, 21)

# The half head has all rows and columns of the full one that the landmarks lie on, and as few as will do between them.
_HALF_ROWS = (0, 1, 3, 5, 7, 9, 12, 13, 16, 18, 19, 20, 22, 24, 26, 28, 30, 32, 34, 35, 37, 39, 41)
_HALF_ROWS += (43, 44, 45, 47, 49, 51, 53, 54, 57, 60, 63, 66)
_HALF_COLUMNS = (0, 6, 9, 12, 18, 21, 24, 30, 33, 39, 42, 54, 66, 72)  # degrees, in front

# One knot for each whole v: height and depth of the front line (theta = 0); height, half width and depth of the side
# line (theta = 90); height and depth of the back line (theta = 180).
_FRONT_Y, _FRONT_Z, _SIDE_Y, _WIDTH, _SIDE_Z, _BACK_Y, _BACK_Z = range(7)
PROFILE = np.array(
    [
        [11.8, -1.0, 11.8, 0.0, -1.0, 11.8, -1.0],  # 0 crown
        [11.2, 3.2, 11.2, 3.5, -1.0, 11.0, -5.2],
        [9.4, 6.8, 9.2, 5.9, -1.0, 8.8, -8.4],
        [6.5, 8.8, 6.3, 7.2, -1.0, 5.5, -10.2],  # 3 hairline
        [4.0, 9.35, 3.8, 7.55, -1.0, 2.5, -10.5],
        [2.0, 9.4, 1.8, 7.5, -1.0, 0.0, -10.2],  # 5 brows
        [0.0, 8.75, 0.0, 7.25, -1.0, -2.0, -9.5],  # 6 eyes
        [-2.0, 8.9, -1.2, 7.05, -1.0, -3.5, -8.8],
        [-4.8, 9.1, -2.9, 6.85, -1.1, -5.2, -8.0],  # 8 base of the nose
        [-7.0, 9.0, -4.2, 6.6, -1.2, -6.5, -7.4],  # 9 mouth
        [-8.7, 8.4, -5.4, 6.4, -1.3, -7.5, -7.0],
        [-10.3, 8.7, -6.5, 6.15, -1.4, -8.5, -6.7],  # 11 chin
        [-11.4, 7.6, -7.4, 5.8, -1.5, -9.3, -6.5],  # 12 menton
        [-11.8, 5.4, -8.3, 5.4, -1.6, -10.5, -6.4],
        [-12.4, 3.6, -9.8, 5.2, -1.7, -12.0, -6.4],  # 14 throat
        [-15.0, 3.1, -13.0, 5.2, -1.8, -15.0, -6.6],
        [-19.0, 3.3, -18.0, 5.8, -1.9, -19.0, -7.0],
        [-23.0, 3.6, -22.0, 6.4, -1.9, -23.0, -7.4],
    ]
)
PROFILE.flags.writeable = False


def profile(v: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 7"]:
    """The seven curves at any v: a uniform Catmull-Rom spline through the knots, the end knots repeated."""
    last = len(PROFILE) - 1
    knot = np.clip(np.floor(v).astype(int), 0, last - 1)
    t = (v - knot)[..., None]
    before, start, end, after = (PROFILE[np.clip(knot + step, 0, last)] for step in (-1, 0, 1, 2))
    slope = end - before
    bend = 2 * before - 5 * start + 4 * end - after
    twist = after - before + 3 * (start - end)
    return 0.5 * (2 * start + slope * t + bend * t**2 + twist * t**3)


def base_surface(v: Float[np.ndarray, "*n"], theta: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3"]:
    """The smooth head without a face: ellipse-like rings around the y axis, theta in radians.

    Height goes with the squared cosine and depth with the cosine, between the front or back line and the side line. As
    the side line lies higher than the front line below the nose, the rows follow the line of the jaw.
    """
    curves = profile(v)
    cosine, sine = np.cos(theta), np.sin(theta)
    in_front = cosine > 0
    line_y = np.where(in_front, curves[..., _FRONT_Y], curves[..., _BACK_Y])
    line_z = np.where(in_front, curves[..., _FRONT_Z], curves[..., _BACK_Z])
    side_z = curves[..., _SIDE_Z]
    x = curves[..., _WIDTH] * sine
    y = line_y * cosine**2 + curves[..., _SIDE_Y] * sine**2
    z = side_z + (line_z - side_z) * np.abs(cosine)
    return np.stack([x, y, z], axis=-1)


def grid_rows(detail: Detail) -> Float[np.ndarray, " r"]:
    """The values of v, densest from the brows to the mouth. Rows 6 and 9 are among them in every detail."""
    spans = ((0, 4, 2), (4, 5, 4), (5, 7, 7), (7, 8, 8), (8, 10, 7), (10, 12, 4))  # from, to, rows per unit
    rows = np.concatenate([start + np.arange((end - start) * n) / n for start, end, n in spans])
    rows = np.concatenate([rows, np.arange(12, 17.01, 0.5)])
    return rows if detail == "full" else rows[list(_HALF_ROWS)]


def grid_columns(detail: Detail) -> Int[np.ndarray, " c"]:
    """The angles in degrees, from -72 around the front to 280; the corners of the slits are among them.

    Both the columns in front and those behind are odd in number, so that the alternating diagonals of the faces mirror.
    """
    front, step = (np.arange(0, 73, 3), 10) if detail == "full" else (np.array(_HALF_COLUMNS), 20)
    return np.concatenate([-front[:0:-1], front, np.arange(80, 281, step)])


@dataclass(frozen=True)
class Slit:
    """A cut along a row: between its two corners every vertex exists twice.

    Attributes:
        row: the row that is cut.
        columns: of the cut in growing order, which is growing x; the first and the last are the corners.
        upper: vertices on the side of the rows above, corners included.
        lower: on the side of the rows below, corners included.
    """

    row: int
    columns: Int[np.ndarray, " n"]
    upper: Int[np.ndarray, " n"]
    lower: Int[np.ndarray, " n"]

    @property
    def loop(self) -> Int[np.ndarray, " m"]:
        """Once around the opening: along the upper side, back along the lower."""
        return np.concatenate([self.upper, self.lower[-2:0:-1]])

    @property
    def loop_side(self) -> Int[np.ndarray, " m"]:
        """+1 on the upper side, -1 on the lower, 0 at the corners, in the order of the loop."""
        inner = len(self.columns) - 2
        return np.concatenate([[0], np.ones(inner, int), [0], -np.ones(inner, int)])


@dataclass(frozen=True)
class Grid:
    """Which vertices there are and how they hang together. The second copies of the slits come after the grid.

    Attributes:
        v: of each row.
        degrees: of each column, -72 .. 280.
        above: vertex that the faces above a row use; all of row 0 is one vertex, the crown.
        below: vertex that the faces below a row use. Different from ``above`` inside the slits.
        row, column: of each vertex.
        slits: "left_eye" (x > 0), "right_eye", "mouth".
        side_mouth: +1 above the mouth's row and on the upper lip's edge, -1 below, 0 on the rest of the row.
        side_eye: likewise for the row of the eyes.
    """

    v: Float[np.ndarray, " r"]
    degrees: Int[np.ndarray, " c"]
    above: Int[np.ndarray, "r c"]
    below: Int[np.ndarray, "r c"]
    row: Int[np.ndarray, " n"]
    column: Int[np.ndarray, " n"]
    slits: Mapping[str, Slit]
    side_mouth: Int[np.ndarray, " n"]
    side_eye: Int[np.ndarray, " n"]

    @property
    def vertex_v(self) -> Float[np.ndarray, " n"]:
        return self.v[self.row]

    @property
    def theta(self) -> Float[np.ndarray, " n"]:
        """Radians, -72 .. 280 degrees."""
        return np.deg2rad(self.degrees)[self.column]

    @property
    def turn(self) -> Float[np.ndarray, " n"]:
        """theta in degrees as [-180, 180)."""
        return (self.theta / np.deg2rad(1) + 180) % 360 - 180

    def faces(self) -> Int[np.ndarray, "f 3"]:
        """Triangles, counter-clockwise from outside, in rows from the crown; diagonals alternate like a chessboard."""
        rows, columns = len(self.v) - 1, len(self.degrees)
        here, there = self.below[:-1], self.above[1:]
        top_left, top_right = here, np.roll(here, -1, axis=1)
        low_left, low_right = there, np.roll(there, -1, axis=1)
        even = (np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0)[..., None]
        first = np.stack([top_left, low_left, np.where(even[..., 0], low_right, top_right)], axis=-1)
        second = np.where(
            even,
            np.stack([top_left, low_right, top_right], axis=-1),
            np.stack([top_right, low_left, low_right], axis=-1),
        )
        cap = np.stack([top_left[0], low_left[0], low_right[0]], axis=-1)
        rest = np.stack([first[1:], second[1:]], axis=2).reshape(-1, 3)
        return np.concatenate([cap, rest])


def _cut(below: Int[np.ndarray, "r c"], row: int, columns: Int[np.ndarray, " n"], free: int) -> int:
    """Gives the inner vertices of a slit second copies numbered from ``free``; returns the next free number."""
    inner = columns[1:-1]
    below[row, inner] = free + np.arange(len(inner))
    return free + len(inner)


def _sides(
    row: Int[np.ndarray, " n"], slit_row: int, copies: Int[np.ndarray, " n"], cut: tuple[np.ndarray, ...]
) -> Int[np.ndarray, " n"]:
    """+1 above a row, -1 below it; on it +1 or -1 where it is cut, by the copy, and 0 elsewhere."""
    side = np.sign(slit_row - row)
    inside = np.isin(np.arange(len(row)), np.concatenate(cut))
    return np.where((side == 0) & inside, np.where(copies == 1, -1, 1), side)


def build_grid(detail: Detail = "full") -> Grid:
    """Rows, columns and the three slits."""
    v, degrees = grid_rows(detail), grid_columns(detail)
    rows, columns = len(v), len(degrees)
    eye_row, mouth_row = (int(np.argmin(np.abs(v - at))) for at in (EYE_V, MOUTH_V))
    above = np.arange(rows * columns).reshape(rows, columns)
    below = above.copy()
    above[0], below[0] = above[0, 0], above[0, 0]
    low, high = EYE_SLIT
    places = {"left_eye": (eye_row, low, high), "right_eye": (eye_row, -high, -low), "mouth": (mouth_row, *MOUTH_SLIT)}
    free, slits = rows * columns, {}
    for name, (row, first, last) in places.items():
        cut = np.flatnonzero((degrees >= first) & (degrees <= last))
        free = _cut(below, row, cut, free)
        slits[name] = Slit(row, cut, above[row, cut], below[row, cut])
    copied = [(slit.row, slit.columns[1:-1]) for slit in slits.values()]
    vertex_row = np.concatenate([np.repeat(np.arange(rows), columns), *(np.full(len(c), r) for r, c in copied)])
    vertex_column = np.concatenate([np.tile(np.arange(columns), rows), *(c for _, c in copied)])
    copies = (np.arange(free) >= rows * columns).astype(int)
    inner = {name: np.concatenate([s.upper[1:-1], s.lower[1:-1]]) for name, s in slits.items()}
    return Grid(
        v=v,
        degrees=degrees,
        above=above,
        below=below,
        row=vertex_row,
        column=vertex_column,
        slits=slits,
        side_mouth=_sides(vertex_row, mouth_row, copies, (inner["mouth"],)),
        side_eye=_sides(vertex_row, eye_row, copies, (inner["left_eye"], inner["right_eye"])),
    )
