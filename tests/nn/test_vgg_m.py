"""VGG-M and the networks of faces: sizes of the published layers, and the response normalisation by its formula."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.nn.vgg_m import FACE_NETWORKS, LAYERS, VGGM, frozen_face_network, local_response


def test_layers_have_the_published_sizes() -> None:
    picture = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(VGGM().init, jax.random.key(0), picture)
    made: Any = jax.eval_shape(VGGM().apply, variables, picture)
    assert set(made) == set(LAYERS)
    sizes = {name: made[name].shape[1:] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")}
    assert sizes == {
        "conv1": (109, 109, 96),
        "pool1": (54, 54, 96),
        "conv2": (26, 26, 256),
        "pool2": (13, 13, 256),
        "conv5": (13, 13, 512),
        "pool5": (6, 6, 512),
    }


def test_responses_are_normalised_over_five_channels() -> None:
    x = np.random.default_rng(0).normal(scale=100, size=(1, 1, 1, 8))
    squares = [np.sum(x[0, 0, 0, max(i - 2, 0) : i + 3] ** 2) for i in range(8)]
    wanted = x[0, 0, 0] / (2 + 1e-4 * np.asarray(squares)) ** 0.75
    np.testing.assert_allclose(local_response(jnp.asarray(x, jnp.float32))[0, 0, 0], wanted, rtol=1e-5)


def test_responses_can_be_differentiated_in_a_compiled_program() -> None:
    """The slope along a direction is that of finite differences."""
    random = np.random.default_rng(0)
    x, along = (jnp.asarray(random.normal(scale=100, size=(1, 2, 2, 8)), jnp.float32) for _ in range(2))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(local_response(x) ** 2)))(x)
    energies = [float(jnp.sum(local_response(x + h * along) ** 2)) for h in (0.01, -0.01)]
    assert float(jnp.sum(gradient * along)) == pytest.approx((energies[0] - energies[1]) / 0.02, rel=1e-2)


def test_faces_have_three_networks() -> None:
    counts = {}
    for kind in FACE_NETWORKS:
        network = frozen_face_network(kind)
        assert network.kind == kind
        counts[kind] = len(jax.eval_shape(network.init, jax.random.key(0))["params"])
    assert counts == {"vggface": 13, "vggface11": 8, "vggmface": 5}
    with pytest.raises(ValueError, match="there is no face network 'vgg19'; there are: vggface, vggface11, vggmface"):
        frozen_face_network("vgg19")


def test_unknown_layers_and_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="vggmface has no layer 'conv6'"):
        jax.eval_shape(VGGM(("conv6",)).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match="16x16 is too small for conv2"):
        jax.eval_shape(VGGM(("conv5",)).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
