"""How a player moves: by a gradient through optax, or by Gauss-Newton where there is no network to train."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.types import Batch, LossFn, LossOut, Metrics, Params, Variables, owned_params, with_params


@dataclasses.dataclass(frozen=True)
class Gradient:
    """One optax step on the gradient of a loss.

    Attributes:
        loss: the function that is differentiated with respect to the params that the player owns.
        tx: the optimiser. Its params are ``{network: params}`` of the owned networks; it may take the training's step
            as the keyword ``step``.
        accumulate: the batch is cut into so many microbatches and their gradients are averaged. The
            collections pass from one microbatch to the next; every leaf of ``shared`` must then have
            the batch as its first axis.
    """

    loss: LossFn
    tx: optax.GradientTransformation
    accumulate: int = 1

    def init(self, params: Params) -> PyTree:
        return self.tx.init(params)

    def __call__(
        self,
        variables: Variables,
        owns: tuple[str, ...],
        opt_state: PyTree,
        batch: Batch,
        rng: Key[Array, ""],
        *,
        step: Int[Array, ""],
        shared: PyTree,
    ) -> tuple[Params, PyTree, LossOut]:
        params = owned_params(variables, owns)

        def objective(p: Params, v: Variables, b: Batch, s: PyTree, r: Key[Array, ""]) -> tuple[Array, LossOut]:
            out = self.loss(with_params(v, p), b, r, step=step, shared=s)
            return out.loss, out

        if self.accumulate == 1:
            (value, out), grads = jax.value_and_grad(objective, has_aux=True)(params, variables, batch, shared, rng)
        else:
            value, out, grads = _accumulated(objective, params, variables, batch, shared, rng, self.accumulate)
        tx = optax.with_extra_args_support(self.tx)
        updates, opt_state = tx.update(grads, opt_state, params, step=step)
        metrics = {**out.metrics, "loss": value, "grad_norm": optax.tree.norm(grads)}
        return optax.apply_updates(params, updates), opt_state, out._replace(metrics=metrics)  # pyright: ignore[reportReturnType]


def _accumulated(
    objective: Any, params: Params, variables: Variables, batch: Batch, shared: PyTree, rng: Key[Array, ""], n: int
) -> tuple[Array, LossOut, Params]:
    """Mean value and gradient over n microbatches, one after the other."""

    def split(x: Array) -> Array:
        # (b, ...) to (n, b/n, ...) by taking every n-th row, so that no row leaves its device
        return jnp.swapaxes(x.reshape(x.shape[0] // n, n, *x.shape[1:]), 0, 1)

    def join(x: Array) -> Array:
        return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])

    micro = jax.tree.map(split, (dict(batch), shared))
    keys = jax.random.split(rng, n)
    first = jax.tree.map(lambda x: x[0], micro)
    mutated = jax.eval_shape(objective, params, variables, *first, keys[0])[1].mutated
    carried = {net: {c: variables[net][c] for c in changed} for net, changed in mutated.items()}

    def body(carry: Any, xs: Any) -> Any:
        total, moving = carry
        (part, part_shared), key = xs
        current = {net: {**c, **moving.get(net, {})} for net, c in variables.items()}
        (value, out), grads = jax.value_and_grad(objective, has_aux=True)(params, current, part, part_shared, key)
        total = jax.tree.map(lambda a, g: a + g / n, total, grads)
        return (total, out.mutated), (value, out.metrics, out.shared)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (grads, mutated), (values, metrics, shared_out) = jax.lax.scan(body, (zeros, carried), (micro, keys))
    value = values.mean()
    metrics = jax.tree.map(lambda x: x.mean(0), metrics)
    return value, LossOut(value, metrics, mutated, jax.tree.map(join, shared_out)), grads


@runtime_checkable
class ResidualFn(Protocol):
    """Residuals whose squared sum is minimised; ``r`` is one vector over the whole batch."""

    def __call__(self, variables: Variables, batch: Batch) -> tuple[Float[Array, " r"], Metrics]: ...


@dataclasses.dataclass(frozen=True)
class GaussNewton:
    """Damped Gauss-Newton on a vector of residuals, for fitting coefficients without a network.

    The normal equations (J^T J + damping I) d = J^T r are solved densely: meant for up to a few
    thousand unknowns.

    Attributes:
        residuals: the residual vector of the owned params.
        iterations: steps per call.
        damping: Levenberg's constant, in units of J^T J.
    """

    residuals: ResidualFn
    iterations: int = 3
    damping: float = 1e-3

    def init(self, params: Params) -> PyTree:
        return ()

    def __call__(
        self,
        variables: Variables,
        owns: tuple[str, ...],
        opt_state: PyTree,
        batch: Batch,
        rng: Key[Array, ""],
        *,
        step: Int[Array, ""],
        shared: PyTree,
    ) -> tuple[Params, PyTree, LossOut]:
        flat, unravel = jax.flatten_util.ravel_pytree(owned_params(variables, owns))

        def residuals(x: Array) -> Array:
            return self.residuals(with_params(variables, unravel(x)), batch)[0]

        def body(x: Array, _: None) -> tuple[Array, Array]:
            r = residuals(x)
            jacobian = jax.jacfwd(residuals)(x)
            hessian = jacobian.T @ jacobian + self.damping * jnp.eye(x.size, dtype=x.dtype)
            return x - jax.scipy.linalg.solve(hessian, jacobian.T @ r, assume_a="pos"), jnp.sum(r**2)

        flat, energies = jax.lax.scan(body, flat, None, length=self.iterations)
        params = unravel(flat)
        r, metrics = self.residuals(with_params(variables, params), batch)
        energy = jnp.sum(r**2)
        return params, opt_state, LossOut(energy, {**metrics, "loss": energy, "first_energy": energies[0]})


def jointly(
    optim: Mapping[str, optax.GradientTransformation], networks: tuple[str, ...], method: str
) -> optax.GradientTransformation:
    """One transformation that moves several networks by one backward pass, each with its own optimiser.

    Raises:
        UserError: ``optim`` lacks a network.
    """
    for network in networks:
        if network not in optim:
            raise UserError(f"config.optim.{network} is missing; {method} needs {', '.join(networks)}")
    return optax.partition({n: optim[n] for n in networks}, {n: n for n in networks})
