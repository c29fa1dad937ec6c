"""What trainings log is read rightly, and all that `experiments.scale` measures comes out, however fast that is."""

import json
import math
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.clips import open_clips
from experiments.launch.local import Local
from experiments.scale import Trials, read_timing, scale, settled_step, shares
from experiments.speed import noise_clips
from reenax.core.errors import UserError
from reenax.train.progress import Progress
from tests.train.toy_cli import write_config

ROOT = Path(__file__).parents[2]
TOYS = (sys.executable, str(ROOT / "tests/train/toy_cli.py"))
SIZE = 16


def logged(folder: Path, *rows: dict[str, float]) -> Path:
    """A run that has logged rows."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_step_times_are_read_from_mean_rates(tmp_path):
    run = logged(
        tmp_path,
        {"step": 1, "loss": 3.0},
        {"step": 2, "speed/steps_per_s": 1 / 4},
        {"step": 3, "speed/steps_per_s": 2 / 5},
        {"step": 4, "speed/steps_per_s": 3 / 7, "speed/save_seconds": 0.5},
        {"step": 4, "eval/l1": 0.1},
        {"step": 5, "speed/steps_per_s": 4 / 10, "speed/save_seconds": 0.5},
        {"step": 6, "speed/steps_per_s": 5 / 11, "speed/save_seconds": 0.25},
    )
    timing = read_timing(run)
    assert timing.steps == pytest.approx([4, 1, 2, 3, 1])
    assert timing.saves == [0.5, 0.25]
    assert settled_step(timing) == pytest.approx(2)  # of 2, 3, 1


def test_step_times_are_those_that_a_progress_was_told(tmp_path, monkeypatch):
    """Over more steps than it remembers, and from a step in the middle of a run."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    rows, lengths = [], [0.1 + 0.01 * (k % 7) for k in range(250)]
    progress = Progress(20, 300, 8, shown=False)
    for step, length in enumerate(lengths, start=21):
        now += length
        progress.update(step, {})
        rows.append({"step": step, **progress.rates()})
    assert read_timing(logged(tmp_path, *rows)).steps == pytest.approx(lengths[1:])


def test_every_row_of_a_batch_has_one_process():
    assert shares(8, 1) == [list(range(8))]
    assert shares(8, 3) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    with pytest.raises(UserError, match="cannot be shared by 9"):
        shares(8, 9)


def test_noise_is_made_once_a_size(tmp_path):
    trials = Trials(tmp_path, None, TOYS)
    made = trials.data(SIZE)
    assert open_clips(made, "train").size == SIZE
    assert trials.data(SIZE) == made
    assert Trials(tmp_path, tmp_path / "given", TOYS).data(SIZE) == tmp_path / "given"


def test_too_short_trainings_are_refused():
    with pytest.raises(UserError, match="--steps 5: give at least 12"):
        scale(steps=5)


def test_a_training_that_fails_is_told_with_its_last_words(tmp_path):
    failing = (sys.executable, "-c", "import sys; print('no luck\\n'); sys.exit(2)")
    trials = Trials(tmp_path, tmp_path, failing)
    with pytest.raises(UserError, match="ended with 2: no luck"):
        trials.train(trials.training("configs/fomm.py:smoke"), Local(restarts=0))


NAMES = {
    "loader": ["loader, 1: examples/s each", "loader, 2: examples/s each"],
    "steps": ["steps, 1: seconds", "steps, 2: seconds"],
    "stall": ["stall: seconds a save", "stall: seconds a step", "stall: share"],
    "start": ["start, cold: seconds", "start, programs compiled: seconds", "start, resumed: seconds"],
}


@pytest.mark.parametrize("parts", [("loader", "steps"), ("stall", "start")], ids="-".join)
def test_all_is_measured(parts, tmp_path, monkeypatch, capsys):
    """With toys, over one process and two."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(ROOT)
    config = f"{write_config(tmp_path, SIZE)}:painting"
    rows = scale(
        parts,
        noise_clips(tmp_path / "noise", SIZE),
        config=config,
        stall_config=config,
        steps=13,
        processes=(1, 2),
        rounds=1,
        batch_size=4,
        seconds=0.2,
        trainer=TOYS,
    )
    assert list(rows) == [name for part in parts for name in NAMES[part]]
    assert all(math.isfinite(value) and value > 0 for value in rows.values()), rows
    assert rows.get("stall: share", 0) < 1
    printed = capsys.readouterr().out
    assert " 1.00 x " in printed
    assert ("goal: under 2 %" in printed) == ("stall" in parts)
