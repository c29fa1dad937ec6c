"""Keypoints with covariances: from heatmaps, as maps of movement, and limited from below (sections 3.1 to 3.3)."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import covariance_heatmap, expected_covariance, expected_points
from reenax.geometry.sampling import warp

HEATMAP_FLOOR = 1e-7  # added to every heatmap as published: no covariance is quite singular
TINY = 1e-24  # keeps the root's slope finite where both eigenvalues are equal


class Keypoints(NamedTuple):
    """Keypoints with the ellipses around them.

    Attributes:
        mean: positions (x, y) in [-1, 1].
        covariance: symmetric, in units of [-1, 1] squared.
    """

    mean: Float[Array, "b k 2"]
    covariance: Float[Array, "b k 2 2"]


def keypoints_of(
    heatmap: Float[Array, "b h w k"], variance: str | float = "matrix", smallest: float = 0.0
) -> Keypoints:
    """Mean and covariance of heatmaps that sum to 1.

    Args:
        heatmap: one channel per keypoint.
        variance: "matrix" for the covariance; "single" for the mean of its two variances, times the identity; a
            number, times the identity, for the same everywhere.
        smallest: lower bound of the smaller eigenvalue, see `at_least`; 0 for none.

    Raises:
        ValueError: an unknown variance.
    """
    heatmap = heatmap + HEATMAP_FLOOR
    mean = expected_points(heatmap)
    identity = jnp.eye(2, dtype=mean.dtype)[None, None]
    if isinstance(variance, int | float):
        return Keypoints(mean, jnp.broadcast_to(variance * identity, (*mean.shape, 2)))
    covariance = expected_covariance(heatmap, mean)
    if variance == "single":
        covariance = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / 2 * identity
    elif variance != "matrix":
        raise ValueError(f'variance must be "matrix", "single" or a number, got {variance!r}')
    return Keypoints(mean, at_least(covariance, smallest) if smallest else covariance)


def smallest_eigenvalue(matrix: Float[Array, "*b 2 2"]) -> Float[Array, "*b"]:
    """The smaller eigenvalue of symmetric positive definite matrices, which is also the smaller singular value.

    As determinant by larger eigenvalue: the difference of trace and root would cancel for a thin ellipse.
    """
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    largest = (a + d) / 2 + jnp.sqrt(((a - d) / 2) ** 2 + b**2 + TINY)
    return (a * d - b**2) / largest


def at_least(covariance: Float[Array, "*b 2 2"], smallest: float) -> Float[Array, "*b 2 2"]:
    """Covariances enlarged as a whole until their smaller eigenvalue is at least ``smallest``."""
    found = smallest_eigenvalue(covariance)
    # an ellipse that rounding has made a line is enlarged by a finite factor
    found = jnp.maximum(found, 1e-3 * smallest)
    return covariance * (jnp.maximum(found, smallest) / found)[..., None, None]


def heatmaps(keypoints: Keypoints, size: tuple[int, int], norm: float) -> Float[Array, "b {size[0]} {size[1]} k"]:
    """``exp(-1/2 (z - mu)^T S^-1 (z - mu))`` divided by ``norm``; by its sum over the map where ``norm`` is 0."""
    heat = covariance_heatmap(keypoints.mean, keypoints.covariance, size)
    return heat / (norm or heat.sum(axis=(1, 2), keepdims=True))


@dataclasses.dataclass(frozen=True)
class Embedding:
    """What a movement is shown as: maps for every keypoint, one keypoint behind the other.

    Attributes:
        heatmap: "difference" of driving and source, "gaussian" for the driving one alone, or "none".
        displacement: how far each keypoint moves, in two maps that are constant.
        deformed_source: the source shifted by each displacement.
        background: an entry before the first keypoint that does not move and has no heat.
        norm: what heatmaps are divided by; 0 for each by its own sum.
    """

    heatmap: str = "difference"
    displacement: bool = False
    deformed_source: bool = False
    background: bool = False
    norm: float = 100.0

    def __post_init__(self) -> None:
        if self.heatmap not in ("difference", "gaussian", "none"):
            raise ValueError(f'heatmap must be "difference", "gaussian" or "none", got {self.heatmap!r}')

    def __call__(
        self,
        source: Keypoints,
        driving: Keypoints,
        size: tuple[int, int],
        picture: Float[Array, "s i j 3"] | None = None,
        align_corners: bool = True,
    ) -> Float[Array, "b {size[0]} {size[1]} c"]:
        """The maps, per keypoint in the order heat, dx, dy, red, green, blue as far as they are asked for.

        Args:
            source, driving: keypoints; the source may be one sample for a batch of driving ones.
            size: (height, width) of the maps.
            picture: the source at that size, where ``deformed_source`` is set.
            align_corners: the convention of its warp.
        """
        batch, parts = driving.mean.shape[0], []
        shift = displacements(source, driving, background=self.background)
        count = shift.shape[1]
        if self.heatmap != "none":
            heat = heatmaps(driving, size, self.norm)
            if self.heatmap == "difference":
                heat = heat - heatmaps(source, size, self.norm)
            heat = jnp.pad(heat, ((0, 0), (0, 0), (0, 0), (int(self.background), 0)))
            parts.append(heat[..., None])
        if self.displacement:
            parts.append(jnp.broadcast_to(shift[:, None, None], (batch, *size, count, 2)))
        if self.deformed_source:
            assert picture is not None
            moved = coordinate_grid(*size, dtype=shift.dtype)[None, None] + shift[:, :, None, None]
            rows = moved.reshape(batch, count * size[0], size[1], 2)
            deformed = warp(picture, rows, align_corners).reshape(batch, count, *size, picture.shape[-1])
            parts.append(deformed.transpose(0, 2, 3, 1, 4))
        return jnp.concatenate(parts, axis=-1).reshape(batch, *size, -1)


def displacements(source: Keypoints, driving: Keypoints, *, background: bool) -> Float[Array, "b m 2"]:
    """From every keypoint's driving to its source position; 0 for the background, which comes first."""
    shift = source.mean - driving.mean
    return jnp.pad(shift, ((0, 0), (int(background), 0), (0, 0)))
