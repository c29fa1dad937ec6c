"""Batch scripts are run here with a stand-in for srun: what they start, when they start it again, when they stop."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.launch.command import main
from experiments.launch.slurm import Slurm, script
from experiments.launch.training import Training
from reenax import cli
from reenax.core.errors import UserError
from reenax.train.processes import find_place

SRUN = r"""#!/bin/bash
start=$(ls "$HERE" | grep -c words)
read -r codes step < <(head -n 1 "$HERE/plan")
sed -i 1d "$HERE/plan"
[ -z "$step" ] || mkdir -p "$RUN/checkpoints/$(printf '%08d' "$step")" "$RUN/checkpoints/00000999.orbax-checkpoint-tmp"
while [ "${1:0:2}" = -- ]; do shift; done
export WORDS=/dev/null CODE
tasks=()
for CODE in ${codes//,/ }; do
    [ "${#tasks[@]}" -gt 0 ] || WORDS="$HERE/words-$start"
    "$@" &
    tasks+=($!)
    WORDS=/dev/null
done
highest=0
for task in "${tasks[@]}"; do
    wait "$task"
    code=$?
    [ "$code" -le "$highest" ] || highest=$code
done
exit "$highest"
"""
REENAX = r"""#!/bin/bash
printf '%s\0' "$@" > "$WORDS"
asked=
trap 'asked=yes' TERM
if [ "${CODE:0:1}" = t ]; then
    CODE=${CODE:1}
    kill -TERM "$PPID" $$  # as slurmstepd does: all processes of the task
    sleep 0.3
    [ "$asked" ] || exit 1
fi
[ "$CODE" -le 128 ] || kill -$((CODE - 128)) $$
exit "$CODE"
"""
SCONTROL = '#!/bin/bash\necho "$@" > "$HERE/scontrol"\n'
HOSTILE = ("--config.wandb.project=a 'b' \"c\" $(touch HACKED) `touch HACKED` $HOME \\ ; # {x}\nz", "--config.lr=1e-4")


class Ended(NamedTuple):
    code: int
    words: list[list[str]]  # that the trainer of the first task was given, every time the tasks were started
    requeued: bool
    errors: str


@pytest.fixture
def job(tmp_path):
    """Runs a script as a job, with a plan of lines "CODE,CODE,... [STEP]", one for every start of srun.

    Every task's trainer ends with its code, by a signal for one above 128; "t75" first sends SIGTERM to its task.
    """

    def run(plan: list[str], folder: str = "run", **changes: Any) -> Ended:
        here = tmp_path / "here"
        (here / "bin").mkdir(parents=True)
        for name, text in (("srun", SRUN), ("reenax", REENAX), ("scontrol", SCONTROL)):
            (here / "bin" / name).write_text(text)
            (here / "bin" / name).chmod(0o755)
        (here / "plan").write_text("\n".join([*plan, ""]))
        file = tmp_path / "job.sbatch"
        training = Training("configs/fomm.py:smoke", Path("da ta/$(touch HACKED)"), tmp_path / folder, HOSTILE)
        file.write_text(script(training, Slurm("fomm", **changes)))
        path = f"{here / 'bin'}:{os.environ['PATH']}"
        environ = {"PATH": path, "HERE": str(here), "RUN": str(tmp_path / folder), "SLURM_JOB_ID": "7"}
        done = subprocess.run(["bash", str(file)], env=environ, cwd=tmp_path, capture_output=True, text=True)
        assert not list(tmp_path.rglob("HACKED"))
        files = sorted(here.glob("words-*"), key=lambda path: int(path.name.split("-")[1]))
        words = [file.read_text().split("\0")[:-1] for file in files]
        return Ended(done.returncode, words, (here / "scontrol").is_file(), done.stderr)

    return run


def header(text: str) -> dict[str, str]:
    """The options of a script."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE)
    assert len(found) == text.count("#SBATCH")
    return dict(found)


def test_values_reach_the_trainer_as_they_are(job, tmp_path):
    ended = job(["0"], folder='a run\'s "$(touch HACKED)"')
    assert (ended.code, ended.requeued, ended.errors) == (0, False, "")
    (words,) = ended.words
    options, rest = cli.build_parser().parse_known_args(words)
    assert options.data == Path("da ta/$(touch HACKED)")
    assert options.folder == tmp_path / 'a run\'s "$(touch HACKED)"'
    assert options.or_resume
    assert rest == list(HOSTILE)


def test_a_crash_is_tried_again_until_nothing_is_gained(job):
    ended = job(["137 4", "76 8", "1", "1", "0"], restarts=1)
    assert (ended.code, len(ended.words), ended.requeued) == (1, 4, False)
    assert "no newer checkpoint in 1 restarts: giving up" in ended.errors
    assert "ended with 76; starting again from step 00000008" in ended.errors


def test_a_crash_is_overcome(job):
    ended = job(["76 4", "137", "0"], restarts=1)
    assert (ended.code, len(ended.words), ended.requeued) == (0, 3, False)


@pytest.mark.parametrize("codes", ["2", "2,76,76", "76,2,0,1", "75,2", "t2,76"])
def test_an_error_of_the_users_is_not_tried_again(job, codes):
    """Though the highest code of all tasks is another."""
    ended = job([f"{codes} 4"])
    assert (ended.code, len(ended.words), ended.requeued) == (2, 1, False)


def test_an_error_of_the_users_that_a_kill_hides_is_not_tried_for_ever(job):
    ended = job(["2,137", "2,137", "0"], restarts=1)
    assert (ended.code, len(ended.words), ended.requeued) == (137, 2, False)


def test_lost_processes_are_tried_again(job):
    ended = job(["76,76,76 4", "137,76", "75,76 8", "0,0,0"], restarts=1)
    assert (ended.code, len(ended.words), ended.requeued) == (0, 4, False)


@pytest.mark.parametrize("codes", ["75", "75,75", "t75", "t75,t75", "t75,0"])
def test_a_job_whose_time_is_up_is_requeued(job, codes):
    """Also when all processes of a task are told so, not the trainer alone."""
    ended = job([f"{codes} 4"])
    assert (ended.code, len(ended.words), ended.requeued) == (0, 1, True)


def test_a_job_that_gained_nothing_is_not_requeued(job):
    ended = job(["75"])
    assert (ended.code, len(ended.words), ended.requeued) == (75, 1, False)
    assert "give it more --time" in ended.errors


@pytest.mark.parametrize("per_gpu", [False, True])
def test_every_task_finds_its_place(per_gpu):
    training = Training("configs/fomm.py:smoke", Path("data"), Path("run"))
    text = script(training, Slurm("fomm", nodes=2, devices_per_node=4, process_per_gpu=per_gpu))
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    asked = header(text)
    nodes, per_node = int(asked["nodes"]), int(asked["ntasks-per-node"])
    assert asked["gpus-per-node"] == "4"
    assert per_node == (4 if per_gpu else 1)
    for k in range(nodes * per_node):
        # as srun sets it
        environ = {
            "SLURM_JOB_ID": "4711",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
            "SLURM_NTASKS": str(nodes * per_node),
            "SLURM_STEP_TASKS_PER_NODE": f"{per_node}(x{nodes})",
            "SLURM_PROCID": str(k),
            "SLURM_LOCALID": str(k % per_node),
            "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        }
        place = find_place(environ)
        assert (place.processes, place.index, place.source) == (nodes * per_node, k, "slurm")
        assert str(place.coordinator).startswith("gpu07:")
        assert place.device == (k % 4 if per_gpu else None)


def test_a_script_asks_for_what_it_was_told(tmp_path):
    out = tmp_path / "job.sbatch"
    words = "--target slurm --config configs/fomm.py:smoke --data d --run runs/My_Run.2 --nodes 3 --partition gpu"
    words += f" --account me --time 2-00:00:00 --devices-per-node 0 --out {out}"
    assert main(words.split()) == 0
    asked = header(out.read_text())
    assert asked["job-name"] == "my-run-2"
    assert (asked["nodes"], asked["partition"], asked["account"], asked["time"]) == ("3", "gpu", "me", "2-00:00:00")
    assert (asked["signal"], asked["open-mode"]) == ("TERM@120", "append")
    assert {"requeue", "exclusive"} <= set(asked)
    assert "gpus-per-node" not in asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "gpu\n#SBATCH --uid=0"}, "--partition 'gpu"),
        ({"account": "a b"}, "--account 'a b': sbatch takes letters, digits"),
        ({"name": "$(id)"}, "--name '$(id)': sbatch takes letters, digits"),
        ({"time": "1 day"}, "--time '1 day': sbatch takes D-HH:MM:SS"),
        ({"process_per_gpu": True, "devices_per_node": 0}, "--process-per-gpu with --devices-per-node 0"),
    ],
)
def test_what_sbatch_would_not_take_is_refused(changes, message):
    training = Training("configs/fomm.py:smoke", Path("data"), Path("run"))
    with pytest.raises(UserError, match=re.escape(message)):
        script(training, Slurm(**{"name": "fomm", **changes}))
