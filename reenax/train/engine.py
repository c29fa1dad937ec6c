"""The compiled step: a method, its players, a mesh and a state that lives on it."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from reenax.core.step import check_players, create_state, due, train_step
from reenax.core.types import Method, Player, TrainState, Variables, param_count
from reenax.train.sharding import batch_sharding, own_rows, put_batch, replicated, state_sharding

log = logging.getLogger("reenax")

NONFINITE = "/nonfinite/"


@dataclasses.dataclass
class Engine:
    """Runs train steps of any method on any mesh.

    Attributes:
        method: the method.
        players: its players.
        mesh: where the arrays live.
        frozen: variables of networks that nobody moves; kept whole on every device, never donated.
        abstract: shapes, dtypes and shardings of the state.
        batch_size: examples per step over all processes.
    """

    method: Method
    players: Sequence[Player]
    mesh: Mesh
    frozen: Variables
    abstract: TrainState
    batch_size: int
    _create: Callable[[Mapping[str, Array]], TrainState]
    _programs: dict[tuple[str, ...], Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def build(
        cls,
        method: Method,
        players: Sequence[Player],
        mesh: Mesh,
        batch: Mapping[str, np.ndarray],
        *,
        seed: int,
        frozen: Variables | None = None,
        warm_start: Callable[[Variables], Variables] | None = None,
    ) -> "Engine":
        """Plans shapes and shardings; nothing is computed yet.

        Args:
            method: the method.
            players: its players.
            mesh: where the arrays live.
            batch: this process's part of one batch, for its shapes.
            seed: everything random follows from it.
            frozen: variables of the frozen networks.
            warm_start: turns the fresh variables into those to start from.

        Raises:
            UserError: the batch cannot be cut over the devices.
        """
        size = next(iter(batch.values())).shape[0] * jax.process_count()
        own_rows(size, mesh)

        def create(b: Mapping[str, Array]) -> TrainState:
            return create_state(method, players, seed, b, warm_start)

        shapes = {k: jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype) for k, v in batch.items()}
        abstract: Any = jax.eval_shape(create, shapes)
        check_players(method, players, abstract.variables)
        shardings = state_sharding(abstract, mesh, method.shard_rules)
        abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
        jitted = jax.jit(create, in_shardings=batch_sharding(mesh), out_shardings=shardings)
        # from the host's memory: arrays that are bound to one device cannot go to those of other processes
        placed = jax.device_put(jax.tree.map(np.asarray, dict(frozen or {})), replicated(mesh))
        return cls(method, players, mesh, placed, abstract, size, jitted)

    def fresh_state(self, batch: Mapping[str, np.ndarray]) -> TrainState:
        """The state of step 0, made on the mesh."""
        return self._create(put_batch(batch, self.mesh))

    def step(self, state: TrainState, batch: Mapping[str, Array], index: int) -> tuple[TrainState, dict[str, Array]]:
        """One train step. The state given is donated: use the one returned.

        The metrics are named ``player/term``; ``player/nonfinite/network`` is 1 for a network that is no longer finite.

        Args:
            state: the state before the step.
            batch: global arrays, see `put_batch`.
            index: the number of the step, ``state.step`` as known to the host.
        """
        active = due(self.players, index)
        if active not in self._programs:
            self._programs[active] = self._compile(state, batch, active)
        return self._programs[active](state, batch, self.frozen)

    def _compile(self, state: TrainState, batch: Mapping[str, Array], active: tuple[str, ...]) -> Any:
        began = time.perf_counter()
        compiled = self.lower(state, batch, active).compile()
        log.info("compiled the step of %s: %s", " + ".join(active) or "nobody", _cost(compiled, began))
        return compiled

    def lower(self, state: TrainState, batch: Mapping[str, Any], active: tuple[str, ...]) -> jax.stages.Lowered:
        """The step of some players, ready to be compiled.

        Args:
            state: a state of this engine, or `abstract`: shapes are enough.
            batch: global arrays, see `put_batch`, or their shapes with shardings.
            active: names of the players that move.
        """

        def run(s: TrainState, b: Mapping[str, Array], f: Variables) -> tuple[TrainState, dict[str, Array]]:
            state, metrics = train_step(self.method, self.players, s, b, active, f)
            moved = [p for p in self.players if p.name in active]
            return state, metrics | {
                f"{p.name}{NONFINITE}{n}": v for p in moved for n, v in _nonfinite(p, state).items()
            }

        shardings = jax.tree.map(lambda x: x.sharding, self.abstract)
        jitted = jax.jit(run, donate_argnums=0, out_shardings=(shardings, replicated(self.mesh)))
        return jitted.lower(state, batch, self.frozen)

    def describe(self) -> str:
        """One line on what is trained and where."""
        counts = {n: param_count(p) for n, p in self.abstract.params.items()}
        networks = ", ".join(f"{n} {c / 1e6:.2f}M" for n, c in counts.items())
        shape = " x ".join(f"{a}={self.mesh.shape[a]}" for a in self.mesh.axis_names)
        kind = self.mesh.devices.flat[0].device_kind
        return f"{sum(counts.values()) / 1e6:.2f}M parameters ({networks}) on {self.mesh.size} x {kind} ({shape})"


def _nonfinite(player: Player, state: TrainState) -> dict[str, Array]:
    """Of every network that a player moves or changes, 1 when it holds an infinity or NaN, else 0."""
    found = {}
    for network in dict.fromkeys((*player.owns, *(player.persists or ()))):
        leaves = jax.tree.leaves((state.params[network], state.collections[network]))
        fine = [jnp.all(jnp.isfinite(x)) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
        found[network] = 1 - jnp.all(jnp.array([True, *fine])).astype(jnp.float32)
    return found


def _cost(compiled: Any, began: float) -> str:
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    parts = [f"{cost.get('flops', 0) / 1e9:.1f} GFLOP", f"{cost.get('bytes accessed', 0) / 1e9:.2f} GB touched"]
    if memory is not None:
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        parts.append(f"{held / 1e9:.2f} GB held per device")
    return ", ".join([*parts, f"{time.perf_counter() - began:.1f} s"])
