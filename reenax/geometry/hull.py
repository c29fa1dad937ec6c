"""The convex hull of a set of points, on the host."""

import numpy as np
import scipy.spatial
from jaxtyping import Float


def hull_measure(points: Float[np.ndarray, "n d"]) -> float:
    """The area (d = 2) or volume (d = 3) of the convex hull; 0 where the points span none."""
    if len(points) <= points.shape[1]:
        return 0.0
    try:
        return float(scipy.spatial.ConvexHull(points).volume)
    except scipy.spatial.QhullError:
        return 0.0
