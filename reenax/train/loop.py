"""The training loop: batches in, steps, numbers, pictures and checkpoints out."""

import collections
import dataclasses
import itertools
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from reenax.core.errors import UserError
from reenax.core.types import TrainState
from reenax.train.checkpoint import Checkpoints
from reenax.train.engine import Engine
from reenax.train.progress import Progress
from reenax.train.sharding import put_batch
from reenax.train.validate import Validator
from reenax.train.writers import Writers

log = logging.getLogger("reenax")

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again with --resume


class Preempted(Exception):
    """The run was asked to stop and has saved its state."""


class NonFiniteError(UserError):
    """A loss or a gradient is no longer a number."""


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
    """Turns SIGTERM and SIGINT into a flag that the loop looks at between steps."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.received = signal.Signals(number).name
        log.info("%s: saving after this step", self.received)


class MetricQueue:
    """Brings metrics to the host some steps late, so that the device never waits for it; stops on non-finite ones."""

    def __init__(self, delay: int = 2):
        self._delay = delay
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
            bad = {k: v for k, v in values.items() if not math.isfinite(v)}
            if bad:
                players = sorted({k.split("/")[0] for k in bad})
                terms = ", ".join(f"{k}={v}" for k, v in bad.items())
                raise NonFiniteError(
                    f"step {step}: {' and '.join(players)} no longer finite ({terms}); the last checkpoint is kept: "
                    f"lower config.lr, set config.optim.*.clip, or use config.dtype=float32, and resume"
                )
            taken.append((step, values))
        return taken


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
    writers: Writers,
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
    queue, scored = MetricQueue(), (-1, math.nan)
    remarked: set[str] = set()
    with StopSignal() as stop, Progress(start, schedule.steps, engine.batch_size) as progress:

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
            checkpoints.save(state, shapes, scored[1] if scored[0] == done else None)

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
            if stop.received:
                save(done)
                checkpoints.wait()
                raise Preempted(f"{stop.received}: saved step {done}")
        report(queue.drain())
        checkpoints.wait()
    return state
