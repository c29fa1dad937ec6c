"""How training holds up when it is cut over processes, saved and started again: ``python experiments/speed.py scale``.

Numbers of trainings come from what they log themselves, in ``metrics.jsonl``; nothing runs in this process.
"""

import json
import math
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.launch import local
from experiments.launch.local import TRAINER, Local, device_environments
from experiments.launch.training import Training, last_line, newest_step
from experiments.speed import noise_clips
from reenax.core.errors import UserError
from reenax.train.config import load_config

PARTS = ("loader", "steps", "stall", "start")
REMEMBERED = 100  # steps over which a training says how fast it is
WARM_STEPS = 10  # first steps of a training that are not counted
FEWEST_STEPS = 12
SAVE_EVERY = 100  # steps between two checkpoints, of which the stall is given a share
STALL_GOAL = 0.02
QUIET = ("--config.log_every=1", "--config.eval_every=0", "--config.sample_every=0")


class Timing(NamedTuple):
    """What a training's log says of its speed, in seconds.

    Attributes:
        steps: of every step but the first, which nothing comes before.
        saves: that the loop waited for every checkpoint but the last, which no row comes after.
    """

    steps: list[float]
    saves: list[float]


def read_timing(run: Path) -> Timing:
    """Reads a run that logged every step.

    A row holds the mean rate over the steps that are remembered: when its step was done follows from when the oldest of
    them was, which an earlier row said.
    """
    moments: dict[int, float] = {}
    saves: list[float] = []
    for line in (run / "metrics.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        step, rate = row["step"], row.get("speed/steps_per_s")
        if not moments:
            moments[step] = 0.0
        elif rate is not None:
            steps = min(step - min(moments), REMEMBERED - 1)
            moments[step] = moments[step - steps] + steps / rate
        waited = row.get("speed/save_seconds")
        if waited is not None and waited not in saves[-1:]:
            saves.append(waited)
    return Timing([moments[k] - moments[k - 1] for k in moments if k - 1 in moments], saves)


def settled_step(timing: Timing) -> float:
    """Median seconds of a step, without the first ones."""
    return statistics.median(timing.steps[min(WARM_STEPS, len(timing.steps) // 2) :])


class Trials:
    """A folder to train in, and how trainings are started there.

    Args:
        folder: for runs and made-up data.
        data: a prepared dataset; noise is made where it is None.
        trainer: the program that takes a training's arguments.
    """

    def __init__(self, folder: Path, data: Path | None, trainer: Sequence[str]):
        self.folder, self.trainer = folder, trainer
        self._data = data
        self._runs = 0

    def data(self, size: int) -> Path:
        """A dataset with frames of that size, or the one that was given."""
        if self._data is not None:
            return self._data
        made = self.folder / f"noise{size}"
        return made if made.exists() else noise_clips(made, size)

    def training(self, config: str, **changes: int) -> Training:
        """A training into a new folder, which logs every step and measures nothing else."""
        self._runs += 1
        words = (*QUIET, *(f"--config.{key}={value}" for key, value in changes.items()))
        data = self.data(load_config(config).data.size)
        return Training(config, data, self.folder / f"run{self._runs}", words)

    def train(self, training: Training, settings: Local) -> Timing:
        """Trains to the end.

        Raises:
            UserError: it did not come there.
        """
        printed = self.folder / "printed.txt"
        outcome = local.run(training, settings, trainer=self.trainer, output=printed)
        if outcome.code:
            raise UserError(f"the training ended with {outcome.code}: {last_line(printed)}")
        return read_timing(training.run)


def scale(
    parts: Sequence[str] = PARTS,
    data: Path | None = None,
    config: str = "configs/fomm.py:smoke",
    stall_config: str = "configs/fomm.py:real64",
    steps: int = 100,
    processes: Sequence[int] = (1, 2, 4),
    rounds: int = 3,
    size: int = 256,
    batch_size: int = 32,
    seconds: float = 3.0,
    trainer: Sequence[str] = TRAINER,
) -> dict[str, float]:
    """Prints what more processes, checkpoints and restarts cost a training, against one process or the first start.

    Args:
        parts: what is measured: "loader": examples/s of processes that read their own rows of the same batches;
            "steps": a step over several processes; "stall": what the loop waits for checkpoints; "start": until the
            first step is done, with no programs compiled, with all, and after a restore.
        data: a prepared dataset; noise is made where it is None.
        config: FILE:NAME of what is trained for "steps" and "start".
        stall_config: and for "stall"; a step of it should take as long as one of a real training.
        steps: length of the trainings for "steps" and "stall".
        processes: how many there are; the batch and the number of devices in all stay the same.
        rounds: of every measurement; medians are taken over them.
        size: of the noise that "loader" reads.
        batch_size: of "loader", over all processes.
        seconds: that "loader" reads in a round.
        trainer: the program that takes a training's arguments.

    Returns:
        What was measured, by row.

    Raises:
        UserError: a training fails, or there are too few steps, rows or devices.
    """
    if steps < FEWEST_STEPS:
        raise UserError(f"--steps {steps}: give at least {FEWEST_STEPS}, or there is nothing to take a median of")
    counts = sorted({1, *processes})
    where = "cpu" if _on_cpu() else "gpu"
    print(f"{os.cpu_count()} cores, {where}, medians of {rounds} rounds")
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), data, trainer)
        if "loader" in parts:
            rows |= loader(trials.data(size), counts, rounds, batch_size, seconds)
        if "steps" in parts:
            rows |= step_time(trials, config, counts, steps, rounds)
        if "stall" in parts:
            rows |= stall(trials, stall_config, steps)
        if "start" in parts:
            rows |= start(trials, config, rounds)
    return rows


def _on_cpu() -> bool:
    """Whether the launcher would give processes shares of the CPU; asked of it, as jax here would take the GPUs."""
    return "XLA_FLAGS" in device_environments(Local(1, 1), os.environ)[0]


def loader(data: Path, counts: Sequence[int], rounds: int, batch_size: int, seconds: float) -> dict[str, float]:
    """Examples per second that every process reads while the others read theirs."""
    from data_pipelines.loader import open_clips

    size = open_clips(data, "train").size
    print(f"\nloader, {size}x{size}: pairs in batches of {batch_size} over all processes, one thread in each")
    context = multiprocessing.get_context("spawn")
    rates: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:

        def reader(rows: Sequence[int]) -> Connection:
            here, there = context.Pipe()
            process = context.Process(target=_read, args=(there, data, batch_size, rows, seconds), daemon=True)
            process.start()
            there.close()  # so that the end of the process is the end of the pipe
            stack.callback(process.join)
            stack.enter_context(here)
            return here

        readers = {count: [reader(rows) for rows in shares(batch_size, count)] for count in counts}
        for pipes in readers.values():
            for pipe in pipes:
                pipe.recv()  # it is ready
        for _ in range(rounds):
            for count, pipes in readers.items():
                for pipe in pipes:
                    pipe.send(True)
                rates[count].append(statistics.mean([pipe.recv() for pipe in pipes]))
    each = {count: statistics.median(rate) for count, rate in rates.items()}
    alone = each[counts[0]]
    for count, rate in each.items():
        many = f"{count} process{'es' if count > 1 else ''}"
        print(
            f"  {many:14}{rate:9.1f} examples/s each{rate / alone:7.2f} x one alone"
            f"{rate * count:10.1f} in all{rate * count / alone:7.2f} x"
        )
    return {f"loader, {count}: examples/s each": rate for count, rate in each.items()}


def shares(batch_size: int, count: int) -> list[list[int]]:
    """The rows of a batch for every process.

    Raises:
        UserError: there are more processes than rows.
    """
    if count > batch_size:
        raise UserError(f"batches of {batch_size} examples cannot be shared by {count} processes: give larger ones")
    return [part.tolist() for part in np.array_split(np.arange(batch_size), count)]


def _read(pipe: Connection, data: Path, batch_size: int, rows: list[int], seconds: float) -> None:
    """Says that it is ready, then sends examples per second as often as it is asked, until nobody is there to ask."""
    from data_pipelines.loader import batches, open_clips

    def rate(seconds: float) -> float:
        began, read = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < seconds or not read:
            next(fed)
            read += len(rows)
        return read / spent

    config = {"by_identity": True, "swap": True, "flip": True}
    clips = open_clips(data, "train")
    with batches(clips, config, batch_size=batch_size, seed=0, rows=rows, threads=1) as fed:
        rate(0)
        pipe.send(True)
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            rate(seconds / 3)  # what was read ahead while it waited is no work
            pipe.send(rate(seconds))


def step_time(trials: Trials, config: str, counts: Sequence[int], steps: int, rounds: int) -> dict[str, float]:
    """Seconds of a step over several processes that share the same devices and the same batch."""
    devices = math.lcm(*counts)
    settings: dict[int, Local] = {}
    for count in counts:
        chosen = Local(count, devices // count if _on_cpu() else None, restarts=0)
        try:
            device_environments(chosen, os.environ)
            settings[count] = chosen
        except UserError as error:  # too few GPUs
            print(f"\n{error}")
    shared = f"{devices} devices" if _on_cpu() else "all GPUs"
    print(f"\n{config}, a step of the same batch on {shared}, {steps} steps a round")
    seconds: dict[int, list[float]] = {count: [] for count in settings}
    for _ in range(rounds):
        for count, chosen in settings.items():
            timing = trials.train(trials.training(config, steps=steps, save_every=0), chosen)
            seconds[count].append(settled_step(timing))
    each = {count: statistics.median(spent) for count, spent in seconds.items()}
    alone = each[counts[0]]
    for count, spent in each.items():
        many = f"{count} process{'es' if count > 1 else ''}"
        print(f"  {many:14}{1e3 * spent:9.1f} ms/step{spent / alone:7.2f} x one alone")
    return {f"steps, {count}: seconds": spent for count, spent in each.items()}


def stall(trials: Trials, config: str, steps: int, saves: int = 6) -> dict[str, float]:
    """What the loop waits for a checkpoint, as a share of the loop when one is saved every hundred steps.

    They are saved more often here, and the share is worked out from the medians of a save and of a step.
    """
    every = max(1, steps // saves)
    timing = trials.train(trials.training(config, steps=steps, save_every=every), Local(restarts=0))
    first, later = timing.saves[0], statistics.median(timing.saves[1:])
    step = settled_step(timing)
    share = later / (later + SAVE_EVERY * step)
    print(f"\n{config}, medians of {len(timing.saves) - 1} saves and {len(timing.steps)} steps")
    print(f"  a save{1e3 * later:17.1f} ms; the first, which needs its programs, {1e3 * first:.0f} ms")
    print(f"  a step{1e3 * step:17.1f} ms")
    print(
        f"  the loop waits{100 * share:9.2f} % of its time at one save per {SAVE_EVERY} steps (worked out; goal: under "
        f"{100 * STALL_GOAL:.0f} %)"
    )
    return {"stall: seconds a save": later, "stall: seconds a step": step, "stall: share": share}


def start(trials: Trials, config: str, rounds: int) -> dict[str, float]:
    """Seconds from the start of a process until its first step is done: cold, with all programs there, restored."""
    seconds: dict[str, list[float]] = {name: [] for name in ("cold", "programs compiled", "resumed")}
    for number in range(rounds):
        programs = trials.folder / f"programs{number}"
        environment = {"JAX_COMPILATION_CACHE_DIR": str(programs)}
        for name in ("cold", "programs compiled"):
            training = trials.training(config, steps=4, save_every=2)
            seconds[name].append(until_step(trials, training, 1, environment))
        _forget_newest(training.run)
        seconds["resumed"].append(until_step(trials, training, newest_step(training.run) + 1, environment))
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    print(f"\n{config}, from the start of a process until its first step is done")
    for name, spent in medians.items():
        print(f"  {name:18}{spent:7.2f} s{spent / medians['cold']:7.2f} x cold")
    return {f"start, {name}: seconds": spent for name, spent in medians.items()}


def _forget_newest(run: Path) -> None:
    """Takes a run back to the checkpoint before its last one."""
    shutil.rmtree(run / "checkpoints" / f"{newest_step(run):08d}")
    (run / "metrics.jsonl").unlink()  # or its old rows would be taken for new ones


def until_step(trials: Trials, training: Training, step: int, environment: Mapping[str, str]) -> float:
    """Seconds from a process's start until it has logged a step; returns when it has ended.

    Raises:
        UserError: it ended badly.
    """
    log, printed = training.run / "metrics.jsonl", trials.folder / "printed.txt"
    spent = None
    words = [*trials.trainer, *training.arguments()]
    began = time.perf_counter()
    with printed.open("ab") as file:
        process: Any = subprocess.Popen(words, env={**os.environ, **environment}, stdout=file, stderr=file)
    try:
        while process.poll() is None:
            if spent is None and log.exists() and f'"step": {step},' in log.read_text("utf-8"):
                spent = time.perf_counter() - began
            time.sleep(0.01)
    finally:
        process.kill()  # does nothing after its end
        process.wait()
    if process.returncode or spent is None:
        raise UserError(f"the training ended with {process.returncode}: {last_line(printed)}")
    return spent
