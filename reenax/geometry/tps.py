"""Random smooth deformations of the plane: an affine map plus a thin-plate-like sum over control points.

First Order Motion (Siarohin et al., 2019), section 3.2 and its code, which takes the L1 distance to the control points
and adds one scalar to both coordinates.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from reenax.geometry.grids import coordinate_grid
from reenax.geometry.sampling import grid_sample

_EPSILON = 1e-6  # of the logarithm, as in the published code


class TPS(NamedTuple):
    """``T(z) = theta[:, :2] z + theta[:, 2] + sum_c w_c d_c^2 log(d_c + 1e-6)``, ``d_c = |x - c_x| + |y - c_y|``.

    Attributes:
        theta: the affine part.
        weights: of the control points, which lie on a square grid over [-1, 1], row by row.
    """

    theta: Float[Array, "b 2 3"]
    weights: Float[Array, "b n"]


@dataclasses.dataclass(frozen=True)
class TransformParams:
    """What :func:`random_tps` draws.

    Attributes:
        sigma_affine, sigma_tps: deviation of the affine part from the identity, and of the control points' weights.
        points: control points along a side.
    """

    sigma_affine: float = 0.05
    sigma_tps: float = 0.005
    points: int = 5


def random_tps(key: Key[Array, ""], batch_size: int, params: TransformParams = TransformParams()) -> TPS:
    """One deformation per sample: the identity plus normal noise."""
    affine_key, weights_key = jax.random.split(key)
    theta = jnp.eye(2, 3)[None] + params.sigma_affine * jax.random.normal(affine_key, (batch_size, 2, 3))
    return TPS(theta, params.sigma_tps * jax.random.normal(weights_key, (batch_size, params.points**2)))


def _offsets(tps: TPS, points: Float[Array, "b n 2"]) -> Float[Array, "b n m 2"]:
    """From every control point to every point."""
    side = round(tps.weights.shape[-1] ** 0.5)
    control = coordinate_grid(side, side, dtype=points.dtype).reshape(1, 1, -1, 2)
    return points[:, :, None, :] - control


def transform_points(tps: TPS, points: Float[Array, "b *n 2"]) -> Float[Array, "b *n 2"]:
    """The points (x, y) after the deformation."""
    flat = points.reshape(points.shape[0], -1, 2)
    distance = jnp.abs(_offsets(tps, flat)).sum(axis=-1)
    bump = (tps.weights[:, None, :] * distance**2 * jnp.log(distance + _EPSILON)).sum(axis=-1)
    theta = tps.theta[:, None]
    moved = (theta[..., :2] * flat[:, :, None, :]).sum(axis=-1) + theta[..., 2] + bump[..., None]
    return moved.reshape(points.shape)


def transform_jacobian(tps: TPS, points: Float[Array, "b *n 2"]) -> Float[Array, "b *n 2 2"]:
    """The derivative of :func:`transform_points`, ``[..., i, j] = dT_i / dz_j``, in closed form.

    Differentiable in turn, to the points and to the deformation. Where a coordinate meets that of a control point, the
    distance has a kink, and its derivative is taken as 0.
    """
    flat = points.reshape(points.shape[0], -1, 2)
    offset = _offsets(tps, flat)
    distance = jnp.abs(offset).sum(axis=-1)
    slope = 2 * distance * jnp.log(distance + _EPSILON) + distance**2 / (distance + _EPSILON)
    bump = ((tps.weights[:, None, :] * slope)[..., None] * jnp.sign(offset)).sum(axis=-2)
    jacobian = tps.theta[:, None, :, :2] + bump[..., None, :]
    return jacobian.reshape(*points.shape, 2)


def transform_image(tps: TPS, image: Float[Array, "b h w c"], *, align_corners: bool = True) -> Float[Array, "b h w c"]:
    """The image sampled at T(z), mirrored outside: the content at T(z) moves to z."""
    # Coordinates stay in the deformation's float32 when the image is bfloat16.
    grid = coordinate_grid(image.shape[1], image.shape[2], dtype=tps.theta.dtype)
    grid = jnp.broadcast_to(grid[None], (image.shape[0], *grid.shape))
    return grid_sample(image, transform_points(tps, grid), padding="reflection", align_corners=align_corners)
