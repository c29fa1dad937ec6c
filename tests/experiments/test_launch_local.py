"""The launcher of one machine, with a stand-in for the trainer: restarts, exit codes, signals, and no survivors."""

import itertools
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.launch import local
from experiments.launch.local import Local, device_environments, verdict
from experiments.launch.training import Training, last_line, newest_step
from reenax.core.errors import UserError
from reenax.train.processes import HEARTBEAT_SECONDS, find_place
from tests.train.running import alive

TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0  # for what must come, on a busy machine
QUICK = {"patience": 20.0, "mercy": 0.2}

LAUNCHER = """
import json, sys
from pathlib import Path
from experiments.launch import local
from experiments.launch.training import Training
from reenax.commands import start_logging
given = json.loads(sys.argv[1])
start_logging()
training = Training("configs/fomm.py:smoke", Path(given["data"]), Path(given["run"]))
sys.exit(local.run(training, local.Local(**given["settings"]), trainer=given["trainer"]).code)
"""


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def planned(folder: Path, plan: list[list[str]]) -> Training:
    """A training whose attempts' processes do what the plan says."""
    (folder / "data").mkdir()
    (folder / "data" / "plan.json").write_text(json.dumps(plan))
    return Training("configs/fomm.py:smoke", folder / "data", folder / "run")


def code_of(folder: Path, plan: list[list[str]], **settings: Any) -> int:
    training = planned(folder, plan)
    return local.run(training, Local(len(plan[0]), **QUICK, **settings), trainer=TRAINER, output=folder / "log").code


def notes(folder: Path) -> list[dict[str, Any]]:
    """What the processes noted that have started."""
    return [json.loads(path.read_text()) for path in sorted((folder / "run" / "started").glob("[0-9]*-*"))]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def launched(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a launcher in a process of its own, and waits until all its processes are there."""
    launchers: list[subprocess.Popen[str]] = []

    def start(plan: list[list[str]], **settings: Any) -> subprocess.Popen[str]:
        training = planned(tmp_path, plan)
        given: dict[str, Any] = {"data": str(training.data), "run": str(training.run), "trainer": TRAINER}
        given["settings"] = {"processes": len(plan[0]), **QUICK, **settings}
        words = [sys.executable, "-c", LAUNCHER, json.dumps(given)]
        pipe = subprocess.PIPE
        launchers.append(subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
        until(lambda: len(notes(tmp_path)) == len(plan[0]))
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


def test_processes_find_each_other(tmp_path):
    assert code_of(tmp_path, [["say:first", "say:second", "say:third"]], devices_per_process=2) == 0
    started = notes(tmp_path)
    assert len(started) == 3
    found = []
    for note in started:
        words = note["words"]
        given = dict(itertools.pairwise(words))
        assert "--or-resume" in words
        place = find_place({}, given["--coordinator"], int(given["--processes"]), int(given["--process-id"]))
        found.append(place)
        assert note["XLA_FLAGS"].split() == ["--xla_force_host_platform_device_count=2"]
    assert [place.index for place in found] == [0, 1, 2]
    assert {place.processes for place in found} == {3}
    assert len({place.coordinator for place in found}) == 1
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["[1] second", "[2] third", "first"]


def test_a_crash_restarts_all(tmp_path):
    plan = [["hang", "save:4 exit:1"], ["exit:76", "kill"], ["exit:0", "exit:0"]]
    assert code_of(tmp_path, plan, restarts=1) == 0
    started = notes(tmp_path)
    assert len(started) == 6
    assert not any(alive(note["pid"]) for note in started)


def test_a_run_that_gains_nothing_is_given_up(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("reenax"), "propagate", True)
    assert code_of(tmp_path, [["save:4 exit:5"], ["exit:5"]], restarts=2) == 5
    assert len(notes(tmp_path)) == 4
    assert "ended with 5; no newer checkpoint in 2 restarts: giving up" in caplog.text
    assert "starting again from step 4" in caplog.text


def test_newer_checkpoints_allow_any_number_of_restarts(tmp_path):
    plan = [["save:2 exit:1"], ["save:4 kill"], ["save:6 exit:76"], ["save:8 exit:75"], ["exit:0"]]
    assert code_of(tmp_path, plan, restarts=0) == 0
    assert newest_step(tmp_path / "run") == 8


def test_an_error_of_the_users_stops_all_at_once(tmp_path):
    assert code_of(tmp_path, [["hang", "exit:2"]]) == 2
    assert len(notes(tmp_path)) == 2
    assert not any(alive(note["pid"]) for note in notes(tmp_path))


@pytest.mark.parametrize(
    ("codes", "stopped", "code"),
    [
        ([0, 0], False, 0),
        ([0, 75], False, 75),
        ([1, 76, -9], False, 1),
        ([76, 2], False, 2),
        ([-9, 76], False, 137),
        ([-15, 75], False, 143),
        ([-15, 75], True, 75),  # one had not begun
        ([75, 76], True, 76),
    ],
)
def test_many_exit_codes_are_one(codes, stopped, code):
    assert verdict(codes, stopped=stopped) == code


def test_a_signal_reaches_all_and_ends_the_training(tmp_path, launched):
    launcher = launched([["wait save:5 exit:75", "say:hello wait exit:75"]])
    launcher.send_signal(signal.SIGTERM)
    out, err = launcher.communicate(timeout=PATIENCE_SECONDS)
    assert launcher.returncode == 75
    assert (out, err) == ("", "[1] hello\n")
    assert newest_step(tmp_path / "run") == 5
    assert len(notes(tmp_path)) == 2  # not started again


def test_a_training_that_finishes_while_it_is_stopped_is_done(launched):
    launcher = launched([["wait exit:0", "wait exit:0"]])
    launcher.send_signal(signal.SIGTERM)
    launcher.communicate(timeout=PATIENCE_SECONDS)
    assert launcher.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_nobody_survives_a_killed_launcher(tmp_path, launched):
    launcher = launched([["hang", "hang", "hang"]])
    pids = [note["pid"] for note in notes(tmp_path)]
    assert all(alive(pid) for pid in pids)
    launcher.kill()
    until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_process_whose_launcher_is_gone_already_does_not_begin(tmp_path):
    words = [sys.executable, "-I", "-S", str(local.BOUND), "1", sys.executable, "-c", "print('begun')"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_only_whole_checkpoints_count(tmp_path):
    assert newest_step(tmp_path) == -1
    for name in ("00000004", "00000010", "100000000.orbax-checkpoint-tmp-3", "00000999.orbax-checkpoint-tmp", "notes"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_step(tmp_path) == 10


def test_the_last_line_is_the_error(tmp_path):
    log = tmp_path / "log"
    log.touch()
    assert last_line(log) == "it printed nothing"
    log.write_text("one\n  two \n\n")
    assert last_line(log) == "two"
    log.write_text("reenax: error: no luck\n[1] gone\n")
    assert last_line(log) == "reenax: error: no luck"


def test_who_waits_for_a_heartbeat_is_not_killed_meanwhile():
    assert Local().mercy > 1.5 * HEARTBEAT_SECONDS


def test_the_port_is_free_and_no_outgoing_connection_takes_it(monkeypatch):
    training = Training("configs/fomm.py:smoke", Path("data"), Path("run"))

    def port() -> int:
        (words,) = local.process_commands(training, 1)
        return int(dict(itertools.pairwise(words))["--coordinator"].rpartition(":")[2])

    assert len({port() for _ in range(5)}) > 1
    with socket.socket() as listening:
        listening.bind((local.HOST, port()))
        listening.listen()
        taken = listening.getsockname()[1]
        assert 20000 <= taken < 32000
        free = port()
        monkeypatch.setattr(local, "PORTS", [taken, free])
        assert {port() for _ in range(5)} == {free}
        monkeypatch.setattr(local, "PORTS", [taken])
        with pytest.raises(UserError, match=f"no port from {taken} to {taken} is free"):
            port()


def test_devices_are_shared():
    others = "--a=1 --xla_force_host_platform_device_count_of=5"
    cpu = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {others}"}
    assert device_environments(Local(2), cpu) == [{}, {}]
    (fake,) = device_environments(Local(1, 3), cpu)
    assert fake == {"XLA_FLAGS": f"{others} --xla_force_host_platform_device_count=3"}
    gpus = {"CUDA_VISIBLE_DEVICES": "4,5,6,GPU-7f"}
    assert device_environments(Local(1), gpus) == [{}]
    assert device_environments(Local(2), gpus) == [
        {"CUDA_VISIBLE_DEVICES": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "6,GPU-7f"},
    ]
    assert device_environments(Local(3, 1), gpus)[2] == {"CUDA_VISIBLE_DEVICES": "6"}
    with pytest.raises(UserError, match="--processes 3: 4 GPUs cannot be shared evenly"):
        device_environments(Local(3), gpus)
    with pytest.raises(UserError, match="--processes 2 with --devices-per-process 3 needs 6 GPUs, this machine has 4"):
        device_environments(Local(2, 3), gpus)


def test_gpus_are_counted(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert local._gpus({}, tmp_path) == ["0", "1"]
    assert local._gpus({"JAX_PLATFORMS": "cpu"}, tmp_path) == []
    assert local._gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []


def test_one_process_is_told_that_it_is_alone():
    """Else it would believe what a cluster says in its environment."""
    training = Training("configs/fomm.py:smoke", Path("data"), Path("run"))
    (words,) = local.process_commands(training, 1)
    given = dict(itertools.pairwise(words))
    cluster = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "a[1-4]", "SLURM_JOB_ID": "1"}
    place = find_place(cluster, given["--coordinator"], int(given["--processes"]), int(given["--process-id"]))
    assert (place.processes, place.index) == (1, 0)
