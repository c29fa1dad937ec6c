"""What befalls long trainings, really done to them: nothing that was saved is lost, and the numbers stay the same."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.launch.local import Local
from experiments.launch.local import run as launch
from experiments.launch.training import Training
from tests.damage import damage_record, flip_bytes
from tests.train.running import (
    TOYS,
    Process,
    World,
    alive,
    checkpoint_steps,
    descendants,
    digests,
    finish,
    rows,
    together,
    world,
)

__all__ = ["world"]

KILLS = 50
LONG = 20 * KILLS  # more than so many lives of at most 13 steps and what is done until the signal comes
QUICK = ("--config.eval_every=0",)
STEP = r"step \d+/"


def trained(world: World, name: str, steps: int) -> Path:
    """A run that nothing happened to."""
    words = world.words("painting", name, f"--config.steps={steps}", *QUICK)
    finish([Process(words, world.folder / f"{name}.txt")])
    return world.folder / name


def kill_at_random(world: World, name: str, kills: int, steps: int, rng: random.Random) -> None:
    """Trains with so many SIGKILLs in between, most of them in steps, saves and reading, some while starting."""
    words = world.words("painting", name, f"--config.steps={steps}", *QUICK)
    for number in range(kills):
        process = Process(words, world.folder / f"{name}{number}.txt")
        if rng.random() < 0.85:
            first = int(process.wait_for(r"step (\d+)/")[1])
            process.wait_for(rf"step {first + rng.randint(0, 12)}/")
            time.sleep(rng.uniform(0, 0.05))
        else:
            time.sleep(rng.uniform(0, 2))
        assert process.popen.poll() is None, f"ended before kill {number}:\n{process.text}"
        process.kill()
    finish([Process(words, world.folder / f"{name}_last.txt")])


def assert_same(run: Path, other: Path, steps: int) -> None:
    assert rows(run) == rows(other)
    assert checkpoint_steps(run)[-1] == checkpoint_steps(other)[-1] == steps
    assert digests(run, steps) == digests(other, steps)


def test_killed_fifty_times_and_the_same_to_the_last_bit(world: World) -> None:
    kill_at_random(world, "killed", KILLS, LONG, random.Random(7))
    assert_same(world.folder / "killed", trained(world, "whole", LONG), LONG)
    assert not list((world.folder / "killed").glob("checkpoints/*tmp*")), "what killed saves left is removed"


@pytest.mark.slow
def test_killed_at_moments_that_nobody_chose(world: World) -> None:
    seed = time.time_ns()
    kill_at_random(world, f"random{seed}", 4 * KILLS, 4 * LONG, random.Random(seed))
    assert_same(world.folder / f"random{seed}", trained(world, "longer", 4 * LONG), 4 * LONG)


@pytest.fixture(scope="module")
def pair(world: World) -> Path:
    """A run of two processes that nothing happened to."""
    finish(together(world.words("table", "pair", "--config.steps=150"), world.folder / "pair_logs", 2, 1))
    return world.folder / "pair"


def test_sigterm_to_one_of_two_saves_in_both_at_one_step(world: World, pair: Path) -> None:
    words = world.words("table", "told", "--config.steps=150")
    first, second = processes = together(words, world.folder / "told_logs", 2, 1)
    first.wait_for(STEP)
    second.popen.send_signal(signal.SIGTERM)
    finish(processes, 75)
    saved = int(first.wait_for(r"SIGTERM: saved step (\d+); continue with `reenax train --resume")[1])
    run = world.folder / "told"
    assert 0 < saved < 150
    assert checkpoint_steps(run)[-1] == saved == max(rows(run))
    finish(together(words, world.folder / "told_again", 2, 1))
    assert rows(run) == rows(pair)
    assert digests(run, 150) == digests(pair, 150)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_others_leave_with_one_line(world: World, victim: int) -> None:
    words = world.words("table", f"lost{victim}", "--config.steps=1000000", "--config.batch_size=6")
    processes = together(words, world.folder / f"lost{victim}_logs", 3, 1)
    processes[0].wait_for(STEP)
    processes[victim].kill()
    for k in {0, 1, 2} - {victim}:
        assert processes[k].wait() == 76, processes[k].text
        lines = processes[k].text.splitlines()
        said = [line for line in lines if line and not re.match(r"step |toy_|compiled |process ", line)]
        assert len(said) == 1, said
        assert re.match(rf"reenax: process {k} of 3 stops: another process was lost \(.+\); all checkpoints", said[0])


def test_the_launcher_goes_on_from_the_last_checkpoint(world: World, pair: Path) -> None:
    """One of its processes is killed in the middle; the launcher starts all of them again."""
    run, log = world.folder / "launched", world.folder / "launched.txt"
    killed = []

    def kill_one() -> None:
        while not (run / "checkpoints/00000030").is_dir():
            time.sleep(0.02)
        while not (here := [n for n in descendants(os.getpid()) if "--process-id\0001\0" in command_of(n)]):
            time.sleep(0.02)
        killed.append(here[-1])  # the trainer itself, not the one that watches it
        os.kill(here[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    training = Training(f"{world.config}:table", world.data, run, ("--config.steps=150",))
    outcome = launch(training, Local(2, 1), trainer=TOYS, output=log)
    assert killed
    assert outcome.code == 0, log.read_text()
    assert re.search(r"continuing from step \d+", log.read_text())
    assert rows(run) == rows(pair)
    assert digests(run, 150) == digests(pair, 150)


def command_of(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_named_set_aside_and_done_without(world: World, damage: str) -> None:
    """Of two processes that hold half a table each: what one cannot read, the other must do without too."""
    name = f"damaged_{damage}"
    sharded = ("--config.mesh.data=1", "--config.mesh.fsdp=2")
    words = world.words("table", name, *sharded)
    finish(together([*words, "--config.steps=20"], world.folder / f"{name}_logs", 2, 1))
    run = world.folder / name
    before = rows(run)
    newest = run / "checkpoints/00000020"
    if damage == "flip":
        flip_bytes(newest / "variables")
    else:
        parts = [p for p in (newest / "variables/ocdbt.process_1/d").iterdir() if p.is_file()]
        for path in parts:
            path.unlink() if damage == "delete" else path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    processes = together([*words, "--config.steps=20"], world.folder / f"{name}_again", 2, 1)
    finish(processes)
    assert re.search(r"checkpoint of step 20 is damaged \(.+\); moved to \S+set_aside/00000020", processes[0].text)
    assert "continuing from step 15" in processes[0].text
    assert "damaged" not in processes[1].text, "said once"
    assert rows(run) == before
    assert (run / "set_aside/00000020").is_dir()
    assert checkpoint_steps(run)[-1] == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", where], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("making a small disk needs the right to mount one")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(world: World, small_disk: Path) -> None:
    run = small_disk / "run"
    words = ["train", "--config", f"{world.config}:painting", "--data", str(world.data), "--run", str(run)]
    words += ["--or-resume", "--config.steps=250", *QUICK, "--config.keep_latest=1000"]
    process = Process(words, world.folder / "full.txt")
    assert process.wait() == 2, process.text
    said = [line for line in process.text.splitlines() if not re.match(r"step |toy_|compiled |process ", line)]
    assert len(said) == 1, process.text
    assert re.match(r"reenax: error: the disk that holds \S+ is full: free some space and resume", said[0])
    whole = checkpoint_steps(run)
    assert whole
    moved = world.folder / "moved"
    shutil.copytree(run, moved)
    trained(world, "moved", 250)  # goes on
    assert f"continuing from step {whole[-1]}" in (world.folder / "moved.txt").read_text()
    assert_same(moved, trained(world, "roomy", 250), 250)


def test_a_damaged_record_stops_or_is_left_out(world: World, tmp_path: Path) -> None:
    hurt = tmp_path / "hurt"
    shutil.copytree(world.data, hurt)
    damage_record(hurt)
    words = ["train", "--config", f"{world.config}:painting", "--data", str(hurt), "--config.steps=20"]
    stopped = Process([*words, "--run", str(tmp_path / "a")], tmp_path / "a.txt")
    assert stopped.wait() == 2, stopped.text
    named = r"hurt, split train: record \d of \S+\.array_record\S+ \(\w+\.mp4/\d+\) is damaged"
    last = stopped.text.splitlines()[-1]
    assert re.match(f"reenax: error: .*{named}", last), last
    skip = ("--config.data.damaged=skip", "--config.data.damaged_share=0.2")
    skipping = Process([*words, "--run", str(tmp_path / "b"), *skip], tmp_path / "b.txt")
    finish([skipping])
    assert len(re.findall(f"warning: .*{named} and left out \\(1 of 6 so far\\)", skipping.text)) == 1, skipping.text
    assert max(rows(tmp_path / "b")) == 20


def test_workers_die_with_a_killed_training(world: World) -> None:
    words = world.words("painting", "workers", "--config.steps=1000000", "--config.data.workers=2")
    process = Process(words, world.folder / "workers.txt")
    process.wait_for(STEP)
    workers = descendants(process.popen.pid)
    assert len(workers) >= 2
    process.popen.kill()
    process.popen.wait()
    end = time.monotonic() + 60
    while any(alive(number) for number in workers):
        assert time.monotonic() < end, "workers outlive the training"
        time.sleep(0.1)


@pytest.mark.parametrize("mode", ["stop", "rewind"])
def test_no_number_from_a_step_on_stops_and_names_everything(world: World, mode: str) -> None:
    name = f"nan_{mode}"
    more = ("--config.steps=40", "--config.model.at=12", f"--config.on_nonfinite={mode}")
    process = Process(world.words("exploding", name, *more), world.folder / f"{name}.txt")
    assert process.wait() == 2, process.text
    last = process.text.splitlines()[-1]
    named = r"painter no longer finite \(painter/.*spoilt=nan.*; the first network is painter\)"
    assert re.match(f"reenax: error: step 12: {named}", last), last
    assert "painter/mse" not in last
    times = process.text.count("going back to step 10 and on with other data")
    assert times == (3 if mode == "rewind" else 0)
    assert ("went back to step 10 3 times already" in last) == (mode == "rewind")
    assert checkpoint_steps(world.folder / name)[-1] == 10


def test_bad_data_is_passed_by_and_a_resume_knows_it(world: World) -> None:
    more = ("--config.steps=160", "--config.model.residue=11", "--config.on_nonfinite=rewind", "--config.eval_every=0")
    first = Process(world.words("exploding", "passed", *more), world.folder / "passed.txt")
    finish([first])
    assert "going back to step" in first.text
    run = world.folder / "passed"
    kept = json.loads((run / "rewinds.json").read_text())
    assert len(kept) >= 2
    assert max(rows(run)) == 160
    # the same, but killed after the first time, and continued
    words = world.words("exploding", "passed_killed", *more)
    second = Process(words, world.folder / "passed_killed.txt")
    found = second.wait_for(r"going back to step (\d+)")
    later = int(found[1]) + 5
    while not (world.folder / f"passed_killed/checkpoints/{later:08d}").is_dir():
        time.sleep(0.005)
    assert second.popen.poll() is None
    second.kill()
    finish([Process(words, world.folder / "passed_resumed.txt")])
    assert rows(world.folder / "passed_killed") == rows(run)
    assert json.loads((world.folder / "passed_killed/rewinds.json").read_text()) == kept


def test_a_run_killed_before_its_first_checkpoint_begins_where_it_began(world: World) -> None:
    """Its variables came from another run, and a tuple of its config was changed."""
    trained(world, "teacher", 10)
    more = ["--warm-start", str(world.folder / "teacher"), "--config.steps=12", "--config.data.resize=(0.9,1.1)"]
    words = world.words("painting", "pupil", *more)
    process = Process(words, world.folder / "pupil.txt")
    process.wait_for(r"step 1/")
    process.kill()
    shutil.rmtree(world.folder / "pupil/checkpoints")
    finish([Process(words, world.folder / "pupil_again.txt")])
    finish([Process(world.words("painting", "other_pupil", *more), world.folder / "other_pupil.txt")])
    assert_same(world.folder / "pupil", world.folder / "other_pupil", 12)


def test_sigterm_before_the_first_step_is_not_lost(world: World) -> None:
    """One process with a coordinator, as the launcher starts it: jax takes the signal as soon as it has joined."""
    (process,) = together(world.words("painting", "early", "--config.steps=100000"), world.folder / "early_logs", 1, 1)
    process.wait_for("process 0 of 1")
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 75, process.text
    assert checkpoint_steps(world.folder / "early")
