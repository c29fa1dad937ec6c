"""Reconstruction losses that need no pretrained network, for small models and for machines without weights."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.geometry.grids import coordinate_grid
from reenax.losses.perceptual import image_pyramid


def pyramid_l1_loss(
    prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], scales: Sequence[float]
) -> Float[Array, ""]:
    """Mean absolute difference, averaged over an image pyramid."""
    pairs = zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True)
    return jnp.mean(jnp.stack([jnp.mean(jnp.abs(x - y)) for x, y in pairs]))


def pyramid_gradient_loss(
    prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], scales: Sequence[float]
) -> Float[Array, ""]:
    """Mean absolute difference of horizontal and vertical finite differences, averaged over an image pyramid."""
    terms = []
    for difference in image_pyramid(prediction - target, scales):
        terms += [jnp.mean(jnp.abs(jnp.diff(difference, axis=axis))) for axis in (1, 2)]
    return jnp.mean(jnp.stack(terms))


def ssim_loss(
    prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], window: int = 7
) -> Float[Array, ""]:
    """1 - mean structural similarity (Wang et al., 2004) of pictures in [0, 1], with a uniform window."""

    def local_mean(x: Array) -> Array:
        shape = (1, window, window, 1)
        total = jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, shape, (1, 1, 1, 1), "VALID")
        return total / window**2

    mean_x, mean_y = local_mean(prediction), local_mean(target)
    var_x = local_mean(prediction**2) - mean_x**2
    var_y = local_mean(target**2) - mean_y**2
    covariance = local_mean(prediction * target) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return 1 - jnp.mean(similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))


def region_l1_loss(
    prediction: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    points: Float[Array, "b p 2"],
    margin: float = 0.3,
) -> Float[Array, ""]:
    """Mean |difference| in the box around some points of each picture.

    Args:
        prediction, target: pictures.
        points: (x, y) in [-1, 1], the outermost pixel centres.
        margin: by which part of its size the box is larger than the points', on every side.
    """
    low, high = jnp.min(points, axis=1), jnp.max(points, axis=1)
    wider = margin * (high - low)
    grid = coordinate_grid(*target.shape[1:3], dtype=points.dtype)[None]
    inside = jnp.all((grid >= (low - wider)[:, None, None]) & (grid <= (high + wider)[:, None, None]), axis=-1)
    weight = inside.astype(prediction.dtype)[..., None]
    return jnp.sum(weight * jnp.abs(prediction - target)) / jnp.maximum(jnp.sum(weight) * target.shape[-1], 1.0)
