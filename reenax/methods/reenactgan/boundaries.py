"""The fifteen boundaries of a face: landmarks to curves, and curves to the maps that the encoder learns to draw.

How the published encoder's targets were drawn, and in which order its channels come, is not public. Here they are drawn
as in the work that introduced them (Wu et al., "Look at Boundary", CVPR 2018, section 3.1): every boundary's landmarks
are interpolated to a dense curve, and a map falls off from it as a Gaussian of the distance, zero beyond three
deviations. Everything is a pure function of the landmarks, in the order of `BOUNDARIES`.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.geometry.sampling import resize_bilinear

POINTS = 33  # of every resampled curve: two per gap of the longest, the contour's
CUTOFF = 3.0  # deviations beyond which a map is zero

# Curve by curve the landmarks (iBUG's 68, counted from 0) that it runs through. 68 landmarks have no lower edges of the
# brows: these two curves are the brow's five points, moved by a quarter of the way to the centre of the eye below.
BOUNDARIES: dict[str, tuple[int, ...]] = {
    "contour": tuple(range(17)),
    "right brow, upper": tuple(range(17, 22)),
    "left brow, upper": tuple(range(22, 27)),
    "right brow, lower": tuple(range(17, 22)),
    "left brow, lower": tuple(range(22, 27)),
    "nose bridge": tuple(range(27, 31)),
    "nose base": tuple(range(31, 36)),
    "right eye, upper lid": (36, 37, 38, 39),
    "right eye, lower lid": (39, 40, 41, 36),
    "left eye, upper lid": (42, 43, 44, 45),
    "left eye, lower lid": (45, 46, 47, 42),
    "upper lip, outer": tuple(range(48, 55)),
    "upper lip, inner": tuple(range(60, 65)),
    "lower lip, inner": (64, 65, 66, 67, 60),
    "lower lip, outer": (54, 55, 56, 57, 58, 59, 48),
}
COUNT = len(BOUNDARIES)
_LOWERED = {"right brow, lower": tuple(range(36, 42)), "left brow, lower": tuple(range(42, 48))}
_TO_THE_EYE = 0.25

# The landmark that each one becomes when the picture is mirrored.
MIRRORED = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)),
    ]
)


def _spline(count: int, points: int) -> Float[np.ndarray, "{points} {count}"]:
    """The matrix from ``count`` knots to points on the Catmull-Rom spline through them, evenly spread over its knots.

    Beyond both ends the polygon is continued, so that end knots have tangents along their last edge.
    """
    position = np.linspace(0, count - 1, points)
    knot = np.minimum(position.astype(int), count - 2)
    t = position - knot
    weights = np.stack([-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2], axis=1)
    padded = np.zeros((points, count + 2))  # knots -1 to count
    for offset in range(4):
        padded[np.arange(points), knot + offset] += weights[:, offset] / 2
    matrix = padded[:, 1:-1]
    for end, first, second in ((0, 0, 1), (-1, count - 1, count - 2)):
        matrix[:, first] += 2 * padded[:, end]
        matrix[:, second] -= padded[:, end]
    return matrix


@functools.cache
def curve_matrix() -> Float[np.ndarray, "15 33 68"]:
    """The linear map from landmarks to the points of all curves; the rows of every point sum to 1."""
    matrix = np.zeros((COUNT, POINTS, 68))
    for row, (name, landmarks) in zip(matrix, BOUNDARIES.items(), strict=True):
        row[:, list(landmarks)] = _spline(len(landmarks), POINTS)
        if name in _LOWERED:
            eye, brow = list(_LOWERED[name]), list(landmarks)
            row[:, eye] += _TO_THE_EYE / len(eye)
            row[:, brow] -= _TO_THE_EYE / len(brow)
    return matrix


def boundary_curves(landmarks: Float[Array, "*b 68 2"]) -> Float[Array, "*b 15 33 2"]:
    """Points along every boundary, in the landmarks' unit."""
    return jnp.einsum("cpk,...kd->...cpd", jnp.asarray(curve_matrix(), landmarks.dtype), landmarks)


def to_pixels(landmarks: Float[Array, "*b k 2"], picture: int, size: int) -> Float[Array, "*b k 2"]:
    """From [-1, 1], the centres of the border's pixels of a picture, to pixels of a map that covers the same area.

    Args:
        landmarks: (x, y).
        picture: side of the picture in pixels.
        size: side of the map in pixels; 0 is the centre of its first pixel.
    """
    pixel = (landmarks + 1) / 2 * (picture - 1)
    return (pixel + 0.5) * (size / picture) - 0.5


def boundary_maps(points: Float[Array, "b 68 2"], size: int, sigma: float = 1.0) -> Float[Array, "b {size} {size} 15"]:
    """``exp(-D^2 / (2 sigma^2))`` of the distance D to each boundary where D < 3 sigma, and 0 elsewhere.

    Args:
        points: landmarks in pixels of the map.
        size: side of the map.
        sigma: in pixels of the map.
    """
    curves = boundary_curves(points)
    axis = jnp.arange(size, dtype=points.dtype)
    grid = jnp.stack(jnp.meshgrid(axis, axis, indexing="xy"), axis=-1)[None, None, None]
    start, step = curves[:, :, :-1, None, None], jnp.diff(curves, axis=2)[:, :, :, None, None]
    squared = (step**2).sum(-1)
    along = ((grid - start) * step).sum(-1) / jnp.maximum(squared, 1e-6)
    nearest = start + jnp.clip(along, 0, 1)[..., None] * step
    distance = ((grid - nearest) ** 2).sum(-1).min(axis=2)
    maps = jnp.where(distance < (CUTOFF * sigma) ** 2, jnp.exp(-distance / (2 * sigma**2)), 0)
    return jnp.moveaxis(maps, 1, -1)


def picture_of(
    maps: Float[Array, "b m m 15"], size: int, *, stretched: bool = True
) -> Float[Array, "b {size} {size} 3"]:
    """All boundaries of a face in one grey picture in [-1, 1]: every map stretched to its full range, then the largest.

    A map without contrast (a boundary that is not there) is black. Without stretching maps are only clipped to [0, 1],
    so that pictures of two of them are as far apart as they are.
    """
    large = resize_bilinear(maps, (size, size))
    if stretched:
        low, high = large.min(axis=(1, 2), keepdims=True), large.max(axis=(1, 2), keepdims=True)
        large = (large - low) / jnp.maximum(high - low, 1e-3)
    shown = jnp.clip(large, 0, 1).max(axis=-1, keepdims=True)
    return jnp.broadcast_to(2 * shown - 1, (*shown.shape[:3], 3))
