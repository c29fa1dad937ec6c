"""Perceptual losses: distances between the features that a frozen network sees (Johnson et al., 2016)."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.sampling import antialias_downsample

Features = Callable[[Float[Array, "b h w 3"]], Mapping[str, Float[Array, "b _ _ _"]]]


def image_pyramid(image: Float[Array, "b h w c"], scales: Sequence[float]) -> list[Float[Array, "b _ _ c"]]:
    """A picture at several scales, each made by a Gaussian that fits the scale (zeros beyond the border)."""
    return [antialias_downsample(image, scale) for scale in scales]


def perceptual_loss(
    features: Features,
    prediction: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
    weights: Mapping[str, float],
) -> Float[Array, ""]:
    """Weighted sum over layers of the mean absolute difference of features; nothing flows to the target.

    Args:
        features: the frozen network, giving at least the layers named in ``weights``.
        prediction: pictures in the network's input range.
        target: pictures of the same range.
        weights: layer name to weight.
    """
    # Two passes, not one over both: the target's then needs no backward pass.
    seen, wanted = features(prediction), features(jax.lax.stop_gradient(target))
    total = jnp.zeros((), jnp.promote_types(prediction.dtype, jnp.float32))
    for layer, weight in weights.items():
        x, y = seen[layer].astype(total.dtype), jax.lax.stop_gradient(wanted[layer]).astype(total.dtype)
        total = total + weight * jnp.mean(jnp.abs(x - y))
    return total


def pyramid_perceptual_loss(
    features: Features,
    prediction: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
    weights: Mapping[str, float],
    scales: Sequence[float],
) -> Float[Array, ""]:
    """The perceptual loss summed over an image pyramid (First Order Motion Model, section 3.3)."""
    pairs = zip(image_pyramid(prediction, scales), image_pyramid(target, scales), strict=True)
    terms = (perceptual_loss(features, x, y, weights) for x, y in pairs)
    return sum(terms, jnp.zeros((), jnp.promote_types(prediction.dtype, jnp.float32)))
