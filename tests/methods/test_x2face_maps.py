"""Least squares by moments: the same as solving for all examples at once, whatever their order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.types import Update
from reenax.methods.x2face.maps import LeastSquares, Moments, normed_params
from reenax.methods.x2face.networks import VectorFromPose


def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs far from zero, and what depends on them linearly but for noise."""
    random = np.random.default_rng(0)
    x = 50 + random.normal(size=(count, 5)) * np.array([1, 2, 3, 4, 5])
    y = x @ random.normal(size=(5, 3)) + 7 + 0.1 * random.normal(size=(count, 3))
    return x.astype(np.float32), y.astype(np.float32)


def applied(variables: Any, x: Any) -> Any:
    return x @ variables["map"]["params"]["kernel"] + variables["map"]["params"]["bias"][None]


def test_batch_by_batch_equals_all_at_once() -> None:
    x, y = examples(60)
    update = LeastSquares(lambda _, batch: (batch["x"], batch["y"]), applied)
    assert isinstance(update, Update)
    params = {"map": {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}}
    state, losses = update.init(params), []

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> Any:
        variables = {"map": {"params": params["map"]}}
        return update(variables, ("map",), state, batch, jax.random.key(0), step=jnp.zeros((), int), shared=None)

    for begin in range(0, 60, 20):
        batch = {"x": x[begin : begin + 20], "y": y[begin : begin + 20]}
        params, state, out = step(params, state, batch)
        losses.append(float(out.loss))
    wanted = np.linalg.lstsq(np.c_[x, np.ones(60)].astype(np.float64), y, rcond=None)[0]
    np.testing.assert_allclose(params["map"]["kernel"], wanted[:5], atol=2e-3)
    np.testing.assert_allclose(params["map"]["bias"], wanted[5], rtol=1e-2)
    assert losses[0] > 10  # of a map that is zero
    assert max(losses[1:]) < 0.2  # of examples that it had not seen


def test_moments_are_those_of_all_examples() -> None:
    x, y = examples(40)
    moments = Moments.none(5, 3)
    for begin in (0, 10, 20, 30):
        moments = moments.joined(jnp.asarray(x[begin : begin + 10]), jnp.asarray(y[begin : begin + 10]))
    assert float(moments.count) == 40
    np.testing.assert_allclose(moments.mean_x, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.xx, 40 * np.cov(x.T, bias=True), rtol=1e-3, atol=1e-2)


def test_a_ridge_shrinks_the_map_towards_the_mean() -> None:
    x, y = examples(40)
    moments = Moments.none(5, 3).joined(jnp.asarray(x), jnp.asarray(y))
    kernels = [np.abs(moments.fitted(ridge)[0]).sum() for ridge in (0.0, 1e2, 1e4)]
    assert kernels[0] > kernels[1] > kernels[2]
    kernel, bias = moments.fitted(1e9)
    np.testing.assert_allclose(kernel, 0, atol=1e-4)
    np.testing.assert_allclose(bias, y.mean(0), rtol=1e-3)


def test_nothing_to_learn_from_is_no_division_by_zero() -> None:
    """A constant input has no variance."""
    moments = Moments.none(2, 1).joined(jnp.ones((4, 2)), jnp.arange(4.0)[:, None])
    kernel, bias = moments.fitted(1e-3)
    assert np.isfinite(kernel).all()
    np.testing.assert_allclose(bias, 1.5, atol=1e-5)


def test_a_batch_norm_behind_the_map_undoes_itself() -> None:
    """Whatever its running statistics are: the network is the linear map that was asked for."""
    random, network = np.random.default_rng(0), VectorFromPose(4)
    kernel, bias, codes = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((3, 4), (4,), (5, 3)))
    known = {"batch_stats": {"norm": {"mean": jnp.arange(4.0), "var": jnp.arange(1.0, 5.0)}}}
    made: Any = network.apply({**known, "params": normed_params(kernel, bias, known)}, codes, train=False)
    np.testing.assert_allclose(made, codes @ kernel + bias[None], atol=1e-5)
