"""Checkpoints: orbax writes the arrays, a digest of every leaf beside them tells whether they came back whole.

A checkpoint has three items: ``variables`` (params, collections, moving averages), ``optim`` (step, random
key, optimiser states; absent in imported checkpoints) and ``meta`` (shape, dtype and digest of every leaf,
and the batch that the method was initialised with), so that inference reads no more than it needs.
"""

import functools
import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, PyTree, UInt32
from orbax.checkpoint import checkpoint_managers

from reenax.core.errors import UserError
from reenax.core.types import Params, TrainState, Variables
from reenax.train.processes import all_agree, is_main, wait_for_all
from reenax.train.sharding import leaf_path, replicated

log = logging.getLogger("reenax")

Leaves = dict[str, dict[str, Any]]


SALT = 0x9E3779B1


@functools.cache
def _digest_on(mesh: Mesh | None) -> Any:
    """`_digest`, compiled; of an array on a mesh every process gets the whole result."""
    return jax.jit(_digest, out_shardings=None if mesh is None else replicated(mesh))


def _digest(leaf: Array) -> UInt32[Array, "2"]:
    """Two weighted sums of the leaf's words modulo 2**32.

    The weights are odd, so that any single changed word changes both sums, and depend on the position, so
    that swapped words do too. Sums do not depend on the sharding and need no gathering: that is why this is
    not a hash from a library.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    words = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    index = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    first = index * jnp.uint32(SALT) + jnp.uint32(1)
    second = (first ^ (first >> 15)) * jnp.uint32(0x85EBCA6B)
    second = (second ^ (second >> 13)) * jnp.uint32(0xC2B2AE35)
    weighted = [jnp.sum(words * (w | jnp.uint32(1)), dtype=jnp.uint32) for w in (first, second)]
    return jnp.stack(weighted)


def describe(tree: PyTree) -> Leaves:
    """Shape, dtype and digest of every leaf, by its path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    on = [leaf.sharding.mesh if isinstance(leaf.sharding, NamedSharding) else None for _, leaf in flat]
    digests = jax.device_get([_digest_on(mesh)(leaf) for mesh, (_, leaf) in zip(on, flat, strict=True)])
    return {
        leaf_path(path): {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "digest": f"{d[0]:08x}{d[1]:08x}"}
        for (path, leaf), d in zip(flat, digests, strict=True)
    }


def _changed(tree: PyTree, saved: Leaves) -> list[str]:
    now = describe(tree)
    return sorted(p for p in now.keys() | saved.keys() if now.get(p) != saved.get(p))


def _shapes(tree: PyTree) -> dict[str, tuple[Any, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {leaf_path(path): (*leaf.shape, str(leaf.dtype)) for path, leaf in flat}


class BadCheckpointError(Exception):
    """A checkpoint that cannot be read back whole; the message says what is wrong with it."""


def split_state(state: TrainState) -> dict[str, PyTree]:
    """A state as the items of a checkpoint."""
    variables = {"params": state.params, "collections": state.collections, "ema_params": state.ema_params}
    return {
        "variables": variables,
        "optim": {"step": state.step, "rng": state.rng, "opt_states": state.opt_states},
    }


def join_state(items: Mapping[str, PyTree]) -> TrainState:
    """The inverse of `split_state`."""
    return TrainState(**items["variables"], **items["optim"])


class Checkpoints:
    """The checkpoints of one run: the newest and the best are kept.

    Args:
        directory: where they are; made when absent.
        keep_latest: so many of the newest are kept.
        keep_best: so many of those with the lowest score are kept besides.
        tidy: remove what saves left behind that were cut off. For the training that writes here alone: another reader
            would remove what it is writing.
    """

    def __init__(self, directory: Path, *, keep_latest: int = 2, keep_best: int = 1, tidy: bool = False):
        self.directory = Path(directory).absolute()
        policies: list[Any] = [checkpoint_managers.LatestN(keep_latest)]
        if keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda m: m["score"],
                    reverse=True,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=lambda m: m["score"],
            best_mode="min",
            step_format_fixed_length=8,
            cleanup_tmp_directories=tidy,
        )
        self._manager = self._open()
        self._hook = sys.unraisablehook

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(self.directory, options=self._options)

    def __enter__(self) -> "Checkpoints":
        # Reads and writes that are under way when another one fails, for a damaged file or a full disk, end after orbax
        # has closed their event loop; that prints tracebacks, beside the error that is raised in time.
        sys.unraisablehook = self._hide_given_up
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing waits for the other processes; after an error they may have gone, and this one is about to go.
        if kind is None or jax.process_count() == 1:
            self._manager.close()
        sys.unraisablehook = self._hook

    def _hide_given_up(self, unraisable: Any) -> None:
        coroutine = getattr(unraisable.object, "cr_code", None)
        of_orbax = coroutine is not None and "orbax" in Path(coroutine.co_filename).parts
        if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
            self._hook(unraisable)

    def latest_step(self) -> int | None:
        """The step of the newest finished checkpoint."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all finished checkpoints."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the checkpoint with the lowest score."""
        return self._manager.best_step()

    def save(self, state: TrainState, batch_shapes: Mapping[str, Any], score: float | None = None) -> None:
        """Begins to write a checkpoint; returns when the state may be donated.

        Raises:
            UserError: the disk is full.
        """
        step, items = int(state.step), split_state(state)
        if step == self.latest_step():
            return
        meta = {"leaves": {name: describe(tree) for name, tree in items.items()}, "batch": dict(batch_shapes)}
        args = ocp.args.Composite(
            variables=ocp.args.StandardSave(items["variables"]),
            optim=ocp.args.StandardSave(items["optim"]),
            meta=ocp.args.JsonSave(meta),
        )
        self._guarded(lambda: self._manager.save(step, args=args, metrics=None if score is None else {"score": score}))

    def wait(self) -> None:
        """Returns when all that was begun is on disk.

        Raises:
            UserError: the disk is full.
        """
        self._guarded(self._manager.wait_until_finished)

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except (OSError, ValueError) as error:
            if "ENOSPC" not in str(error) and "No space left" not in str(error):
                raise
            raise self.disk_full() from error

    def disk_full(self) -> UserError:
        """What to say when there is no space left."""
        return UserError(
            f"the disk that holds {self.directory} is full: free some space and resume; the checkpoints up to step "
            f"{self.latest_step() or 0} are whole"
        )

    def restore(self, abstract: TrainState) -> TrainState | None:
        """The newest checkpoint that comes back whole; None when there is none.

        A damaged one is moved to ``set_aside`` beside the checkpoints, with a warning that says what was
        wrong with it, and the one before is tried.

        Args:
            abstract: shapes, dtypes and shardings of the state.

        Raises:
            UserError: all checkpoints are damaged, or they belong to another model.
        """
        bad: list[str] = []
        while (step := self.latest_step()) is not None:
            try:
                return join_state(self._read(step, split_state(abstract)))
            except BadCheckpointError as error:
                bad.append(str(step))
                self._set_aside(step, str(error))
        if bad:
            raise UserError(
                f"no checkpoint in {self.directory} is whole (damaged: steps {', '.join(bad)}); start a new run, "
                f"with --warm-start from another one if there is one"
            )
        return None

    def _set_aside(self, step: int, why: str) -> None:
        aside = self.directory.parent / "set_aside" / f"{step:08d}"
        self._manager.close()
        if is_main():
            log.warning("checkpoint of step %d is damaged (%s); moved to %s", step, why, aside)
            aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            shutil.move(self._folder(step), aside)
        wait_for_all("set aside")
        self._manager = self._open()

    def _folder(self, step: int) -> Path:
        return self.directory / f"{step:08d}"

    def meta(self, step: int) -> dict[str, Any]:
        """What is written beside the arrays of a checkpoint.

        Raises:
            BadCheckpointError: it cannot be read.
        """
        try:
            where: Any = self._folder(step) / "meta"
            return dict(ocp.JsonCheckpointHandler().restore(where, args=ocp.args.JsonRestore()))
        except Exception as error:  # orbax raises a different kind for every kind of damage
            raise BadCheckpointError(f"its description cannot be read: {_first_line(error)}") from error

    def _read(self, step: int, abstract: Mapping[str, PyTree]) -> dict[str, PyTree]:
        """Items of a checkpoint, whole; all processes must ask, and come to the same end."""
        problem = restored = None
        try:
            leaves = self.meta(step)["leaves"]
            restored = self._read_arrays(step, abstract, leaves)
        except BadCheckpointError as error:
            problem = error
        # A process reads the parts that its devices hold: what is damaged may be another one's part.
        if not all_agree(problem is None) or restored is None:
            raise problem or BadCheckpointError("another process could not read its part of the arrays")
        for name, tree in restored.items():
            changed = _changed(tree, leaves[name])
            if changed:
                raise BadCheckpointError(f"the contents of {', '.join(changed[:3])} are not those that were saved")
        return restored

    def _read_arrays(self, step: int, abstract: Mapping[str, PyTree], leaves: Mapping[str, Leaves]) -> dict[str, Any]:
        for name, tree in abstract.items():
            wanted = _shapes(tree)
            there = {p: (*d["shape"], d["dtype"]) for p, d in leaves.get(name, {}).items()}
            wrong = sorted(p for p in wanted.keys() | there.keys() if wanted.get(p) != there.get(p))
            if wrong:
                raise UserError(
                    f"the checkpoint of step {step} in {self.directory} is of another model: {len(wrong)} arrays "
                    f"differ, the first is {wrong[0]} (model {wanted.get(wrong[0], 'none')}, checkpoint "
                    f"{there.get(wrong[0], 'none')}); use the config that it was trained with"
                )
        # The handler and not the manager: that one waits for the other processes, of which one may have failed.
        handler: Any = ocp.StandardCheckpointHandler()
        where = self._folder(step)
        asked: dict[str, Any] = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}  # pyright: ignore[reportArgumentType]
        try:
            return {name: handler.restore(where / name, args=args) for name, args in asked.items()}
        except Exception as error:  # as above
            raise BadCheckpointError(f"its arrays cannot be read: {_first_line(error)}") from error

    def restore_variables(self, step: int, abstract: Mapping[str, PyTree]) -> Variables:
        """The variables to use after training: moving averages where a network has one.

        Args:
            step: which checkpoint.
            abstract: the tree of the item ``variables``.

        Raises:
            UserError: the checkpoint is damaged or of another model.
        """
        # Said outright: without it orbax wants the devices that the training had.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract)
        try:
            items = self._read(step, {"variables": placed})["variables"]
        except BadCheckpointError as error:
            others = ", ".join(str(s) for s in self.steps() if s != step) or "none"
            raise UserError(
                f"the checkpoint of step {step} in {self.directory} is damaged: {error}; others that --step can name: "
                f"{others}"
            ) from error
        params: Params = {**items["params"], **items["ema_params"]}
        return {n: {**items["collections"].get(n, {}), "params": p} for n, p in params.items()}


def save_variables(directory: Path, variables: Variables, batch_shapes: Mapping[str, Any]) -> None:
    """Writes variables that were not trained here as the checkpoint of step 0 of a folder."""
    tree = {
        "params": {n: v.get("params", {}) for n, v in variables.items()},
        "collections": {n: {k: c for k, c in v.items() if k != "params"} for n, v in variables.items()},
        "ema_params": {},
    }
    tree = jax.tree.map(jnp.asarray, tree)
    meta = {"leaves": {"variables": describe(tree)}, "batch": dict(batch_shapes)}
    with ocp.CheckpointManager(
        Path(directory).absolute(), options=ocp.CheckpointManagerOptions(step_format_fixed_length=8)
    ) as manager:
        manager.save(0, args=ocp.args.Composite(variables=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta)))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
