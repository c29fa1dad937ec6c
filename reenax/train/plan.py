"""What a training will need: memory, work and traffic of its compiled steps, for a mesh that need not be there.

The steps are compiled for as many CPU devices as the mesh has, which one machine can pretend to have. No state is made,
no data is read. Not all that the compiler for CPUs decides is what those for GPUs and TPUs would decide:
`reenax.train.plan_report.NOTES` says what to make of the numbers.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from data_pipelines.blank import blank_example
from reenax.core.errors import UserError
from reenax.core.step import due
from reenax.core.types import Method, Player, param_count
from reenax.train.accelerators import Accelerator
from reenax.train.engine import Engine
from reenax.train.hlo import Collective, Program
from reenax.train.optim import make_optimisers
from reenax.train.runs import Config, make_method
from reenax.train.sharding import batch_sharding, replicated

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""How the machine code is made, which nobody runs; what is read here is settled before."""


@dataclasses.dataclass(frozen=True)
class Held:
    """Bytes that stay on every device from step to step.

    Attributes:
        params: of all trained networks.
        optimiser: the optimisers' states.
        other: all other collections, moving averages, the step's number and the random key.
        frozen: networks that nobody moves.
        batch: one batch.
    """

    params: int
    optimiser: int
    other: int
    frozen: int
    batch: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Step:
    """The step in which certain players move, as it is compiled for one device.

    Attributes:
        players: who moves.
        share: of all steps.
        activations: bytes of everything between the arguments and the results, at the worst moment.
        arguments: bytes of what it is given; a part of `Held`, since what it does not read is not passed.
        flops: floating point operations.
        touched: bytes read and written by its kernels.
        collectives: what it exchanges with other devices.
    """

    players: tuple[str, ...]
    share: float
    activations: int
    arguments: int
    flops: float
    touched: float
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a config needs on a mesh.

    Attributes:
        config: the config.
        mesh: for which it was compiled.
        params: how many numbers are trained, by network.
        held: what stays in memory.
        steps: one for every set of players that is ever due.
    """

    config: Config
    mesh: Mesh
    params: Mapping[str, int]
    held: Held
    steps: tuple[Step, ...]

    @property
    def memory(self) -> int:
        """Bytes on each device, in the step that needs most."""
        return self.held.total + max(step.activations for step in self.steps)


@dataclasses.dataclass(frozen=True)
class Seconds:
    """How long a step takes by a roofline: if nothing but peaks limited what the CPU program does.

    Attributes:
        compute: at the accelerator's peak.
        memory: at its memory's full bandwidth.
        communication: around rings at the full speed of the slowest link on the way, without latency.
    """

    compute: float
    memory: float
    communication: float

    @property
    def total(self) -> float:
        """Compute and memory at the same time, communication by itself."""
        return max(self.compute, self.memory) + self.communication


def make_plan(config: Config, mesh: Mesh) -> Plan:
    """Compiles the steps of a config for a mesh.

    Args:
        config: see `configs`; its dataset may be anywhere.
        mesh: of any devices, see `reenax.train.sharding.make_mesh`; ``config.mesh`` is not looked at.

    Raises:
        UserError: anything that the user can mend.
    """
    method = make_method(config)
    _check_batch(config, mesh)
    # an epoch's length is the dataset's and changes nothing but the learning rates
    optimisers = make_optimisers(config.optim.to_dict(), config.steps or 1, 1)
    players = method.players(optimisers, config.accumulate)
    batch = _blank_batch(config, method)
    engine = Engine.build(method, players, mesh, batch, seed=config.seed)
    engine.frozen = _abstract_frozen(method, mesh)
    cut = batch_sharding(mesh)
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=cut) for k, v in batch.items()}
    state = engine.abstract
    held = Held(
        bytes_per_device(state.params),
        bytes_per_device(state.opt_states),
        bytes_per_device((state.collections, state.ema_params, state.step, state.rng)),
        bytes_per_device(engine.frozen),
        bytes_per_device(shapes),
    )
    steps = [inspect(engine, shapes, active, share) for active, share in due_sets(players, config.steps).items()]
    counts = {network: param_count(params) for network, params in state.params.items()}
    return Plan(config, mesh, counts, held, tuple(steps))


def inspect(engine: Engine, batch: Mapping[str, Any], active: tuple[str, ...], share: float = 1.0) -> Step:
    """Compiles the step of some players and reads what it needs.

    Args:
        engine: the method on its mesh.
        batch: shapes with shardings.
        active: who moves.
        share: of all steps.
    """
    compiled = engine.lower(engine.abstract, batch, active).compile(compiler_options=dict(QUICKLY))
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text()
    assert memory is not None  # programs for CPUs tell both
    assert text is not None
    program = Program(text)
    work = program.work  # XLA counts the content of a loop once
    return Step(
        active,
        share,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.argument_size_in_bytes,
        cost.get("flops", 0.0) + work.flops - work.flops_once,
        cost.get("bytes accessed", 0.0) + work.bytes - work.bytes_once,
        program.collectives,
    )


def expect(step: Step, accelerator: Accelerator, dtype: str) -> Seconds:
    """A roofline: how long the step takes on such devices if nothing but their peaks limits it."""
    peak = accelerator.bfloat16 if dtype == "bfloat16" else accelerator.float32
    moved = sum((c.sent / speed(c.group, accelerator) for c in step.collectives), 0.0)
    return Seconds(step.flops / peak, step.touched / accelerator.bandwidth, moved)


def speed(group: Sequence[int], accelerator: Accelerator) -> float:
    """Bytes per second that each device of a group can send around: where islands must be left, what their shares of
    the network come to for all members that share an island."""
    islands = [number // accelerator.island for number in group]
    if len(set(islands)) == 1:
        return accelerator.link
    members = min(islands.count(island) for island in set(islands))
    return min(accelerator.link, accelerator.network * members)


def due_sets(players: Sequence[Player], steps: int | None) -> dict[tuple[str, ...], float]:
    """Every set of players that is ever due, with its share of the steps, in the order of their first steps.

    Args:
        players: all of them.
        steps: length of the training; None for as long as it takes until what is due repeats itself.
    """
    turns = math.lcm(*(player.when.n for player in players))
    edges = {edge for player in players for edge in (player.when.start, player.when.stop)}
    last = max((edge for edge in edges if edge < 2**31 - 1), default=0)
    end = last + turns if steps is None else steps
    marks = [0, *sorted(edge for edge in edges if 0 < edge < end), end]
    counts: dict[tuple[str, ...], int] = {}
    for begin, stop in itertools.pairwise(marks):
        for first in range(begin, min(begin + turns, stop)):
            names = due(players, first)
            counts[names] = counts.get(names, 0) + len(range(first, stop, turns))
    return {names: count / end for names, count in counts.items()}


def bytes_per_device(tree: PyTree) -> int:
    """Bytes of one device's part of arrays, or of their shapes with shardings."""

    def size(leaf: Any) -> int:
        item = 4 * 2 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * item

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _check_batch(config: Config, mesh: Mesh) -> None:
    for key in ("batch_size", "accumulate"):
        if config[key] < 1:
            raise UserError(f"config.{key}={config[key]}: it must be at least 1")
    if config.steps is not None and config.steps < 1:
        raise UserError(f"config.steps={config.steps}: it must be at least 1")
    pieces = config.accumulate * mesh.size
    if config.batch_size % pieces:
        raise UserError(
            f"config.batch_size={config.batch_size} is no multiple of config.accumulate={config.accumulate} x "
            f"{mesh.size} devices; the next one is --config.batch_size={-(-config.batch_size // pieces) * pieces}, or "
            f"take fewer devices (--mesh)"
        )


def _blank_batch(config: Config, method: Method) -> dict[str, np.ndarray]:
    """A batch of which only the shapes are real: it takes the memory of one example."""
    example = blank_example(config.data, {"attributes": len(method.label_names)} if method.label_names else {})
    return {k: np.broadcast_to(v, (config.batch_size, *v.shape)) for k, v in example.items()}


def _abstract_frozen(method: Method, mesh: Mesh) -> dict[str, PyTree]:
    whole = replicated(mesh)
    return {
        name: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
            jax.eval_shape(network.init, jax.random.key(0)),
        )
        for name, network in method.frozen.items()
    }
