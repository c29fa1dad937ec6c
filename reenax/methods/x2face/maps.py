"""How the maps P, Q and R are fitted: by ridge regression over all examples seen so far, in closed form.

A player whose update is :class:`LeastSquares` keeps means and scatter matrices of what it has seen in place of an
optimiser's state, and after every step its parameters are the best ones for all of it: there is no learning rate.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.types import Batch, Collections, LossOut, Params, Variables
from reenax.nn.norm import BatchNorm

EPSILON = BatchNorm.epsilon
Examples = Callable[[Variables, Batch], tuple[Float[Array, "b x"], Float[Array, "b y"]]]
"""From all variables and a batch: what is known, and what is to be told from it."""

AsParams = Callable[[Float[Array, "x y"], Float[Array, " y"], Collections], PyTree]
"""From kernel and bias of a linear map and the network's collections: the params with which the network is that map."""


def dense_params(kernel: Float[Array, "x y"], bias: Float[Array, " y"], network: Collections) -> PyTree:
    """Those of a dense layer."""
    del network
    return {"kernel": kernel, "bias": bias}


def normed_params(kernel: Float[Array, "x y"], bias: Float[Array, " y"], network: Collections) -> PyTree:
    """Those of a dense layer without bias and a batch norm, whose running statistics stay what they are."""
    known = network["batch_stats"]["norm"]
    scale = jnp.sqrt(known["var"] + EPSILON)
    return {"dense": {"kernel": kernel}, "norm": {"scale": scale, "bias": bias + known["mean"]}}


class Moments(NamedTuple):
    """Of all examples so far: enough to fit a linear map to them.

    Attributes:
        count: how many there are.
        mean_x, mean_y: means.
        xx, xy: sums of products of what departs from the means.
    """

    count: Float[Array, ""]
    mean_x: Float[Array, " x"]
    mean_y: Float[Array, " y"]
    xx: Float[Array, "x x"]
    xy: Float[Array, "x y"]

    @classmethod
    def none(cls, inputs: int, outputs: int) -> "Moments":
        """Of no examples."""
        return cls(
            jnp.zeros(()),
            jnp.zeros(inputs),
            jnp.zeros(outputs),
            jnp.zeros((inputs, inputs)),
            jnp.zeros((inputs, outputs)),
        )

    def joined(self, x: Float[Array, "b x"], y: Float[Array, "b y"]) -> "Moments":
        """With a batch of further examples (Chan, Golub and LeVeque, 1979: no large numbers are subtracted)."""
        more, mean_x, mean_y = x.shape[0], x.mean(axis=0), y.mean(axis=0)
        x, y = x - mean_x[None], y - mean_y[None]
        count = self.count + more
        step_x, step_y = mean_x - self.mean_x, mean_y - self.mean_y
        shared = self.count * more / count
        return Moments(
            count,
            self.mean_x + step_x * (more / count),
            self.mean_y + step_y * (more / count),
            self.xx + jnp.matmul(x.T, x, precision="highest") + shared * jnp.outer(step_x, step_x),
            self.xy + jnp.matmul(x.T, y, precision="highest") + shared * jnp.outer(step_x, step_y),
        )

    def fitted(self, ridge: float) -> tuple[Float[Array, "x y"], Float[Array, " y"]]:
        """Kernel and bias of the linear map; ``ridge`` is in units of the inputs' mean variance."""
        size = self.xx.shape[0]
        damping = ridge * jnp.trace(self.xx) / size + jnp.finfo(self.xx.dtype).tiny
        damped = self.xx + damping * jnp.eye(size, dtype=self.xx.dtype)
        kernel = jax.scipy.linalg.solve(damped, self.xy, assume_a="pos")
        return kernel, self.mean_y - jnp.matmul(self.mean_x, kernel, precision="highest")


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """The update of a player that owns one network, which is a linear map.

    Attributes:
        examples: what the map is fitted to.
        told: all variables and what is known, to what the network tells from it.
        as_params: the network's params of a linear map.
        ridge: weight of the kernel's squares, in units of the inputs' mean variance.
    """

    examples: Examples
    told: Callable[[Variables, Float[Array, "b x"]], Float[Array, "b y"]]
    as_params: AsParams = dense_params
    ridge: float = 0.0

    def init(self, params: Params) -> PyTree:
        (kernel,) = (x for x in jax.tree.leaves(params) if x.ndim == 2)
        return Moments.none(*kernel.shape)

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
        """The metrics are mean absolute errors on the batch, in units of the outputs: "loss" of the map that had not
        seen it, "deviation" of always telling the mean."""
        x, y = self.examples(variables, batch)
        (network,) = owns
        moments = Moments(*opt_state).joined(x, y)
        params = self.as_params(*moments.fitted(self.ridge), variables[network])
        loss = jnp.mean(jnp.abs(self.told(variables, x) - y))
        metrics = {"loss": loss, "deviation": jnp.mean(jnp.abs(y - moments.mean_y[None]))}
        return {network: params}, moments, LossOut(loss, metrics)
