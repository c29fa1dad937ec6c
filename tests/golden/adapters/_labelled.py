"""What the adapters of GANimation and StarGAN share: layers of their networks by published name, and steps of Adam."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from reenax.core.types import Variables
from reenax.interop.torch import Entry, to_state
from reenax.nn.label_networks import SLOPE

from ._arrays import Arrays, nchw


def layer_outputs(letter: str, captured: Mapping[str, Any], module: Callable[[str], str]) -> Arrays:
    """Statistics and corners of what every layer gave, activations included.

    Args:
        letter: "G" or "D".
        captured: the collection "intermediates".
        module: our module name to the published one.
    """
    inner = {**captured, **captured.get("trunk", {})}
    found: dict[int, Any] = {}
    for name, kept in inner.items():
        published = module(name)
        if name == "__call__" or not published.startswith("main."):
            continue
        index, value = int(published.removeprefix("main.")), kept["__call__"][0]
        found[index] = value
        if "norm" in name:
            found[index + 1] = nn.relu(value)
        elif letter == "D":
            found[index + 1] = nn.leaky_relu(value, SLOPE)
    computed: Arrays = {}
    for index, value in found.items():
        x = nchw(np.asarray(value, np.float64))
        computed[f"stat_{letter}.main.{index}"] = np.array([x.mean(), x.std(), np.abs(x).sum()])
        computed[f"slice_{letter}.main.{index}"] = x[:, :4, :4, :4]
    return computed


class Steps:
    """Optimiser steps in turn, with what the cases keep of each.

    Args:
        variables: of every network.
        entries: all tensors under both names.
        tx: of every network.
    """

    def __init__(self, variables: Variables, entries: list[Entry], tx: Mapping[str, optax.GradientTransformation]):
        self.variables, self._entries, self._tx = dict(variables), entries, tx
        self._states = {n: jax.jit(t.init)(variables[n]["params"]) for n, t in tx.items()}
        self.computed: Arrays = {}

    def take(self, phase: str, network: str, loss: Callable[..., Any], *arguments: Any) -> Any:
        """A step on the gradient of ``loss(variables, *arguments) -> (value, rest)``; returns rest and the value."""

        @jax.jit
        def step(variables: Any, state: Any, *rest: Any) -> Any:
            def of_params(params: Any) -> Any:
                return loss({**variables, network: {**variables[network], "params": params}}, *rest)

            params = variables[network]["params"]
            (value, out), gradient = jax.value_and_grad(of_params, has_aux=True)(params)
            updates, state = self._tx[network].update(gradient, state, params)
            return value, out, gradient, optax.apply_updates(params, updates), state

        before = self.variables[network]
        value, out, gradient, params, self._states[network] = step(self.variables, self._states[network], *arguments)
        self.variables[network] = {**before, "params": params}
        self._keep(phase, network, before["params"], params, gradient)
        return value, out

    def _keep(self, phase: str, network: str, before: Any, after: Any, gradient: Any) -> None:
        def named(params: Any) -> Arrays:
            tensors = to_state({network: {"params": params}}, self._entries)
            return {name.split(".", 1)[1]: value for name, value in tensors.items()}

        old, new = named(before), named(after)
        for name, value in named(gradient).items():
            self.computed[f"{phase}_grad/{name}"] = value
            self.computed[f"{phase}_grad_l2/{name}"] = np.linalg.norm(value)
            self.computed[f"{phase}_value/{name}"] = new[name]
            self.computed[f"{phase}_delta_l2/{name}"] = np.linalg.norm(new[name] - old[name])
