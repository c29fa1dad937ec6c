"""Adversarial losses and feature matching (Wang et al., 2018).

Least squares: Mao et al., 2017. Hinge: Lim and Ye, 2017. Wasserstein: Arjovsky et al., 2017, with the gradient penalty
of Gulrajani et al., 2017.

Discriminators give one map per scale; terms are averaged within a map and summed over maps.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def least_squares_loss(scores: Float[Array, "..."], target: float) -> Float[Array, ""]:
    """Mean (D - target)^2 of one map (Mao et al., 2017)."""
    return jnp.mean((scores - target) ** 2)


def binary_loss(logits: Float[Array, "..."], target: float) -> Float[Array, ""]:
    """Mean binary cross entropy of one map of logits against one target in [0, 1] (Goodfellow et al., 2014)."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)))


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


def wasserstein_loss(scores: Float[Array, "..."], *, real: bool) -> Float[Array, ""]:
    """-mean of the scores of what shall count as real, mean of the others."""
    return -jnp.mean(scores) if real else jnp.mean(scores)


def mixed_pictures(
    real: Float[Array, "b h w c"], fake: Float[Array, "b h w c"], share: Float[Array, " b"]
) -> Float[Array, "b h w c"]:
    """Pictures between real and made ones; ``share`` is the real one's."""
    share = share[:, None, None, None]
    return share * real + (1 - share) * fake


def gradient_penalty(
    critic: Callable[[Float[Array, "b h w c"]], Float[Array, "..."]],
    pictures: Float[Array, "b h w c"],
    tiny: float = 1e-12,
) -> Float[Array, ""]:
    """``mean_b (||g_b|| - 1)^2``, with g_b the gradient of the sum of the scores by picture b.

    Args:
        critic: scores of a batch, each picture's its own: no norm over the batch.
        pictures: where the gradient is taken, see :func:`mixed_pictures`.
        tiny: under the root, whose derivative is infinite where the gradient vanishes.
    """
    gradient = jax.grad(lambda x: jnp.sum(critic(x)))(pictures)
    norm = jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3)) + tiny)
    return jnp.mean((norm - 1) ** 2)
