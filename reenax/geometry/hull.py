"""The convex hull of a set of points, on the host."""

import numpy as np
import scipy.spatial
from jaxtyping import Float


def hull_area(points: Float[np.ndarray, "n 2"]) -> float:
    """The area of the convex hull; 0 for fewer than three points or points on one line."""
    if len(points) < 3:
        return 0.0
    try:
        return float(scipy.spatial.ConvexHull(points).volume)
    except scipy.spatial.QhullError:
        return 0.0
