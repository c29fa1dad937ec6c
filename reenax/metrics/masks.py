"""The face region of masked metrics."""

import numpy as np
import scipy.spatial
from jaxtyping import Bool, Float


def hull_mask(points: Float[np.ndarray, "b n 2"], height: int, width: int) -> Bool[np.ndarray, "b {height} {width}"]:
    """The pixels whose centres lie within the convex hull of points, such as the landmarks of the true frame.

    A face whose points are not finite, or lie on one line, has an empty mask.

    Args:
        points: (x, y) in pixels: the top left corner is (0, 0), the first pixel's centre (0.5, 0.5).
        height: rows of the mask.
        width: columns of the mask.
    """
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.stack([_inside(p, rows, columns) for p in points]) if len(points) else np.zeros((0, height, width), bool)


def _inside(
    points: Float[np.ndarray, "n 2"], rows: Float[np.ndarray, "h w"], columns: Float[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    empty = np.zeros(rows.shape, bool)
    if len(points) < 3 or not np.isfinite(points).all():
        return empty
    try:
        edges = scipy.spatial.ConvexHull(np.asarray(points, np.float64)).equations
    except scipy.spatial.QhullError:
        return empty
    return np.all([x * columns + y * rows + offset <= 1e-9 for x, y, offset in edges], axis=0)
