"""The loop saves, resumes, stops and reports as it should."""

import dataclasses
import json
import logging
import os
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from reenax.core.errors import UserError
from reenax.core.types import LossOut, Player
from reenax.core.updates import Gradient
from reenax.train.checkpoint import Checkpoints
from reenax.train.engine import Engine
from reenax.train.loop import MetricQueue, NonFiniteError, Preempted, Schedule, run_loop
from reenax.train.optim import make_optimisers, make_schedule
from reenax.train.runs import batch_shapes, check_run_folder
from reenax.train.sharding import make_mesh
from reenax.train.validate import Validator
from reenax.train.writers import Writers
from tests.train.toys import Regression, optimisers, pictures

CONFIG = {"wandb": {"mode": "disabled", "project": "test"}}
SCHEDULE = Schedule(steps=12, log_every=2, save_every=4, eval_every=4, sample_every=6)


def start(folder, method=None, schedule=SCHEDULE, interrupt=None):
    """Trains in a folder from its newest checkpoint, as `reenax train` does."""
    method = method or Regression()
    engine = Engine.build(method, method.players(optimisers()), make_mesh(2, 1), pictures(0), seed=1)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore(engine.abstract) or engine.fresh_state(pictures(0))
        begin = int(state.step)

        def batches():
            for i in range(begin, 1000):
                if interrupt is not None:
                    interrupt(i)
                yield pictures(i)

        clip = pictures(7, batch=10)["source"]
        validator = Validator(engine, [pictures(99)], clip, fps=25.0)
        writers = Writers(folder, CONFIG, begin)
        try:
            return run_loop(
                engine, state, batches(), schedule, checkpoints, writers, batch_shapes(pictures(0)), validator
            )
        finally:
            writers.close()


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in lines]


class Killed(Exception):
    """Stands for a machine that goes away: nothing is saved on the way out."""


def test_a_killed_run_continues_as_if_it_had_not_been(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = start(whole)

    def kill(step):
        if step == 9:
            raise Killed

    with pytest.raises(Killed):
        start(broken, interrupt=kill)
    state = start(broken)
    jax.tree.map(np.testing.assert_array_equal, expected.params, state.params)
    assert rows(broken) == rows(whole)
    assert [r["step"] for r in rows(whole)] == [2, 4, 4, 6, 8, 8, 10, 12, 12]
    assert {"eval/l1"} < set(rows(whole)[2])


def test_a_half_written_row_of_metrics_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "a": 1.0}\n{"step": 4, "a": 2.0}\n{"step": 6, "a"')
    Writers(tmp_path, CONFIG, start=2).close()
    assert path.read_text() == '{"step": 2, "a": 1.0}\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(Preempted, match=f"{number.name}: saved step "):
        start(tmp_path, interrupt=lambda step: os.kill(os.getpid(), number) if step == 5 else None)
    assert signal.getsignal(number) is before
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        saved = checkpoints.latest_step()
    assert saved is not None
    assert saved not in (4, 8)
    assert 0 < saved < 12
    assert int(start(tmp_path).step) == 12


@dataclasses.dataclass(frozen=True)
class Exploding(Regression):
    """Becomes infinite at a step."""

    at: int = 6

    def players(self, optim, accumulate=1):
        return (Player("painter", ("painter",), Gradient(self.bad_loss, optim["painter"])),)

    def bad_loss(self, variables, batch, rng, *, step, shared):
        out = self.loss(variables, batch, rng, step=step, shared=shared)
        bad = out.loss / (self.at - 1 - step)
        return LossOut(bad, {"mse": out.loss, "ratio": bad}, out.mutated)


def test_a_loss_that_is_not_finite_stops_and_names_player_and_term(tmp_path):
    with pytest.raises(NonFiniteError, match=r"step 6: painter no longer finite \(.*painter/ratio=inf") as error:
        start(tmp_path, Exploding())
    assert "painter/mse" not in str(error.value)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 4


def test_players_and_networks_are_named_in_the_order_of_their_moves():
    """A compiled step gives its metrics in alphabetical order."""
    (player,) = Regression().players(optimisers())
    game = player.update
    players = (Player("zoe", ("zebra", "ape"), game), Player("abe", ("bear",), game, persists=("pool",)))
    bad = {"abe/loss": jnp.nan, "zoe/loss": jnp.inf, "zoe/fine": 1.0}
    flags = {"abe/nonfinite/bear": 1.0, "abe/nonfinite/pool": 0.0, "zoe/nonfinite/ape": 0.0, "zoe/nonfinite/zebra": 1.0}
    queue = MetricQueue(players, delay=0)
    assert queue.put(1, {"zoe/fine": jnp.ones(())}) == [(1, {"zoe/fine": 1.0})]
    named = r"step 2: zoe and abe no longer finite \(zoe/loss=inf, abe/loss=nan; the first network is zebra\)"
    with pytest.raises(NonFiniteError, match=named):
        queue.put(2, {k: jnp.asarray(v) for k, v in (bad | flags).items()})
    with pytest.raises(
        NonFiniteError, match=r"step 3: abe no longer finite \(all terms are; the first network is bear"
    ):
        queue.put(3, {"abe/loss": jnp.ones(()), "abe/nonfinite/bear": jnp.ones(())})
    with pytest.raises(NonFiniteError, match=r"step 4: abe no longer finite \(abe/loss=nan; no network is yet\)"):
        queue.put(4, {"abe/loss": jnp.asarray(jnp.nan)})


class Remarking(Regression):
    """Has something to say about its numbers."""

    def remarks(self, metrics):
        return ("the loss is a number: rejoice",) if np.isfinite(metrics["painter/loss"]) else ()


def test_what_a_method_says_of_its_numbers_is_logged_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "reenax"):
        start(tmp_path, Remarking())
    assert [r.getMessage() for r in caplog.records if "rejoice" in r.getMessage()] == [
        "step 2: the loss is a number: rejoice"
    ]


def test_sheets_and_clips_are_written(tmp_path):
    start(tmp_path)
    names = sorted(p.name for p in (tmp_path / "samples").iterdir())
    assert names == ["00000006.mp4", "00000006.png", "00000012.mp4", "00000012.png", "columns.txt"]
    sheet = np.asarray(Image.open(tmp_path / "samples" / "00000012.png"))
    batch = pictures(99)
    assert sheet.shape == (6 * 8, 2 * 8, 3)
    np.testing.assert_array_equal(sheet[:8, :8], batch["driving"][0])
    np.testing.assert_array_equal(sheet[40:, 8:], batch["source"][5])


def test_progress_speaks_of_rate_and_time_left(tmp_path, capsys):
    start(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step 10/12")]
    assert len(lines) == 1
    for word in ("steps/s", "images/s", "ETA", "painter/loss"):
        assert word in lines[0]


def test_a_full_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; continue it with `reenax train --resume"):
        check_run_folder(tmp_path)
    check_run_folder(tmp_path / "new")


def test_disk_full_is_one_line_and_keeps_what_was_saved(tmp_path, monkeypatch):
    engine = Engine.build(Regression(), Regression().players(optimisers()), make_mesh(1, 1), pictures(0), seed=1)
    state = engine.fresh_state(pictures(0))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, batch_shapes(pictures(0)))
        checkpoints.wait()

        def full(*args, **kwargs):
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

        monkeypatch.setattr(checkpoints._manager, "save", full)
        with pytest.raises(UserError, match="disk .* is full: free some space and resume; .* up to step 0 are whole"):
            checkpoints.save(state.replace(step=state.step + 1), batch_shapes(pictures(0)))
        assert checkpoints.restore(engine.abstract) is not None


def test_schedules():
    settings = {"lr": 1.0, "schedule": "milestones", "milestones": (2, 4), "factor": 0.1}
    schedule = make_schedule(settings, 100, 10, "config.optim.a")
    np.testing.assert_allclose(
        [np.asarray(schedule(i)) for i in (0, 20, 21, 40, 41)], [1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6
    )
    cosine = make_schedule({"lr": 2.0, "schedule": "cosine", "warmup_steps": 10}, 110, 1, "config.optim.a")
    np.testing.assert_allclose([np.asarray(cosine(i)) for i in (0, 5, 10, 60, 110)], [0, 1, 2, 1, 0], atol=1e-6)
    # GANimation: epochs 1 to 21 at the full rate, the thirtieth at a tenth
    linear = make_schedule({"lr": 1.0, "schedule": "linear", "hold": 20, "decay": 10}, 300, 10, "config.optim.a")
    np.testing.assert_allclose(
        [np.asarray(linear(i)) for i in (0, 209, 210, 299, 400)], [1, 1, 0.9, 0.1, 0], rtol=1e-6, atol=1e-9
    )
    with pytest.raises(UserError, match=r"config.optim.a.decay=0: the linear schedule needs"):
        make_schedule({"lr": 1.0, "schedule": "linear", "hold": 0, "decay": 0}, 1, 1, "config.optim.a")
    with pytest.raises(UserError, match="config.optim.a.schedule='square' is unknown"):
        make_schedule({"lr": 1.0, "schedule": "square"}, 1, 1, "config.optim.a")
    with pytest.raises(UserError, match="config.optim.g.momentum is unknown"):
        make_optimisers({"g": {"lr": 1.0, "momentum": 0.9}}, 1, 1)


def test_optimisers_of_both_kinds():
    settings = {
        "adam": {"lr": 1.0, "l2": 0.5, "schedule": "constant"},
        "sgd": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "clip": 1.0},
    }
    made: Any = make_optimisers(settings, 10, 10)
    params = {"x": np.array([2.0, -4.0], np.float32)}
    zero = {"x": np.zeros(2, np.float32)}
    step, _ = made["adam"].update(zero, made["adam"].init(params), params, step=0)
    np.testing.assert_allclose(step["x"], [-1, 1], rtol=1e-5)  # the decay is all gradient that there is
    state, steps = made["sgd"].init(params), []
    for _ in range(2):
        step, state = made["sgd"].update({"x": np.array([3.0, 4.0], np.float32)}, state, params, step=1)
        steps.append(step["x"])
    np.testing.assert_allclose(steps, [[-0.06, -0.08], [-0.114, -0.152]], rtol=1e-5)
    seldom: Any = make_optimisers({"g": {"kind": "sgd", "lr": 1.0, "schedule": "cosine"}}, 10, 1)["g"]
    step, _ = seldom.update({"x": np.ones(2, np.float32)}, seldom.init(params), params, step=5)  # its first move
    np.testing.assert_allclose(step["x"], [-0.5, -0.5], rtol=1e-6)
    with pytest.raises(UserError, match=r"config.optim.g.kind='lion' is unknown; use adam or sgd"):
        make_optimisers({"g": {"kind": "lion", "lr": 1.0}}, 1, 1)


def test_wandb_writes_offline(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        writers = Writers(tmp_path, {"wandb": {"mode": "offline", "project": "test"}}, 0)
    writers.scalars(1, {"a": 1.0})
    writers.sheet(1, {"x": np.zeros((1, 4, 4, 3))})
    writers.close()
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_wandb_falls_back_to_offline_when_it_cannot_be_reached(tmp_path, monkeypatch, caplog):
    import wandb

    tried = []

    def init(*, mode, **_):
        tried.append(mode)
        if mode == "online":
            raise wandb.Error("no network")

    monkeypatch.setattr(wandb, "init", init)
    with caplog.at_level(logging.WARNING, "reenax"):
        Writers(tmp_path, {"wandb": {"mode": "online", "project": "test"}}, 0).close()
    assert tried == ["online", "offline"]
    assert "wandb cannot be reached (no network)" in caplog.text
