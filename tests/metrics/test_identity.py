"""Identity metrics by hand and under what must not matter."""

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.metrics.identity import aed, csim, identity_error

RNG = np.random.default_rng(0)


def test_cosine_similarity():
    a = jnp.asarray([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    b = jnp.asarray([[6.0, 8.0], [0.0, 2.0], [-2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(csim(a, b), [1, 0, -1, 0], atol=1e-6)
    x, y = (jnp.asarray(RNG.normal(size=(4, 16)), jnp.float32) for _ in range(2))
    np.testing.assert_allclose(csim(x, y), csim(5 * y, 0.1 * x), rtol=1e-5)


def test_embedding_distance():
    a, b = jnp.asarray([[0.6, 0.8], [1.0, 0.0]]), jnp.asarray([[0.6, 0.8], [0.0, 1.0]])
    np.testing.assert_allclose(aed(a, b), [0, 2], atol=1e-6)
    np.testing.assert_allclose(aed(a, b, squared=False), [0, np.sqrt(2)], atol=1e-6)


def test_identity_error_skips_those_who_drive_themselves():
    truth = jnp.eye(3)
    kept = jnp.broadcast_to(truth[:, None, None, :], (3, 3, 2, 3))
    np.testing.assert_allclose(identity_error(kept, truth), 0, atol=1e-6)
    leaked = jnp.broadcast_to(truth[None, :, None, :], (3, 3, 2, 3))  # the driver's identity instead
    np.testing.assert_allclose(identity_error(leaked, truth), 1, atol=1e-6)
    one = np.array(leaked)
    one[0, 1] = truth[0]  # of the four frames of person 0 two are right
    np.testing.assert_allclose(identity_error(jnp.asarray(one), truth), [0.5, 1, 1], atol=1e-6)


def test_identity_error_of_one_person_is_refused():
    with pytest.raises(UserError, match="two people at least"):
        identity_error(jnp.zeros((1, 1, 2, 4)), jnp.zeros((1, 4)))
