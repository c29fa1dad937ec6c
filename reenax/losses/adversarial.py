"""Adversarial losses and feature matching (Wang et al., 2018).

Least squares: Mao et al., 2017. Hinge: Lim and Ye, 2017.

Discriminators give one map per scale; terms are averaged within a map and summed over maps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def lsgan_generator_loss(fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over maps of mean (1 - D(fake))^2."""
    return sum((jnp.mean((1 - x) ** 2) for x in fake), jnp.zeros((), fake[0].dtype))


def lsgan_discriminator_loss(
    real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]
) -> Float[Array, ""]:
    """Sum over maps of mean [(1 - D(real))^2 + D(fake)^2]."""
    terms = (jnp.mean((1 - r) ** 2 + f**2) for r, f in zip(real, fake, strict=True))
    return sum(terms, jnp.zeros((), real[0].dtype))


def hinge_generator_loss(fake: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Sum over maps of -mean D(fake)."""
    return sum((-jnp.mean(x) for x in fake), jnp.zeros((), fake[0].dtype))


def hinge_discriminator_loss(
    real: Sequence[Float[Array, "..."]], fake: Sequence[Float[Array, "..."]]
) -> Float[Array, ""]:
    """Sum over maps of mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake))."""
    terms = (jnp.mean(jax.nn.relu(1 - r)) + jnp.mean(jax.nn.relu(1 + f)) for r, f in zip(real, fake, strict=True))
    return sum(terms, jnp.zeros((), real[0].dtype))


def feature_matching_loss(
    real: Sequence[Sequence[Float[Array, "..."]]],
    fake: Sequence[Sequence[Float[Array, "..."]]],
    weights: Sequence[float],
) -> Float[Array, ""]:
    """Weighted sum over scales and layers of the mean absolute difference of discriminator features.

    Args:
        real: per scale, the features of the real picture, one per layer.
        fake: the same of the made picture.
        weights: one weight per layer.
    """
    total = jnp.zeros((), real[0][0].dtype)
    for real_scale, fake_scale in zip(real, fake, strict=True):
        for r, f, weight in zip(real_scale, fake_scale, weights, strict=True):
            if weight:
                total = total + weight * jnp.mean(jnp.abs(r - f))
    return total
