"""LPIPS by its definition from the features of its network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.metrics.lpips import LPIPS, TRUNKS, draw_weights, frozen_lpips, lpips

RNG = np.random.default_rng(0)
PICTURES = jnp.asarray(RNG.uniform(-1, 1, (2, 33, 40, 3)), jnp.float32)
NOISE = jnp.asarray(RNG.normal(size=(2, 33, 40, 3)), jnp.float32)


@functools.cache
def network(net):
    """Weights with layers of their own weights per channel, and the compiled distances."""
    variables = draw_weights(net)
    rng = np.random.default_rng(1)
    params = {
        n: jnp.asarray(rng.uniform(0, 1, v.shape), jnp.float32) if n.startswith("lin") else v
        for n, v in variables["params"].items()
    }

    @jax.jit
    def measure(variables, a, b):
        return LPIPS(net).apply(variables, a, b, method="layers"), LPIPS(net).apply(variables, a, method="features")

    return {"params": params}, measure


@pytest.mark.parametrize("net", TRUNKS)
def test_every_layer_by_the_definition(net):
    variables, measure = network(net)
    layers, first = measure(variables, PICTURES, PICTURES + 0.2 * NOISE)
    _, second = measure(variables, PICTURES + 0.2 * NOISE, PICTURES)
    assert layers.shape == (2, len(TRUNKS[net].taps))
    for i, (tap, width) in enumerate(zip(TRUNKS[net].taps, TRUNKS[net].widths, strict=True)):
        x, y = (np.asarray(f[tap], np.float64) for f in (first, second))
        assert x.shape[-1] == width
        x, y = (f / (np.linalg.norm(f, axis=-1, keepdims=True) + 1e-10) for f in (x, y))
        expected = ((x - y) ** 2 @ np.asarray(variables["params"][f"lin{i}"])).mean(axis=(1, 2))
        assert (expected > 1e-3).all()
        np.testing.assert_allclose(layers[:, i], expected, rtol=1e-3)


@pytest.mark.parametrize("net", TRUNKS)
def test_a_distance(net):
    variables, measure = network(net)
    near, far = (measure(variables, PICTURES, PICTURES + s * NOISE)[0].sum(axis=-1) for s in (0.05, 0.5))
    assert (near > 0).all()
    assert (far > near).all()
    np.testing.assert_allclose(measure(variables, PICTURES, PICTURES)[0], 0, atol=1e-12)
    back, _ = measure(variables, PICTURES + 0.5 * NOISE, PICTURES)
    np.testing.assert_allclose(back.sum(axis=-1), far, rtol=1e-5)
    turned, _ = measure(variables, PICTURES[::-1], (PICTURES + 0.5 * NOISE)[::-1])
    np.testing.assert_allclose(turned.sum(axis=-1)[::-1], far, rtol=1e-5)


def test_weights_are_given_or_drawn_on_request():
    variables, first, second = draw_weights(), PICTURES, PICTURES + NOISE
    drawn = lpips(first, second, random_weights=True)
    np.testing.assert_allclose(drawn, lpips(first, second, variables), rtol=1e-6)
    np.testing.assert_allclose(variables["params"]["lin1"], 1 / 192)
    _, measure = network("alex")
    np.testing.assert_allclose(drawn, measure(variables, first, second)[0].sum(axis=-1), rtol=1e-4)


def test_what_is_wrong_is_said():
    with pytest.raises(UserError, match=r"LPIPS needs weights: .*interop\.lpips\.load\('vgg', trunk=FILE, lins=FILE\)"):
        lpips(PICTURES, PICTURES, net="vgg")
    with pytest.raises(UserError, match="no network 'resnet'; there are: alex, vgg, squeeze"):
        lpips(PICTURES, PICTURES, net="resnet")
    for net, least in (("alex", 31), ("squeeze", 17)):
        small = jnp.zeros((1, least - 1, 40, 3))
        variables = jax.eval_shape(frozen_lpips(net).init, jax.random.key(0))
        with pytest.raises(ValueError, match=f"pictures of {least}x{least} at least"):
            jax.eval_shape(functools.partial(lpips, net=net), small, small, variables)
        large = jnp.zeros((1, least, 40, 3))
        assert jax.eval_shape(functools.partial(lpips, net=net), large, large, variables).shape == (1,)
