"""How source frames become one embedded face."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.methods.x2face.networks import embed


def test_embedded_faces_are_means_weighted_by_confidence() -> None:
    frames = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 2, 4, 4, 3)), jnp.float32)
    outputs = jnp.zeros((1, 2, 4, 4, 3)).at[:, 0, ..., 2].set(100.0).at[:, 1, ..., 2].set(100.0 + np.log(3))
    made = embed(frames, outputs, 0.0)
    np.testing.assert_allclose(made.face, (frames[:, 0] + 3 * frames[:, 1]) / 4, atol=1e-5)
    biased = embed(frames, jnp.zeros_like(outputs).at[:, 1, ..., 2].set(np.log(3)), 0.1)
    np.testing.assert_allclose(biased.face, (1.1 * frames[:, 0] + 3.1 * frames[:, 1]) / 4.2, atol=1e-5)


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_tiny_confidences_are_no_division_by_zero(bias: float) -> None:
    """Value and gradient are those of exp(c) + bias, whose exponents are around -100."""
    random = np.random.default_rng(0)
    frames = random.uniform(size=(1, 2, 3, 3, 3)).astype(np.float32)
    c = (-100 + random.normal(size=(1, 2, 3, 3, 1))).astype(np.float32)

    @jax.jit
    def summed(c: jax.Array) -> Any:
        outputs = jnp.concatenate([jnp.zeros((1, 2, 3, 3, 2)), c], axis=-1)
        face = embed(jnp.asarray(frames), outputs, bias).face
        return jnp.sum(face**2), face

    (_, face), gradient = jax.value_and_grad(summed, has_aux=True)(jnp.asarray(c))
    weight = np.exp(c.astype(np.float64)) + bias
    wanted = (weight * frames).sum(1) / weight.sum(1)
    np.testing.assert_allclose(face, wanted, rtol=1e-5)
    # of sum(face^2): every weight moves the face by (its frame - the face) / sum of weights
    slope = 2 * wanted[:, None] * (frames - wanted[:, None]) / weight.sum(1)[:, None]
    slope = slope.sum(-1, keepdims=True) * np.exp(c.astype(np.float64))
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-12)
    assert (float(jnp.abs(gradient).max()) > 1e-3) == (bias == 0)
