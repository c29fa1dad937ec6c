"""What the adapters share: layouts of arrays, statistics of layers, and the step of the optimisers."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.types import Player, Variables
from reenax.interop.torch import Entry, to_state

from ..golden import Golden

Arrays = dict[str, Any]


def picture(array: np.ndarray) -> jax.Array:
    """A stored picture as network input: [b h w 3] in [0, 1]."""
    return jnp.asarray(array.reshape(-1, *array.shape[-3:]), jnp.float32) / 255


def nhwc(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, 1, -1))


def nchw(array: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1)


def statistics(array: Any) -> np.ndarray:
    """Mean, deviation, absolute sum, first and last number of a map that has its channels last."""
    x = nchw(np.asarray(array, np.float64))
    return np.array([x.mean(), x.std(), np.abs(x).sum(), x.flat[0], x.flat[-1]])


def layers(
    prefix: str, captured: Mapping[str, Any], module: Callable[[str], str], path: str = ""
) -> dict[str, np.ndarray]:
    """Statistics of every module's output under its published name, from the collection "intermediates"."""
    out: dict[str, np.ndarray] = {}
    for name, value in captured.items():
        if name == "__call__" and isinstance(value[0], jax.Array):
            out[prefix + path] = statistics(value[0])[None]
        elif isinstance(value, Mapping):
            out |= layers(prefix, value, module, f"{path}.{module(name)}" if path else module(name))
    return out


def subsampled(out: Arrays, names: Any) -> Arrays:
    """For names ``X_subN`` and ``X_subN_suffix``: every N-th pixel of the last two axes of ``X`` and ``X_suffix``."""
    made: Arrays = {}
    for name in names:
        if found := re.fullmatch(r"(.*)_sub(\d+)(.*)", name):
            base, step, suffix = found.groups()
            made[name] = np.asarray(out[base + suffix])[..., :: int(step), :: int(step)]
    return made


def after_step(
    g: Golden,
    players: Callable[[Mapping[str, optax.GradientTransformation]], tuple[Player, ...]],
    rates: Mapping[str, float],
    variables: Variables,
    grads: Mapping[str, Any],
    entries: list[Entry],
) -> Arrays:
    """Gradients (and their norms) by published names, and the variables after the first step of Adam.

    Args:
        g: the manifest, for the order of norms.
        players: of the method, given its optimisers.
        rates: network -> learning rate.
        variables: every network's collections, statistics already moved.
        grads: network -> gradient.
        entries: all tensors under both names.
    """
    optim = {n: optax.adam(rate, b1=0.5, b2=0.999, eps=1e-8) for n, rate in rates.items()}

    @jax.jit
    def step(params: Any, grads: Any) -> Any:
        stepped: dict[str, Any] = {}
        for player in players(optim):
            mine, theirs = ({n: tree[n] for n in player.owns} for tree in (params, grads))
            tx: Any = player.update.tx  # pyright: ignore[reportAttributeAccessIssue]
            updates, _ = tx.update(theirs, tx.init(mine), mine)
            moved: Any = optax.apply_updates(mine, updates)
            stepped |= moved
        return stepped

    stepped = step({n: variables[n]["params"] for n in grads}, dict(grads))
    after = {n: {**v, "params": stepped.get(n, v["params"])} for n, v in variables.items()}
    by_name = to_state({n: {"params": p} for n, p in grads.items()}, entries)
    computed: Arrays = {f"grad_{k}": v for k, v in by_name.items()}
    computed |= {f"after_{k}": v for k, v in to_state(after, entries).items()}
    for name, order in g.manifest.get("gradnorm_order", {}).items():
        computed[name] = np.array([np.linalg.norm(by_name[k]) for k in order])
    return computed
