"""A run folder is enough to train the same again; what differs is named."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reenax import cli
from reenax.train import facts
from tests.train.running import World, digests, rows, world
from tests.train.toy_cli import register

__all__ = ["world"]

STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def _toys() -> None:
    register()


def train(*words: str) -> int:
    return cli.main(["train", *words])


@pytest.fixture(scope="module")
def start(world: World) -> Path:
    """A run whose networks others start from."""
    assert cli.main(world.words("painting", "start", "--config.steps=5", "--config.seed=3")) == 0
    return world.folder / "start"


@pytest.fixture(scope="module")
def first(world: World, start: Path) -> Path:
    words = world.words("painting", "first", f"--config.steps={STEPS}", "--config.lr=2e-3", "--warm-start", str(start))
    assert cli.main(words) == 0
    return world.folder / "first"


def test_a_run_is_repeated_to_the_last_bit(world: World, first: Path) -> None:
    again = world.folder / "again"
    assert train("--repeat", str(first), "--run", str(again)) == 0
    assert rows(again) == rows(first)
    assert digests(again, STEPS) == digests(first, STEPS)
    assert json.loads((again / "config.json").read_text()) == json.loads((first / "config.json").read_text())


def changed(run: Path, to: Path, **values: object) -> Path:
    """A copy of a run folder whose facts are others."""
    shutil.copytree(run, to)
    noted = json.loads((to / "facts.json").read_text())
    (to / "facts.json").write_text(json.dumps({**noted, **values}))
    return to


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"packages": {"jax": "0.1.0"}}, "jax was 0.1.0, is 0."),
        ({"git_revision": "abc"}, "git revision was abc, is "),
        ({"data_digest": "0" * 64}, "the dataset's digest was 000000000000, is "),
        ({"python": "2.7"}, "Python was 2.7, is 3."),
        ({"processes": 4}, "processes was 4, is 1"),
        ({"devices": ["tpu 0", "tpu 1"]}, "the devices were 2 x tpu, are 8 x cpu"),
        ({"resumed": [{"step": 5, "changes": []}]}, "the run was continued from step 5 with other settings"),
    ],
)
def test_what_differs_is_refused_or_said(
    values: dict, words: str, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(first, tmp_path / "other", **values)
    capsys.readouterr()
    assert train("--repeat", str(other), "--run", str(tmp_path / "new")) == 2
    said = capsys.readouterr().err
    assert said.startswith("reenax: error: ")
    assert words in said
    assert "--differences warn" in said
    assert not (tmp_path / "new").exists()
    assert train("--repeat", str(other), "--run", str(tmp_path / "new"), "--differences", "warn") == 0
    assert words in capsys.readouterr().err
    assert rows(tmp_path / "new") == rows(first)


def test_another_starting_point_is_noticed(
    first: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(start, kept)
    try:
        assert train("--resume", str(start), "--config.steps=6") == 0
        assert train("--repeat", str(first), "--run", str(tmp_path / "new")) == 2
        assert "the variables that it started from are others" in capsys.readouterr().err
    finally:
        shutil.rmtree(start)
        shutil.copytree(kept, start)


def test_a_run_continued_with_other_settings_says_so(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(first, run)
    assert train("--resume", str(run), f"--config.steps={STEPS + 4}", "--config.lr=1e-3") == 0
    assert f"goes on from step {STEPS} with changes: the config was changed" in capsys.readouterr().err
    noted = json.loads((run / "facts.json").read_text())["resumed"]
    assert noted == [{"step": STEPS, "changes": ["the config was changed"]}]
    assert train("--repeat", str(run), "--run", str(tmp_path / "new")) == 2
    assert f"was continued from step {STEPS} with other settings" in capsys.readouterr().err


def test_the_revision_tells_what_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "reenax"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    monkeypatch.setattr(facts.reenax, "__file__", str(package / "__init__.py"))
    assert facts.git_revision() is None, "it is no checkout"
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = facts.git_revision()
    assert clean is not None
    assert len(clean) == 40
    seen = {clean}
    for number in range(2):
        (package / "__init__.py").write_text(f"b = {number}\n")
        revision = facts.git_revision()
        assert revision is not None
        assert revision.startswith(f"{clean}-changed-")
        seen.add(revision)
    assert len(seen) == 3


def test_wandb_gets_the_facts(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    given = {}
    monkeypatch.setattr(wandb, "init", lambda **words: given.update(words))
    run = tmp_path / "run"
    shutil.copytree(first, run)
    assert train("--resume", str(run), f"--config.steps={STEPS + 1}", "--config.wandb.mode=offline") == 0
    noted = json.loads((run / "facts.json").read_text())
    assert given["config"]["facts"]["packages"] == noted["packages"]
    assert given["config"]["facts"]["data_digest"] == noted["data_digest"]
    assert given["config"]["lr"] == 2e-3
