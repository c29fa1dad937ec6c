"""Real trainings in processes of their own: started, watched, killed, compared."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_pipelines import building, schema
from tests.data_pipelines.conftest import CLIPS, SIZE, small_records
from tests.train.toy_cli import write_config, write_scales

TOYS = (sys.executable, str(Path(__file__).with_name("toy_cli.py")))
REAL = (sys.executable, "-m", "reenax.cli")
ROOT = Path(__file__).parents[2]
PATIENCE = 240  # seconds until a process that should have ended or spoken is given up


class World:
    """A folder with a dataset and configs of toys, and what trainings there print.

    Attributes:
        folder: where runs are put.
        data: the dataset's folder.
        config: file of the toys' configs.
    """

    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data"
        self.config = write_config(folder, SIZE)
        write_scales(folder / "scales")
        splits: Any = {split: lambda split=split: small_records(split) for split in CLIPS}
        building.build(self.data, splits, {}, SIZE, schema.REQUIRED | {"landmarks", "audio"})

    def words(self, toy: str, run: str, *more: str) -> list[str]:
        """The command for a run, new or to be continued."""
        where = ["--data", str(self.data), "--run", str(self.folder / run), "--or-resume"]
        return ["train", "--config", f"{self.config}:{toy}", *where, *more]


class Process:
    """A process of a training; what it prints goes to a file."""

    def __init__(
        self, words: Sequence[str], log: Path, devices: int = 1, program: Sequence[str] = TOYS, **environ: str
    ):
        self.log = log
        env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", **environ}
        # XLA cuts convolutions over as many threads, at least over as many as there are devices: rounding follows it
        env["NPROC"] = "4"
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [*program, *words], env=env, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
            )

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self.log.read_text("utf-8", "replace")

    def wait(self) -> int:
        """Its exit code."""
        return self.popen.wait(PATIENCE)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Returns when it has printed the pattern."""
        end = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            assert self.popen.poll() is None, f"ended with {self.popen.returncode} before {pattern!r}:\n{self.text}"
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        """SIGKILL, to it and to the one that it watches, as when a machine goes away."""
        for number in [*descendants(self.popen.pid), self.popen.pid]:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.popen.wait(PATIENCE)


def together(
    words: Sequence[str], logs: Path, processes: int, devices: int, program: Sequence[str] = TOYS
) -> list[Process]:
    """Starts several processes of one training."""
    shared = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(processes)]
    logs.mkdir(parents=True, exist_ok=True)
    return [
        Process([*words, *shared, "--process-id", str(k)], logs / f"{k}.txt", devices, program)
        for k in range(processes)
    ]


def free_port() -> int:
    """A port that nothing listens on, of a range that no other worker of the tests and no connection takes."""
    first = 20000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for _ in range(100):
        port = random.randrange(first, first + 1000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


def finish(processes: Sequence[Process], code: int = 0) -> None:
    """Waits for all, and wants this exit code of all."""
    codes = [process.wait() for process in processes]
    assert codes == [code] * len(processes), "\n\n".join(process.text for process in processes)


def descendants(number: int) -> list[int]:
    """Numbers of the processes that a process started, and they, and so on."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, waiting = [], [number]
    while waiting:
        waiting += (new := children.get(waiting.pop(), []))
        found += new
    return found


def alive(number: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def rows(run: Path) -> dict[int, dict[str, float]]:
    """What a run logged at every step, without its speed."""
    logged: dict[int, dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        values = {k: v for k, v in row.items() if k != "step" and not k.startswith("speed/")}
        assert not values.keys() & logged.get(row["step"], {}).keys(), f"step {row['step']} is logged twice"
        logged.setdefault(row["step"], {}).update(values)
    return logged


def digests(run: Path, step: int) -> dict[str, Any]:
    """Of a checkpoint the digests of all arrays."""
    return json.loads((run / f"checkpoints/{step:08d}/meta/metadata").read_text())["leaves"]


def checkpoint_steps(run: Path) -> list[int]:
    """The steps of the whole checkpoints of a run."""
    return sorted(int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A `World` for the tests of a module."""
    return World(tmp_path_factory.mktemp("world"))
