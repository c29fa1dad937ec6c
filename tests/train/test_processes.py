"""Where a process of several stands, what it is told when another one goes, and what a launcher's environment says."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reenax import cli
from reenax.core.errors import UserError
from reenax.train.processes import LOST, Place, find_place

SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
PORT = 61440 + 123456 % 4096
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
JAX = {"JAX_COORDINATOR_ADDRESS": "node0:1234", "JAX_NUM_PROCESSES": "3"}


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, Place()),
        ({**JAX, "JAX_PROCESS_ID": "2"}, Place("node0:1234", 3, 2, "jax")),
        ({**JAX, "JOB_COMPLETION_INDEX": "1"}, Place("node0:1234", 3, 1, "jax")),
        ({**JAX, "JAX_COORDINATOR_ADDRESS": "node0", "JAX_PROCESS_ID": "0"}, Place("node0:55527", 3, 0, "jax")),
        ({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, Place(source="jax")),
        ({**SLURM, "SLURM_STEP_NODELIST": "n7"}, Place(f"n7:{PORT}", 4, 2, "slurm")),
        ({**SLURM, "SLURM_STEP_NODELIST": "a[01-03,7],b2"}, Place(f"a01:{PORT}", 4, 2, "slurm")),
        ({**SLURM, "SLURM_STEP_NODELIST": "x,y[1-2]"}, Place(f"x:{PORT}", 4, 2, "slurm")),
        (
            {**SLURM, "SLURM_STEP_NODELIST": "n7", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
            Place(f"n7:{PORT}", 4, 2, "slurm", device=1),
        ),
        (
            {
                **SLURM,
                "SLURM_STEP_NODELIST": "n7",
                "SLURM_STEP_TASKS_PER_NODE": "4",
                "CUDA_VISIBLE_DEVICES": "2",  # SLURM has given it one GPU
            },
            Place(f"n7:{PORT}", 4, 2, "slurm"),
        ),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n7"}, Place()),
        (
            {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"},
            Place(f"10.96.0.1:{61440 + 1531576320 // 4096 % 4096}", 4, 3, "openmpi"),
        ),
        (
            {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b:ac5d,2620:10d::3]:43370"},
            Place(f"fe80::b9b:ac5d:{61440 + 1314521088 // 4096 % 4096}", 4, 3, "openmpi"),
        ),
        ({**OPEN_MPI, "JAX_COORDINATOR_ADDRESS": "h:1"}, Place("h:1", 4, 3, "openmpi")),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1", "TPU_WORKER_ID": "1"}, Place("t0:8482", 2, 1, "tpu")),
        (
            {
                "TPU_WORKER_HOSTNAMES": "t2,t3",
                "TPU_WORKER_ID": "1",
                "MEGASCALE_NUM_SLICES": "2",
                "MEGASCALE_SLICE_ID": "1",
                "MEGASCALE_COORDINATOR_ADDRESS": "t0:8080",
            },
            Place("t0:8482", 4, 3, "tpu"),
        ),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, Place()),
    ],
)
def test_places_are_read_from_the_environment(environ: dict[str, str], place: Place) -> None:
    assert find_place(environ) == place


def test_flags_come_first() -> None:
    environ = {**JAX, "JAX_PROCESS_ID": "2"}
    assert find_place(environ, "a:1", 2, 1) == Place("a:1", 2, 1, "flags")
    assert find_place(environ, "a:1", 1, 0) == Place("a:1", 1, 0, "flags")


@pytest.mark.parametrize(
    ("environ", "flags", "words"),
    [
        ({}, ("a:1", 2, None), "--process-id missing: several processes need --coordinator, --processes"),
        ({}, ("a:1", 2, 2), "--process-id=2: of 2 processes .--processes. give 0 to 1"),
        ({}, ("a:x", 2, 1), "--coordinator=a:x: give HOST:PORT"),
        ({}, ("a:1", 0, 0), "--processes=0: give the number of processes"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, (), "JAX_COORDINATOR_ADDRESS is missing: 2 processes"),
        ({**JAX}, (), "JOB_COMPLETION_INDEX=None: give a whole number"),
        ({**JAX, "JAX_PROCESS_ID": "first"}, (), "JAX_PROCESS_ID=first: give a whole number"),
        (OPEN_MPI, (), "OMPI_MCA_orte_hnp_uri is missing: 4 processes need HOST:PORT"),
        ({**SLURM, "SLURM_STEP_NODELIST": "["}, (), r"SLURM_STEP_NODELIST=\[: no node's name"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], flags: tuple, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_place(environ, *flags)


@pytest.mark.parametrize(
    "message",
    [
        "UNKNOWN: Gloo all-reduce failed: [pair.cc:538] Read error [127.0.0.1]:48521: Connection reset by peer",
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats)",
        "NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error",
    ],
)
def test_what_jax_says_of_a_lost_process_is_known(message: str) -> None:
    assert LOST.search(message)
    assert not LOST.search("Incompatible shapes for broadcasting: (3,) and (4,)")


WATCHER = """
import sys
from reenax.cli.supervision import watch, watcher
from reenax.train.processes import Place
if watcher() is None:
    sys.exit(watch(Place("here:1", 2, 1, "flags")))
{child}
"""


def watched(child: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a child that does this."""
    path = tmp_path / "program.py"
    path.write_text(WATCHER.format(child=child))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=60)


NOISE = """
import os
print("F1129 20:21:45.562954 3428 client.h:80] Terminating: heartbeats of the coordination service", file=sys.stderr)
print("*** Check failure stack trace: ***", file=sys.stderr)
"""


def test_an_abort_of_jax_is_one_line(tmp_path: Path) -> None:
    done = watched('print("step 1", file=sys.stderr)' + NOISE + "os.abort()", tmp_path)
    assert done.returncode == 76
    first, second = done.stderr.splitlines()
    assert first == "step 1"
    assert second.startswith("reenax: process 1 of 2 stops: another process was lost")


def test_a_line_of_our_own_is_shown_in_the_middle_of_the_noise(tmp_path: Path) -> None:
    done = watched(NOISE + 'print("reenax: process 1 says why", file=sys.stderr); os._exit(76)', tmp_path)
    assert (done.returncode, done.stderr) == (76, "reenax: process 1 says why\n")


@pytest.mark.parametrize(
    ("child", "code", "shown"),
    [
        ("sys.exit(0)", 0, ""),
        ('sys.exit("mend this")', 1, "mend this"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "process 1 was ended by SIGKILL"),
        (
            'import os; print("F1129 20:21:45.5 1 x.cc:1] Check failed: a bug", file=sys.stderr); os.abort()',
            128 + signal.SIGABRT,
            "Check failed: a bug",
        ),
    ],
)
def test_other_ends_are_passed_on(child: str, code: int, shown: str, tmp_path: Path) -> None:
    done = watched(child, tmp_path)
    assert done.returncode == code
    assert shown in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "r", "--or-resume"], "--or-resume goes with --run"),
        (["--repeat", "r"], "train needs --run"),
        (["--repeat", "r", "--run", "s", "--config.lr=1"], "--repeat changes nothing: leave out --config.lr=1"),
        (["--repeat", "r", "--run", "s", "--config", "c"], "--repeat takes config and starting point from the run"),
        (["--resume", "r", "--differences", "warn"], "--differences warn is for --repeat"),
        (["--resume", "r", "--processes", "2"], "--coordinator and --process-id missing"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *words]) == 2
    assert message in capsys.readouterr().err
