"""The Wasserstein terms and the gradient penalty, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.losses.adversarial import gradient_penalty, mixed_pictures, wasserstein_loss


def test_real_pictures_are_to_score_high():
    scores = jnp.asarray([[1.0, 2.0], [3.0, 6.0]])
    assert float(wasserstein_loss(scores, real=True)) == -3.0
    assert float(wasserstein_loss(scores, real=False)) == 3.0


def test_pictures_are_mixed_by_sample():
    real, fake = jnp.ones((3, 2, 2, 1)), jnp.zeros((3, 2, 2, 1))
    mixed = mixed_pictures(real, fake, jnp.asarray([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], [0, 0.25, 1])


def test_penalty_of_a_known_slope():
    """Scores a_b sum(x): the gradient of picture b has norm |a_b| sqrt(12)."""
    slopes = jnp.asarray([2.0, 0.0])

    def critic(x: jax.Array) -> jax.Array:
        return (slopes[:, None, None, None] * x).reshape(2, 3, 4)  # a map of scores

    x = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    expected = ((2 * np.sqrt(12) - 1) ** 2 + 1) / 2
    assert float(gradient_penalty(critic, x)) == pytest.approx(expected, rel=1e-5)


def test_penalty_has_a_gradient_where_the_critic_is_flat():
    def loss(weight: jax.Array) -> jax.Array:
        return gradient_penalty(lambda x: weight * x**2, jnp.zeros((1, 2, 2, 1)))

    assert float(jax.grad(loss)(jnp.asarray(1.0))) == 0.0  # and not NaN
