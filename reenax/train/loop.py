"""The training loop: batches in, steps, numbers, pictures and checkpoints out."""

import collections
import dataclasses
import itertools
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from reenax.core.errors import UserError
from reenax.core.types import Player, TrainState
from reenax.train.checkpoint import Checkpoints
from reenax.train.engine import NONFINITE, Engine
from reenax.train.processes import is_main
from reenax.train.progress import Progress
from reenax.train.sharding import put_batch
from reenax.train.validate import Validator
from reenax.train.writers import NoWriters, Writers

log = logging.getLogger("reenax")


class Preempted(Exception):
    """The run was asked to stop and has saved its state."""


class NonFiniteError(UserError):
    """A loss, a gradient or a network is no longer a number.

    Attributes:
        step: the first step of which something was not.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When the loop does what, in steps; 0 is never."""

    steps: int
    log_every: int
    save_every: int
    eval_every: int
    sample_every: int

    def due(self, every: int, step: int) -> bool:
        return every > 0 and (step % every == 0 or step == self.steps)


class StopSignal:
    """Turns SIGTERM and SIGINT into an answer that the loop asks for between steps.

    Of several processes any may be told to stop, and all must at the same step. jax agrees on that step; it listens to
    SIGTERM itself.
    """

    def __init__(self) -> None:
        self._received: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._together = jax.distributed.is_initialized()  # which makes jax take SIGTERM, also from one process

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self._received = signal.Signals(number).name
        log.info("%s: saving after this step", self._received)
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)

    def received(self, step: int) -> str | None:
        """The signal that says to stop after this step, in all processes alike; ask after every step."""
        if not self._together:
            return self._received
        return "SIGTERM" if multihost_utils.reached_preemption_sync_point(step) else None


class MetricQueue:
    """Brings metrics to the host some steps late, so that the device never waits for it; stops on non-finite ones.

    Args:
        players: in the order of their moves.
        delay: how many steps late.
    """

    def __init__(self, players: Sequence[Player], delay: int = 2):
        self._players, self._delay = players, delay
        self._queue: collections.deque[tuple[int, Mapping[str, Array]]] = collections.deque()

    def put(self, step: int, metrics: Mapping[str, Array]) -> list[tuple[int, dict[str, float]]]:
        self._queue.append((step, metrics))
        return self._take(self._delay)

    def drain(self) -> list[tuple[int, dict[str, float]]]:
        return self._take(0)

    def _take(self, left: int) -> list[tuple[int, dict[str, float]]]:
        taken = []
        while len(self._queue) > left:
            step, metrics = self._queue.popleft()
            values = {k: float(v) for k, v in jax.device_get(dict(metrics)).items()}
            networks = [tuple(k.split(NONFINITE)) for k in values if NONFINITE in k and values[k]]
            values = {k: v for k, v in values.items() if NONFINITE not in k}
            bad = {k: v for k, v in values.items() if not math.isfinite(v)}
            if bad or networks:
                raise _non_finite(step, bad, networks, self._players)
            taken.append((step, values))
        return taken


def _non_finite(
    step: int, terms: Mapping[str, float], networks: Sequence[tuple[str, ...]], players: Sequence[Player]
) -> NonFiniteError:
    """Names players, terms and the network that was the first to be no number, in the order of the moves.

    (A compiled step gives its metrics in alphabetical order.)
    """
    named = [t for p in players for t in terms if t.startswith(f"{p.name}/")]
    hurt = [n for p in players for n in (*p.owns, *(p.persists or ())) if (p.name, n) in networks]
    moved = [p.name for p in players if any(k[0] == p.name for k in (*networks, *(t.split("/") for t in terms)))]
    values = ", ".join(f"{t}={terms[t]}" for t in named) or "all terms are"
    first = f"the first network is {hurt[0]}" if hurt else "no network is yet"
    return NonFiniteError(
        f"step {step}: {' and '.join(moved)} no longer finite ({values}; {first}); the last checkpoint is kept: lower "
        f"config.lr, set config.optim.*.clip or use config.dtype=float32, and resume, or pass by the data that did it "
        f"with config.on_nonfinite=rewind",
        step,
    )


def on_device(batches: Iterator[Mapping[str, np.ndarray]], engine: Engine, ahead: int = 2) -> Iterator[Any]:
    """Starts the transfer of the next batches while the device works."""
    queue = collections.deque(put_batch(b, engine.mesh) for b in itertools.islice(batches, ahead))
    while queue:
        yield queue.popleft()
        queue.extend(put_batch(b, engine.mesh) for b in itertools.islice(batches, 1))


def run_loop(
    engine: Engine,
    state: TrainState,
    batches: Iterator[Mapping[str, np.ndarray]],
    schedule: Schedule,
    checkpoints: Checkpoints,
    writers: Writers | NoWriters,
    shapes: Mapping[str, Any],
    validator: Validator | None = None,
) -> TrainState:
    """Trains from the state's step to the end.

    Args:
        engine: runs the steps.
        state: where to begin.
        batches: this process's part of the batches from that step on.
        schedule: when to do what.
        checkpoints: where states are saved.
        writers: where numbers and pictures go.
        shapes: the batch's shapes, saved with the checkpoints.
        validator: measures and draws held-out pictures.

    Returns:
        The last state.

    Raises:
        Preempted: SIGTERM or SIGINT came; the state is saved.
        NonFiniteError: a loss or gradient is no longer finite; the last good checkpoint is kept.
        UserError: the disk is full.
    """
    start = int(state.step)
    queue, scored = MetricQueue(engine.players), (-1, math.nan)
    remarked: set[str] = set()
    with StopSignal() as stop, Progress(start, schedule.steps, engine.batch_size, shown=is_main()) as progress:

        def report(rows: list[tuple[int, dict[str, float]]]) -> None:
            for at, values in rows:
                progress.update(at, values)
                if schedule.due(schedule.log_every, at):
                    writers.scalars(at, {**values, **progress.rates()})
                    progress.line(at, values)
                    for remark in engine.method.remarks(values):
                        if remark not in remarked:
                            log.warning("step %d: %s", at, remark)
                        remarked.add(remark)

        def save(done: int) -> None:
            report(queue.drain())  # before saving: a state that is not finite is never saved
            began = time.perf_counter()
            checkpoints.save(state, shapes, scored[1] if scored[0] == done else None)
            progress.saved(time.perf_counter() - began)

        for done, batch in zip(range(start + 1, schedule.steps + 1), on_device(batches, engine), strict=False):
            state, metrics = engine.step(state, batch, done - 1)
            report(queue.put(done, metrics))
            if validator is not None and schedule.due(schedule.eval_every, done):
                report(queue.drain())
                values = validator.measure(state)
                scored = (done, values["eval/l1"])
                writers.scalars(done, values)
                progress.say(f"step {done}: " + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
            if validator is not None and schedule.due(schedule.sample_every, done):
                report(queue.drain())
                validator.draw(state, done, writers)
            if schedule.due(schedule.save_every, done):
                save(done)
            if told := stop.received(done):
                save(done)
                checkpoints.wait()
                raise Preempted(f"{told}: saved step {done}")
        report(queue.drain())
        checkpoints.wait()
    return state
