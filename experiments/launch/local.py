"""One machine: starts the processes of a training, watches over them, and starts them again after a crash."""

import contextlib
import dataclasses
import logging
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, NamedTuple

from experiments.launch.training import Training, newest_step
from reenax.commands import EXIT_USER_ERROR, with_fake_devices
from reenax.core.errors import UserError
from reenax.train.processes import EXIT_PREEMPTED, HEARTBEAT_SECONDS

log = logging.getLogger("reenax")

BOUND = Path(__file__).with_name("bound.py")
TRAINER = (sys.executable, "-m", "reenax.cli")
HOST = "127.0.0.1"
POLL_SECONDS = 0.05
PORTS = range(20000, 32000)  # none that a system gives to outgoing connections, which could take it before it is used


@dataclasses.dataclass(frozen=True)
class Local:
    """How a training runs on one machine.

    Attributes:
        processes: how many.
        devices_per_process: devices of each; None: an even share of the GPUs, all that there is on a CPU.
        restarts: how often it is started again without a newer checkpoint.
        patience: seconds that the others have to save once one process has ended with 0 or 75.
        mercy: seconds that the others have to end by themselves once one has failed: some learn of it only when it
            has been silent for `HEARTBEAT_SECONDS`, and have to say so yet.
    """

    processes: int = 1
    devices_per_process: int | None = None
    restarts: int = 10
    patience: float = 300.0
    mercy: float = 2.0 * HEARTBEAT_SECONDS


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        code: 0: done; 2: an error of the user's; 75: stopped and saved; else what the first failed process said.
        stopped: a signal to the launcher ended it.
    """

    code: int
    stopped: bool


def run(
    training: Training, settings: Local, *, trainer: Sequence[str] = TRAINER, output: Path | None = None
) -> Outcome:
    """Trains to the end, over as many restarts as it takes.

    Args:
        training: what to run.
        settings: how.
        trainer: the program that takes `Training.arguments`.
        output: a file for all that the processes print; the terminal when None.

    Raises:
        UserError: more devices are asked for than there are, or no port is free.
    """
    environments = device_environments(settings, os.environ)
    failures = 0
    with _Signals() as signals:
        while True:
            before = newest_step(training.run)
            commands = process_commands(training, settings.processes, trainer)
            codes = _run_once(commands, environments, settings, signals, output)
            stopped = signals.received is not None
            code = verdict(codes, stopped=stopped)
            if stopped or code in (0, EXIT_USER_ERROR):
                return Outcome(code, stopped)
            failures = 0 if newest_step(training.run) > before else failures + 1
            if failures > settings.restarts:
                why = f"ended with {code}; no newer checkpoint in {settings.restarts} restarts: giving up"
                log.error("%s: %s", training.run, why)
                return Outcome(code, stopped)
            step = max(0, newest_step(training.run))
            log.warning("%s: ended with %d; starting again from step %d", training.run, code, step)


def verdict(codes: Sequence[int], *, stopped: bool) -> int:
    """One exit code for all processes, from theirs (negative for a signal) in the order in which they ended.

    Args:
        codes: exit codes.
        stopped: a signal asked the processes to end; one that it killed had nothing to save yet.
    """
    plain = [128 - code if code < 0 else code for code in codes]
    if EXIT_USER_ERROR in plain:
        return EXIT_USER_ERROR
    harmless = {0, EXIT_PREEMPTED} | ({128 + signal.SIGTERM, 128 + signal.SIGINT} if stopped else set())
    failed = [code for code in plain if code not in harmless]
    if failed:
        return failed[0]
    return EXIT_PREEMPTED if any(plain) else 0


def process_commands(training: Training, processes: int, trainer: Sequence[str] = TRAINER) -> list[list[str]]:
    """The command of every process, with a coordinator on a port that is free now.

    One process is told too that it is alone: it would else believe a cluster's variables in its environment.

    Raises:
        UserError: no port is free.
    """
    words = [*trainer, *training.arguments()]
    shared = ["--coordinator", f"{HOST}:{_free_port()}", "--processes", str(processes)]
    return [[*words, *shared, "--process-id", str(k)] for k in range(processes)]


def _free_port() -> int:
    """Drawn at random, as launchers that start at the same time must not choose the same one."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("", port))  # the coordinator listens on all addresses
            return port
    raise UserError(f"no port from {PORTS[0]} to {PORTS[-1]} is free; end some of the programs that listen there")


def device_environments(settings: Local, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """What every process finds in its environment beyond the launcher's own: its share of the devices.

    On a CPU these are fake devices. GPUs are hidden from the other processes.

    Raises:
        UserError: the GPUs do not suffice, or cannot be shared evenly.
    """
    count, each = settings.processes, settings.devices_per_process
    gpus = _gpus(environ)
    if not gpus:
        if each is None:
            return [{}] * count
        return [{"XLA_FLAGS": with_fake_devices(environ.get("XLA_FLAGS", ""), each)}] * count
    if each is None:
        if count == 1:
            return [{}]
        if len(gpus) % count:
            raise UserError(
                f"--processes {count}: {len(gpus)} GPUs cannot be shared evenly; give --devices-per-process, or a "
                f"divisor of {len(gpus)}"
            )
        each = len(gpus) // count
    if each * count > len(gpus):
        raise UserError(
            f"--processes {count} with --devices-per-process {each} needs {each * count} GPUs, this machine has "
            f"{len(gpus)}; lower one of them, or set JAX_PLATFORMS=cpu"
        )
    shares = [gpus[k * each : (k + 1) * each] for k in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


def _gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that may be used, by the names that CUDA_VISIBLE_DEVICES takes."""
    if environ.get("JAX_PLATFORMS", "").split(",")[0] not in ("", "cuda", "gpu"):
        return []
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in devices.glob("nvidia*"))
    return [str(k) for k in range(sum(1 for match in found if match))]


def preview(training: Training, settings: Local) -> str:
    """What would run, one line per process, for a shell.

    Raises:
        UserError: more devices are asked for than there are, or no port is free.
    """
    commands = process_commands(training, settings.processes)
    extras = device_environments(settings, os.environ)
    return "\n".join(
        shlex.join(["env", *(f"{name}={value}" for name, value in extra.items()), *words] if extra else words)
        for extra, words in zip(extras, commands, strict=True)
    )


class _Signals:
    """Hands SIGTERM and SIGINT on to the processes, and remembers that one came."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self.forward()

    def forward(self) -> None:
        """Sends what was received to every process that still runs."""
        if self.received is not None:
            for process in self.processes:
                process.send_signal(self.received)


def _run_once(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]],
    settings: Local,
    signals: _Signals,
    output: Path | None,
) -> list[int]:
    """Exit codes of the processes, in the order in which they ended; none is left when it returns."""
    with contextlib.ExitStack() as stack:
        file = None if output is None else stack.enter_context(output.open("ab"))
        signals.processes = []
        stack.callback(_end, signals.processes)
        for k, (words, extra) in enumerate(zip(commands, environments, strict=True)):
            process = _start(words, extra, file, prefixed=k > 0)
            signals.processes.append(process)
            if k > 0:
                stack.enter_context(_copying(process, f"[{k}] ".encode(), file))
        signals.forward()  # for those that were not there yet when it came
        return _wait(signals.processes, settings)


def _start(words: Sequence[str], extra: Mapping[str, str], file: IO[bytes] | None, *, prefixed: bool) -> Any:
    # a session of its own: Ctrl-C in a terminal reaches the launcher alone, which hands it on once
    out: Any = subprocess.PIPE if prefixed else file
    err: Any = subprocess.STDOUT if prefixed or file is not None else None
    bound = [sys.executable, "-I", "-S", str(BOUND), str(os.getpid()), *words]
    return subprocess.Popen(bound, env={**os.environ, **extra}, stdout=out, stderr=err, start_new_session=True)


@contextlib.contextmanager
def _copying(process: subprocess.Popen[bytes], prefix: bytes, file: IO[bytes] | None) -> Iterator[None]:
    """Copies a process's lines with a prefix; begins to wait for the last one when left, after the process's end."""

    def copy() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            target = sys.stderr.buffer if file is None else file
            target.write(prefix + line)
            target.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        thread.join(timeout=5)  # a grandchild may hold the pipe open
        if process.stdout is not None and not thread.is_alive():
            process.stdout.close()


def _wait(processes: Sequence[subprocess.Popen[bytes]], settings: Local) -> list[int]:
    """Waits for all; once one has ended, the others have so much time, depending on how it ended."""
    running, codes, deadline = list(processes), [], float("inf")
    while running:
        for process in list(running):
            code = process.poll()
            if code is not None:
                running.remove(process)
                codes.append(code)
                left = settings.patience if code in (0, EXIT_PREEMPTED) else settings.mercy
                deadline = min(deadline, time.monotonic() + left)
        if running and time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(POLL_SECONDS if running else 0)
    return codes


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Leaves none behind, whatever happened."""
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
