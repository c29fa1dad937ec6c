"""The 68 landmarks of the iBUG annotation as vertices of the head.

The contour is fixed on the surface, as in fitting of morphable models; it does not wander to the silhouette.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from reenax.geometry.head.relief import brow_line, lower_lip, mouth_line, upper_lip
from reenax.geometry.head.surface import Slit
from reenax.geometry.head.template import Template

COUNT = 68
# (degrees, v) of the contour from the ear down to beside the chin; index 0 is on the side of x < 0.
_CONTOUR = ((80, 6.2), (80, 7.3), (75, 8.4), (72, 9.4), (66, 10.2), (54, 10.8), (39, 11.2), (20, 11.35))
_CHIN = (0, 11.4)
_BROW_X = (5.0, 4.2, 3.2, 2.2, 1.3)
_NOSE_BRIDGE_Y = (0.3, -1.3, -2.8, -4.0)
_NOSE_BASE_X, _NOSE_BASE_Y = (-1.35, -0.68, 0.0, 0.68, 1.35), -4.9
_OUTER_LIP_X = (-1.5, -0.6, 0.0, 0.6, 1.5)
_INNER_LIP_X = (-0.9, 0.0, 0.9)


def _on_grid(template: Template, degrees: int, v: float) -> int:
    """The vertex of the nearest row and column."""
    grid = template.grid
    column = int(np.argmin(np.abs((grid.degrees + 180) % 360 - 180 - degrees)))
    return int(grid.above[int(np.argmin(np.abs(grid.v - v))), column])


def _nearest(template: Template, x: float, y: float, allowed: Bool[np.ndarray, " n"] | None = None) -> int:
    """The vertex in front whose canonical place is nearest in the frontal plane."""
    canonical = template.canonical
    usable = template.on_skin & (canonical[:, 2] >= 3)
    if allowed is not None:
        usable &= allowed
    distance = (canonical[:, 0] - x) ** 2 + (canonical[:, 1] - y) ** 2
    return int(np.argmin(np.where(usable, distance, np.inf)))


def _contour(template: Template) -> list[int]:
    right = [_on_grid(template, -degrees, v) for degrees, v in _CONTOUR]
    left = [_on_grid(template, degrees, v) for degrees, v in reversed(_CONTOUR)]
    return [*right, _on_grid(template, *_CHIN), *left]


def _brows_and_nose(template: Template) -> list[int]:
    brow_x = np.array([-x for x in _BROW_X] + list(reversed(_BROW_X)))
    brows = [_nearest(template, float(x), float(y)) for x, y in zip(brow_x, brow_line(brow_x), strict=True)]
    bridge = [_nearest(template, 0.0, y) for y in _NOSE_BRIDGE_Y]
    return brows + bridge + [_nearest(template, x, _NOSE_BASE_Y) for x in _NOSE_BASE_X]


def _eye(slit: Slit) -> list[int]:
    """Corner, two on the upper lid, corner, two on the lower lid, from the smaller x around over the top."""
    last = len(slit.columns) - 1
    first, second = round(last / 3), round(2 * last / 3)
    around = np.concatenate([slit.upper[[0, first, second, last]], slit.lower[[second, first]]])
    return around.tolist()


def _outer_lips(template: Template) -> list[int]:
    """Beside the corner, along the upper edge of the red, the other corner, back along the lower edge."""
    slit, x = template.grid.slits["mouth"], np.array(_OUTER_LIP_X)
    tops = zip(x, mouth_line(x) + upper_lip(x), strict=True)
    bottoms = zip(x[::-1], (mouth_line(x) - lower_lip(x))[::-1], strict=True)
    upper = [_nearest(template, float(a), float(y), template.side_mouth > 0) for a, y in tops]
    lower = [_nearest(template, float(a), float(y), template.side_mouth < 0) for a, y in bottoms]
    row = template.grid.above[slit.row]
    return [int(row[slit.columns[0] - 1]), *upper, int(row[slit.columns[-1] + 1]), *lower]


def _inner_lips(template: Template) -> list[int]:
    """Along the slit's upper side from corner to corner, back along the lower side."""
    slit = template.grid.slits["mouth"]
    x: Float[np.ndarray, " n"] = template.canonical[slit.upper, 0]
    inner = [int(np.argmin(np.abs(x - at))) for at in _INNER_LIP_X]
    return np.concatenate([slit.upper[[0, *inner, len(x) - 1]], slit.lower[inner[::-1]]]).tolist()


def landmark_vertices(template: Template) -> Int[np.ndarray, " 68"]:
    """Vertex of each landmark: contour, brows, nose, eyes, outer lips, inner lips; x < 0 first."""
    slits = template.grid.slits
    found = _contour(template) + _brows_and_nose(template) + _eye(slits["right_eye"]) + _eye(slits["left_eye"])
    found += _outer_lips(template) + _inner_lips(template)
    return np.array(found, np.int32)


def landmark_corners(template: Template) -> tuple[Int[np.ndarray, "68 3"], Float[np.ndarray, "68 3"]]:
    """The same as triangles and barycentric weights: a triangle whose first corner, of weight 1, is the vertex."""
    corners = []
    for vertex in landmark_vertices(template):
        face = template.faces[(template.faces == vertex).any(axis=1)][0]
        corners.append(np.roll(face, -int(np.flatnonzero(face == vertex)[0])))
    return np.stack(corners).astype(np.int32), np.tile(np.array([1, 0, 0], np.float32), (COUNT, 1))
