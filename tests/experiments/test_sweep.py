"""Sweeps plan, check, train, go on, survive failures, and tell in one table what came out."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import sweep
from experiments.launch import local
from reenax.core.errors import UserError
from tests.inference import worlds

TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))
GOOD = ["log:4 save:4 log:8 save:8"]
SMALL = (
    "--config.data.size=32",
    "--config.steps=2",
    "--config.eval_every=2",
    "--config.sample_every=0",
    "--config.model.landmarks.num_blocks=1",
)


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a sweep with the stand-in for the trainer; all its trials follow one plan of attempts."""
    monkeypatch.setattr(local, "TRAINER", TRAINER)

    def start(words: str, plan: list[list[str]] | None = None) -> tuple[int, str, str]:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "plan.json").write_text(json.dumps(plan or [GOOD]))
        given = ["--config", "configs/fomm.py:smoke", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
        code = sweep.main([*given, *shlex.split(words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return start


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "out" / "summary.json").read_text())


def starts(folder: Path, trial: str) -> list[dict[str, Any]]:
    found = sorted((folder / "out" / trial / "started").glob("[0-9]*-*"))
    return [json.loads(path.read_text()) for path in found]


def test_a_grid_has_all_combinations():
    assert sweep.grid_values({"lr": "1e-4,2e-4", "batch_size": "8,16"}) == [
        {"lr": "1e-4", "batch_size": "8"},
        {"lr": "1e-4", "batch_size": "16"},
        {"lr": "2e-4", "batch_size": "8"},
        {"lr": "2e-4", "batch_size": "16"},
    ]
    assert sweep.grid_values({"data.resize": "(),(0.5,1.5)"}) == [{"data.resize": "()"}, {"data.resize": "(0.5,1.5)"}]


def test_draws_follow_from_the_seed_and_stay_in_their_range():
    keys = {
        "lr": "log:1e-5..1e-3",
        "model.num_kp": "int:5..7",
        "optim.b1": "linear:0.5..0.9",
        "dtype": "float32,bfloat16",
    }
    drawn = sweep.random_values(keys, 60, seed=1)
    assert drawn == sweep.random_values(keys, 60, seed=1) != sweep.random_values(keys, 60, seed=2)
    assert [d["lr"] for d in drawn] == [d["lr"] for d in sweep.random_values({"lr": keys["lr"]}, 60, seed=1)]
    rates = sorted(float(d["lr"]) for d in drawn)
    assert 1e-5 <= rates[0] < 3e-5
    assert 3e-4 < rates[-1] <= 1e-3
    assert {d["model.num_kp"] for d in drawn} == {"5", "6", "7"}
    assert all(0.5 <= float(d["optim.b1"]) <= 0.9 for d in drawn)
    assert {d["dtype"] for d in drawn} == {"float32", "bfloat16"}


@pytest.mark.parametrize("text", ["log:0..1", "log:2..1", "int:0.5..2", "int:1..x", "uniform:1..2", "log:1e-4", "a..b"])
def test_a_wrong_range_is_refused(text):
    with pytest.raises(UserError, match=r"is no range; give log:A\.\.B"):
        sweep.random_values({"lr": text}, 1, 0)


def test_all_trials_are_trained_and_told_in_a_table(run, tmp_path):
    code, out, _ = run("--grid lr=1e-4,2e-4 --grid batch_size=8,16 --config.seed=3")
    assert code == 0
    found = results(tmp_path)
    assert [r["trial"] for r in found] == ["000", "001", "002", "003"]
    assert found[2]["values"] == {"lr": "2e-4", "batch_size": "8"}
    assert found[2] == {
        **found[2],
        "state": "done",
        "reason": None,
        "step": 8,
        "steps": 8,
        "losses": {"generator/loss": 0.125},
        "best_eval_l1": 0.0625,
        "images_per_s": 10.0,
    }
    (note,) = starts(tmp_path, "002")
    given = [word for word in note["words"] if word.startswith("--config.")]
    assert given == ["--config.seed=3", "--config.lr=2e-4", "--config.batch_size=8"]
    assert str(tmp_path / "out" / "002") in note["words"]
    table = (tmp_path / "out" / "summary.md").read_text()
    assert "| trial | lr | batch_size | state | step | generator/loss | best eval/l1 | images/s |" in table
    assert "| 002 | 2e-4 | 8 | done | 8/8 | 0.125 | 0.0625 | 10.0 |" in table
    assert re.search(r"002 +2e-4 +8 +done +8/8", out)


def test_it_goes_on_where_it_was(run, tmp_path):
    words = "--grid lr=1e-4,2e-4"
    code, out, err = run(f"{words} --restarts 0", [["log:4 save:4 exit:1"], ["exit:2"]])
    assert code == 1
    assert [(r["state"], r["step"]) for r in results(tmp_path)] == [("failed", 4), ("failed", 4)]
    done = tmp_path / "out" / "000"
    (done / "checkpoints" / "00000008").mkdir()
    assert run(words)[0] == 0
    assert [r["state"] for r in results(tmp_path)] == ["done", "done"]
    assert len(starts(tmp_path, "000")) == 2  # left alone
    assert len(starts(tmp_path, "001")) == 3
    assert run("--collect")[0] == 0
    assert run(words)[0] == 0
    assert len(starts(tmp_path, "001")) == 3


def test_a_failure_stops_no_other_and_its_reason_is_told(run, tmp_path):
    plan = [["say:reenax:error:out-of-memory say:bye exit:2"]]
    code, out, err = run("--grid lr=1e-4,2e-4", plan)
    assert code == 1
    assert [r["state"] for r in results(tmp_path)] == ["failed", "failed"]
    assert results(tmp_path)[1]["reason"] == "exit code 2: reenax:error:out-of-memory"
    assert "- 001 failed: exit code 2: reenax:error:out-of-memory" in out
    assert "- 001 failed: exit code 2: reenax:error:out-of-memory" in (tmp_path / "out" / "summary.md").read_text()


def test_a_stopped_sweep_begins_no_other_trial(run, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "run", lambda *_, **__: local.Outcome(143, stopped=True))
    assert run("--grid lr=1e-4,2e-4")[0] == 75
    assert [r["state"] for r in results(tmp_path)] == ["waiting", "waiting"]


def test_the_plan_comes_first_and_another_one_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "train", lambda *_: 0)
    run("--random lr=log:1e-5..1e-3 --trials 2 --seed 4")
    plan = json.loads((tmp_path / "out" / "trials.json").read_text())
    assert len(plan["runs"]) == 2
    run("--random lr=log:1e-5..1e-3 --trials 2 --seed 4")
    code, out, err = run("--random lr=log:1e-5..1e-3 --trials 3 --seed 4")
    assert (code, out) == (2, "")
    assert "out holds another sweep: its trials is 2, now it is 3; repeat the first command, or give a new --out" in err
    assert json.loads((tmp_path / "out" / "trials.json").read_text()) == plan


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give either --grid KEY=A,B or --random"),
        ("--grid lr=1 --random lr=log:1..2", "give either --grid"),
        ("--grid lr=1 --trials 2", "--trials and --seed are for --random"),
        ("--random lr=log:1..2", "--random needs --trials N"),
        ("--grid lr", "'lr': give KEY=VALUES"),
        ("--grid lr=1,,2", "lr=1,,2: there is an empty value"),
        ("--grid lr=1,1", "lr=1,1: a value is there twice"),
        ("--grid lr=1 --grid lr=2", "lr is given twice"),
        ("--grid lr=1 --config.lr=2", "lr is given twice"),
        ("--grid lr=1e-4,fast", "--config.lr=fast"),
        ("--grid rate=1", "config.rate is no key of the config"),
        ("--grid lr=1 --target jobset --accelerator h100 --image a --claim b", "the pods see only /mnt/reenax"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(run, tmp_path, words, message):
    code, out, err = run(words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("sweep: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    assert "out is not empty and holds no trials.json" in run("--grid lr=1,2")[2]
    assert "trials.json cannot be read" in run("--collect")[2]


def test_jobs_are_written_for_a_cluster(run, tmp_path):
    words = "--grid lr=1e-4,2e-4 --target slurm --nodes 2"
    code, out, _ = run(words)
    assert code == 0
    jobs = sorted((tmp_path / "out").glob("*.sbatch"))
    assert [job.name for job in jobs] == ["000.sbatch", "001.sbatch"]
    assert "#SBATCH --job-name=out-001" in jobs[1].read_text()
    assert "--config.lr=2e-4" in jobs[1].read_text()
    # the line that submits them does, wherever the folder is
    (submit,) = re.findall(r"submit them: (.*)", out)
    listed = subprocess.run(["bash", "-c", f'sbatch() {{ echo "$1"; }}; {submit}'], capture_output=True, text=True)
    assert listed.stdout.split() == [str(job) for job in jobs]
    # those that are done need no job any more
    (tmp_path / "out" / "000" / "checkpoints" / "00000008").mkdir(parents=True)
    (tmp_path / "out" / "000" / "config.json").write_text('{"steps": 8, "save_every": 4}')
    assert run(words)[0] == 0
    assert [job.name for job in sorted((tmp_path / "out").glob("*.sbatch"))] == ["001.sbatch"]
    assert [r["state"] for r in results(tmp_path)] == ["done", "waiting"]


def test_a_run_that_saves_nothing_is_done_by_its_metrics(run, tmp_path):
    assert run("--grid lr=1e-4")[0] == 0
    folder = tmp_path / "out" / "000"
    (folder / "config.json").write_text('{"steps": 8, "save_every": 0}')
    (folder / "metrics.jsonl").write_text('{"step": 8}\n{"step": 9, "gener')
    for step in (4, 8):
        (folder / "checkpoints" / f"{step:08d}").rmdir()
    run("--collect")
    assert results(tmp_path)[0]["state"] == "done"


def test_two_real_processes_train_a_real_trial(tmp_path, capsys):
    data = worlds.build_world(tmp_path / "world", cross=False)
    words = ["--config", "configs/estimators.py:smoke", "--data", str(data), "--out", str(tmp_path / "out")]
    words += [*SMALL, "--grid", "batch_size=4,5", "--processes", "2", "--devices-per-process", "1"]
    assert sweep.main(words) == 1
    good, bad = results(tmp_path)
    assert (good["state"], good["step"], good["steps"]) == ("done", 2, 2)
    assert good["best_eval_l1"] > 0
    assert {"landmarks/loss", "motion/loss", "identity/loss"} == set(good["losses"])
    assert json.loads((tmp_path / "out" / "000" / "facts.json").read_text())["processes"] == 2
    assert bad["state"] == "failed"
    assert "exit code 2: " in bad["reason"]
    assert "config.batch_size=5" in bad["reason"]
