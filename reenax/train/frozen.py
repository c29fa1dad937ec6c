"""Weights of the networks that training reads and never moves."""

import logging
from collections.abc import Mapping
from pathlib import Path

import jax

from reenax.core.errors import UserError
from reenax.core.types import Method, Variables
from reenax.train.checkpoint import Checkpoints
from reenax.train.runs import read_config

log = logging.getLogger("reenax")
RANDOM = "random"


def load_frozen(method: Method, weights: Mapping[str, str], name: str) -> Variables:
    """The variables of a method's frozen networks.

    Args:
        method: says which networks it needs.
        weights: network -> folder that `reenax import` made, or "random" for random features.
        name: the method's name, for messages.

    Raises:
        UserError: a network has no weights, or the folder holds another network.
    """
    made: dict[str, Mapping] = {}
    for network, wanted in method.frozen.items():
        where = weights.get(network, "")
        if not where:
            raise UserError(
                f"{name} needs the weights of {wanted.kind}: run `reenax import {wanted.kind} FILE --out DIR` and pass "
                f"--config.frozen.{network}=DIR, or --config.frozen.{network}={RANDOM} for random features"
            )
        init = jax.jit(wanted.init)
        if where == RANDOM:
            log.warning("%s: random features instead of trained weights; the pictures will be worse for it", network)
            made[network] = init(jax.random.key(0))
            continue
        config = read_config(Path(where))
        if config.get("frozen_kind") != wanted.kind:
            raise UserError(
                f"config.frozen.{network}={where} holds {config.get('frozen_kind', 'a trained method')}, "
                f"it must hold {wanted.kind}"
            )
        params = jax.eval_shape(wanted.init, jax.random.key(0))["params"]
        tree = {"params": {network: params}, "collections": {network: {}}, "ema_params": {}}
        with Checkpoints(Path(where) / "checkpoints") as checkpoints:
            made[network] = checkpoints.restore_variables(0, tree)[network]
    return made
