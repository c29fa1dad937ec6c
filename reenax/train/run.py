"""`reenax train`: from a config and a dataset to a run folder, or on from where a run stopped."""

import contextlib
import errno
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipelines import loader
from data_pipelines.building import SETTINGS_FILE
from reenax.core.errors import UserError
from reenax.core.types import Method, TrainState, Variables
from reenax.train.checkpoint import Checkpoints
from reenax.train.engine import Engine
from reenax.train.facts import differences, gather_facts, read_facts, weights_of, write_facts
from reenax.train.frozen import load_frozen
from reenax.train.loop import NonFiniteError, Schedule, run_loop
from reenax.train.optim import make_optimisers
from reenax.train.processes import from_main, is_main, wait_for_all
from reenax.train.rewinds import MOST_FROM_ONE_STEP, Rewinds
from reenax.train.runs import (
    Config,
    Trained,
    batch_shapes,
    check_run_folder,
    create_run,
    load_trained,
    make_method,
    read_config,
    write_config,
)
from reenax.train.sharding import leaf_path, make_mesh, own_rows
from reenax.train.validate import Validator
from reenax.train.writers import NoWriters, Writers

log = logging.getLogger("reenax")

EVAL_BATCHES = 4
CLIP_FRAMES = 64


def train(config: Config, data: Path, folder: Path, warm_start: Path | None = None) -> None:
    """Trains a method into a new run folder.

    Args:
        config: see `configs`.
        data: a dataset folder that `reenax prepare` made.
        folder: the run folder; must not hold anything yet.
        warm_start: a run folder or an imported checkpoint whose variables are started from.

    Raises:
        UserError: anything that the user can mend.
    """
    check_place(folder)
    method = make_method(config)
    clips = _open(method, config, data)
    config = _with_steps(config, loader.items_per_epoch(clips, config.data))
    frozen = load_frozen(method, config.frozen.to_dict(), config.method)
    started = None if warm_start is None else _warm_start(load_trained(warm_start), config.method)
    engine, example = _engine(config, method, clips, frozen, started)
    facts = gather_facts(config, data, warm_start)
    if is_main():
        create_run(folder, config, facts)
    wait_for_all("run folder")
    _run(config, folder, clips, engine, example)


def check_place(folder: Path) -> None:
    """Refuses a run folder that is not empty; one process looks.

    Raises:
        UserError: it is not.
    """
    if is_main():
        check_run_folder(folder)
    wait_for_all("new run folder")


def holds_run(folder: Path) -> bool:
    """Whether there is a run in a folder already; all processes are told the same."""
    return bool(from_main(int((Path(folder) / "config.json").is_file())))


def resume(folder: Path, data: Path | None = None, overrides: Callable[[Config], Config] | None = None) -> None:
    """Continues a run from its newest whole checkpoint; the numbers equal those of an uninterrupted run.

    Args:
        folder: the run folder.
        data: the dataset, when it has moved.
        overrides: changes to the run's config.

    Raises:
        UserError: anything that the user can mend.
    """
    before = read_config(folder)
    config = before if overrides is None else overrides(read_config(folder))
    facts = read_facts(folder)
    data = Path(facts["data"]) if data is None else data
    method = make_method(config)
    clips = _open(method, config, data)
    if clips.digest != facts["data_digest"]:
        raise UserError(
            f"{data} is not the dataset that {folder} was trained on (digest {clips.digest[:12]}, was "
            f"{facts['data_digest'][:12]}); give the original one with --data, or start a new run with --warm-start"
        )
    frozen = load_frozen(method, config.frozen.to_dict(), config.method)
    began = from_main(int(any(folder.glob("checkpoints/[0-9]*[0-9]"))))
    started = None if began else _started_from(folder, facts, config.method)
    engine, example = _engine(config, method, clips, frozen, started)
    now = gather_facts(config, data) | {"warm_start": facts.get("warm_start")}  # looked at when it is used
    changes = differences(facts, now)
    if before.to_dict() != config.to_dict():
        changes.append("the config was changed")
    _run(config, folder, clips, engine, example, changes)


def _open(method: Method, config: Config, data: Path) -> loader.Clips:
    clips = loader.open_clips(data, "train")
    missing = sorted(method.fields - clips.fields)
    if missing:
        raise UserError(
            f"{config.method} needs the field {missing[0]!r}, which {data} does not have (it has: "
            f"{', '.join(sorted(clips.fields))}); prepare a dataset that has it"
        )
    if clips.size != config.data.size:
        raise UserError(
            f"{data} holds frames of {clips.size}x{clips.size}, config.data.size is {config.data.size}; "
            f"prepare with --size {config.data.size}, or take a config of that size"
        )
    if "attributes" in method.fields and method.label_names:
        _check_attributes(method, data)
    return clips


def _check_attributes(method: Method, data: Path) -> None:
    """Refuses attributes of other names than the method's labels; their columns are told apart by place alone."""
    path = data / SETTINGS_FILE
    try:
        noted = json.loads(path.read_text("utf-8")).get("attributes") if path.is_file() else None
    except (OSError, ValueError, AttributeError):  # training does without this file
        noted = None
    labels = ",".join(method.label_names)
    if noted and noted != labels:
        raise UserError(
            f"{data} has the attributes {noted}, and config.model.label_names is {labels}: prepare with "
            f"--attributes {labels}, or set config.model.label_names to the dataset's own, in their order"
        )


def _with_steps(config: Config, items: int) -> Config:
    """The config with ``steps_per_epoch`` and ``steps`` filled in from the dataset's size."""
    per_epoch = max(1, items * config.repeats // config.batch_size)
    steps = per_epoch * config.epochs if config.steps is None else config.steps
    if steps < 1:
        raise UserError(f"config.steps={steps}: it must be at least 1")
    return ConfigDict({**config.to_dict(), "steps_per_epoch": per_epoch, "steps": steps})


def _batches(config: Config, clips: loader.Clips, mesh: Mesh, start: int, workers: int) -> loader.Batches:
    """This process's part of the training batches from a place in their stream on."""
    return loader.batches(
        clips,
        config.data,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        rows=own_rows(config.batch_size, mesh),
        threads=config.data.threads,
        workers=workers,
    )


def _engine(
    config: Config,
    method: Method,
    clips: loader.Clips,
    frozen: Variables,
    warm_start: Callable[[Variables], Variables] | None,
) -> tuple[Engine, dict[str, np.ndarray]]:
    """The engine, and the batch whose shapes it was built for."""
    if config.get("on_nonfinite", "stop") not in ("stop", "rewind"):
        raise UserError(f"config.on_nonfinite={config.on_nonfinite!r}: there are 'stop' and 'rewind'")
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
    if config.batch_size % (config.accumulate * mesh.size):
        raise UserError(
            f"config.batch_size={config.batch_size} is no multiple of config.accumulate={config.accumulate} x "
            f"{mesh.size} devices; change one of them, or config.mesh.data"
        )
    optimisers = make_optimisers(config.optim.to_dict(), config.steps, config.steps_per_epoch)
    players = method.players(optimisers, config.accumulate)
    with _batches(config, clips, mesh, 0, workers=0) as batches:
        example = next(batches)
    engine = Engine.build(method, players, mesh, example, seed=config.seed, frozen=frozen, warm_start=warm_start)
    return engine, example


def _run(
    config: Config,
    folder: Path,
    clips: loader.Clips,
    engine: Engine,
    example: Mapping[str, np.ndarray],
    changes: Sequence[str] = (),
) -> None:
    """Trains from the newest checkpoint to the end; ``changes`` are what differs from how the run began."""
    schedule = Schedule(config.steps, config.log_every, config.save_every, config.eval_every, config.sample_every)
    log.info("%s: %s", config.method, engine.describe())
    where = folder / "checkpoints"
    with Checkpoints(where, keep_latest=config.keep_latest, keep_best=config.keep_best, tidy=True) as checkpoints:
        state = checkpoints.restore(engine.abstract)
        if state is None:
            state = engine.fresh_state(example)
        start = int(state.step)
        if changes:
            _note_changes(folder, config, start, changes)
        if start >= config.steps:
            log.info("%s is at step %d of %d: nothing left to do", folder, start, config.steps)
            return
        if start:
            log.info("continuing from step %d", start)
        validator = _validator(config, clips, engine)
        rewinds = Rewinds(folder, start)
        writers = Writers(folder, config.to_dict(), start, read_facts(folder)) if is_main() else NoWriters()
        shapes = batch_shapes(example)
        try:
            while True:
                at = rewinds.data_step(int(state.step))
                try:
                    with _batches(config, clips, engine.mesh, at, config.data.workers) as batches:
                        run_loop(engine, state, batches, schedule, checkpoints, writers, shapes, validator)
                    break
                except NonFiniteError as error:
                    if config.get("on_nonfinite", "stop") == "stop":
                        raise
                    failed, state = error.with_traceback(None), None  # which held the loop's own state
                state = _go_back(engine, example, checkpoints, rewinds, failed)
                writers.go_back(int(state.step))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
                raise
            raise UserError(
                f"out of memory at config.batch_size={config.batch_size}: lower it, raise config.accumulate, set "
                f"config.remat=True or config.dtype=bfloat16; the checkpoints are whole"
            ) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise checkpoints.disk_full() from error
        finally:
            with contextlib.suppress(OSError):  # every row was flushed: what a full disk says here was said before
                writers.close()
    log.info("done: %d steps in %s", config.steps, folder)


def _note_changes(folder: Path, config: Config, step: int, changes: Sequence[str]) -> None:
    """Says, here and in the run folder, that a run goes on with something else than before."""
    log.warning("%s goes on from step %d with changes: %s", folder, step, "; ".join(changes))
    if is_main():
        facts = read_facts(folder)
        resumed = [*facts.get("resumed", ()), {"step": step, "changes": list(changes)}]
        write_facts(folder, {**facts, "resumed": resumed})
        write_config(folder, config)


def _go_back(
    engine: Engine,
    example: Mapping[str, np.ndarray],
    checkpoints: Checkpoints,
    rewinds: Rewinds,
    error: NonFiniteError,
) -> TrainState:
    """The state of the last checkpoint, to go on from with other data; raises the error when that was of no use."""
    checkpoints.wait()
    state = checkpoints.restore(engine.abstract)
    if state is None:
        state = engine.fresh_state(example)
    step = int(state.step)
    if rewinds.times(step) >= MOST_FROM_ONE_STEP:
        raise NonFiniteError(f"{error}; it went back to step {step} {MOST_FROM_ONE_STEP} times already", error.step)
    rewinds.add(error.step, step, write=is_main())
    log.warning("%s; going back to step %d and on with other data", str(error).split("; the last checkpoint")[0], step)
    return state


def _validator(config: Config, train_clips: loader.Clips, engine: Engine) -> Validator | None:
    """Held-out pictures: the test split, or the training's own where there is none."""
    if not config.eval_every and not config.sample_every:
        return None
    try:
        clips = loader.open_clips(train_clips.directory, "test")
        why = "" if set(config.data.people) <= set(clips.identities) else "none of the people of data.people in its"
    except UserError:
        why = "no"
    if why:
        log.warning("%s has %s test split: eval/l1 is measured on training clips", train_clips.directory, why)
        clips = train_clips
    settings = {**config.data.to_dict(), "swap": False, "flip": False, "jitter": {}, "resize": ()}
    with loader.batches(
        clips,
        settings,
        batch_size=config.batch_size,
        seed=0,
        start=0,
        rows=own_rows(config.batch_size, engine.mesh),
        threads=config.data.threads,
        workers=0,
    ) as batches:
        held_out = [next(batches) for _ in range(EVAL_BATCHES)]
    shown = [k for k, name in enumerate(clips.clip_identities) if engine.method.portrays in ("", name)]
    record, frames = _shown_clip(clips, shown or [0], skip=config.data.get("damaged") == "skip")
    found = [record[field][: len(frames)] for field in engine.method.reads if field in record]
    return Validator(engine, held_out, frames, float(record["fps"]), found[0] if found else None)


def _shown_clip(clips: loader.Clips, chosen: Sequence[int], *, skip: bool) -> tuple[Mapping[str, Any], np.ndarray]:
    """The first of the chosen clips, and its first frames; with ``skip``, the first that can be read."""
    for number in chosen:
        try:
            record = clips[number]
            return record, np.stack(clips.frames(number, range(min(CLIP_FRAMES, len(record["frames"])))))
        except loader.DamagedRecordError:
            if not skip or number == chosen[-1]:
                raise
    raise AssertionError("there is always a clip")


def _warm_start(trained: Trained, name: str) -> Callable[[Variables], Variables]:
    """Starts from the networks of another run; those whose arrays have other shapes stay fresh.

    (An adversarial fine-tuning keeps generator and detector, and begins with a new discriminator.)
    """

    def start(fresh: Variables) -> Variables:
        taken = {network: v for network, v in trained.variables.items() if _shapes(v) == _shapes(fresh.get(network))}
        if not taken:
            raise UserError(
                f"--warm-start holds no network of the shapes that this config of {name} wants ({', '.join(fresh)}); "
                f"use a config that is nearer to the one that it was made with"
            )
        for network in sorted(set(fresh) - set(taken)):
            log.warning("warm start: %s begins fresh, what is there has other shapes", network)
        return {network: jax.tree.map(jax.numpy.asarray, taken.get(network, v)) for network, v in fresh.items()}

    return start


def _started_from(folder: Path, facts: Mapping[str, Any], name: str) -> Callable[[Variables], Variables] | None:
    """The warm start of a run that was stopped before its first checkpoint."""
    then = facts.get("warm_start")
    if then is None:
        return None
    source = Path(then["folder"])
    if weights_of(source, then["step"])["digest"] != then["digest"]:
        raise UserError(
            f"{folder} has no checkpoint yet, and {source}, which it started from, holds other variables now; start a "
            f"new run"
        )
    return _warm_start(load_trained(source, then["step"]), name)


def _shapes(collections: Any) -> dict[str, tuple[int, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(dict(collections or {}))
    return {leaf_path(path): leaf.shape for path, leaf in flat}
