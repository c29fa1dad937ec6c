"""One head's motion for another: keypoints moved relative to where the driver began."""

import numpy as np
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.geometry.hull import hull_measure


def relative_points(
    source: Float[Array, "s k d"],
    driving: Float[Array, "b k d"],
    anchor: Float[Array, "s k d"],
    scale: Float[Array, ""] | float = 1.0,
) -> Float[Array, "b k d"]:
    """``p^S + scale (p^D_t - p^D_0)``: the source's keypoints, moved as the driver's have since the anchor frame.

    Source and anchor may be one sample for a batch of driving frames. First Order Motion Model, section 3.3.
    """
    return source + scale * (driving - anchor)


def movement_scale(source: Float[Array, "k d"], anchor: Float[Array, "k d"]) -> float:
    """How much larger the source's keypoints spread than the driver's.

    The ratio of the square roots of their convex hulls' areas, in space of their volumes, as the published codes have
    it.

    Raises:
        UserError: the driver's keypoints span nothing.
    """
    measures = [hull_measure(np.asarray(points, np.float64)) for points in (source, anchor)]
    if measures[1] == 0:
        raise UserError("adapt_scale compares areas, and the driver's keypoints span none: leave adapt_scale off")
    return float(np.sqrt(measures[0] / measures[1]))
