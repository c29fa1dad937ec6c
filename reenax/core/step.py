"""The train step: runs the players that are due, in order. It knows no method by name."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from reenax.core.pictures import float_pictures
from reenax.core.rng import step_stream
from reenax.core.types import Batch, Method, Player, TrainState, Variables, owned_params


def create_state(
    method: Method,
    players: Sequence[Player],
    seed: int,
    batch: Batch,
    warm_start: Callable[[Variables], Variables] | None = None,
) -> TrainState:
    """A fresh training state. Call it inside ``jit``, so that no two leaves share a buffer before donation.

    Args:
        method: the method to train.
        players: its players.
        seed: everything random follows from it.
        batch: one batch as the loader yields it; only shapes and dtypes matter to most methods.
        warm_start: turns the fresh variables into those to start from.
    """
    init_rng, rng = jax.random.split(jax.random.key(seed))
    variables = method.init(init_rng, float_pictures(batch))
    if warm_start is not None:
        variables = warm_start(variables)
    params = {n: v.get("params", {}) for n, v in variables.items()}
    collections = {n: {k: c for k, c in v.items() if k != "params"} for n, v in variables.items()}
    with_all = {n: {**v, "params": params[n]} for n, v in variables.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=rng,
        params=params,
        collections=collections,
        opt_states={p.name: p.update.init(owned_params(with_all, p.owns)) for p in players if p.state_of is None},
        ema_params={n: jax.tree.map(jnp.copy, params[n]) for n in method.ema},
    )


def check_players(method: Method, players: Sequence[Player], variables: Variables) -> None:
    """Refuses a game that cannot be played: unknown networks, two players of one name, a missing optimiser state.

    Raises:
        ValueError: naming the player.
    """
    names = [p.name for p in players]
    for player in players:
        if names.count(player.name) > 1:
            raise ValueError(f"two players are called {player.name!r}")
        for network in (*player.owns, *(player.persists or ())):
            if network not in variables:
                raise ValueError(f"player {player.name!r} names network {network!r}, which the method does not make")
        if player.state_of is not None:
            lender = next((p for p in players if p.name == player.state_of and p.state_of is None), None)
            if lender is None or lender.owns != player.owns:
                raise ValueError(f"player {player.name!r} needs a player {player.state_of!r} with the same networks")
    for network in method.ema:
        if network not in variables:
            raise ValueError(f"ema names network {network!r}, which the method does not make")


def due(players: Sequence[Player], step: int) -> tuple[str, ...]:
    """The names of the players that move on a step, in order. Decided on the host: each set is its own program."""
    return tuple(p.name for p in players if p.when(step))


def train_step(
    method: Method,
    players: Sequence[Player],
    state: TrainState,
    batch: Batch,
    active: tuple[str, ...],
    frozen: Variables,
) -> tuple[TrainState, dict[str, Array]]:
    """One step: the active players move in declared order, each seeing what the ones before it left.

    Args:
        method: gives the moving averages.
        players: all players of the method.
        state: the state before the step.
        batch: uint8 leaves are pictures and become floats in [-1, 1].
        active: which players move; static under jit.
        frozen: variables of networks that nobody moves.

    Returns:
        The state after the step, and metrics named ``player/term``.
    """
    batch = float_pictures(batch)
    metrics: dict[str, Array] = {}
    shared: PyTree = None
    for player in players:
        if player.name in active:
            state, out = _move(player, state, batch, shared, frozen)
            shared = shared if out.shared is None else out.shared
            metrics |= {f"{player.name}/{k}": v for k, v in out.metrics.items()}
    ema = {
        n: jax.tree.map(lambda e, p, d=decay: e * d + p * (1 - d), state.ema_params[n], state.params[n])
        for n, decay in method.ema.items()
    }
    return state.replace(step=state.step + 1, ema_params=ema), metrics


def _move(player: Player, state: TrainState, batch: Batch, shared: PyTree, frozen: Variables):
    rng: Key[Array, ""] = step_stream(state.rng, state.step, player.name)
    new_params, opt_state, out = player.update(
        {**frozen, **state.variables},
        player.owns,
        state.opt_states[player.state_name],
        batch,
        rng,
        step=state.step,
        shared=shared,
    )
    survivors = player.owns if player.persists is None else player.persists
    kept = {n: {**state.collections[n], **out.mutated[n]} for n in survivors if n in out.mutated}
    state = state.replace(
        params={**state.params, **new_params},
        collections={**state.collections, **kept},
        opt_states={**state.opt_states, player.state_name: opt_state},
    )
    return state, out
