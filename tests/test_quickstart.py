"""The quickstart leaves data, a run, numbers, videos and a page; stopped, it leaves what there is, and goes on."""

import json
from pathlib import Path

import pytest

from data_pipelines.media import iterate_frames
from reenax import cli, quickstart
from reenax.inference import provenance


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("steps=2", "save_every=2", "eval_every=0", "sample_every=0", "log_every=1")
    tiny = {"PEOPLE": 3, "SECONDS": 0.4, "FPS": 5.0, "TEST_SHARE": 0.3, "DEMOS": 1, "DEMO_SECONDS": 0.12, "EXAMPLES": 1}
    tiny |= {"CONFIG": "configs/fomm.py:smoke", "SHORT": tuple(f"--config.{change}" for change in short)}
    for name, value in tiny.items():
        monkeypatch.setattr(quickstart, name, value)
    monkeypatch.setattr(quickstart.os, "cpu_count", lambda: 1)  # no worker processes


def test_stopped_it_leaves_a_page_and_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    page = tmp_path / "index.html"
    with monkeypatch.context() as patch:
        patch.setattr(quickstart, "evaluate", stopped)
        assert cli.main(["quickstart", "--out", str(tmp_path)]) == 130
    assert "stopped" in capsys.readouterr().err
    assert "it continues there" in page.read_text()
    steps = (tmp_path / "run" / "metrics.jsonl").read_text()

    assert cli.main(["quickstart", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "nothing left to do" in said.err
    assert "cross, absolute: copy the source" in said.out
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == steps
    numbers = json.loads((tmp_path / "evaluation.json").read_text())["protocols"]
    assert set(numbers) == {"self", "cross", "cross_relative"}
    demo = tmp_path / "demo1"
    frames = list(iterate_frames(demo / "compare.mp4"))
    assert [frame.pixels.shape for frame in frames] == [(256, 1024, 3)] * 3
    for name in ("animated.mp4", "compare.mp4"):
        credentials = provenance.read(demo / name)
        assert credentials is not None
        assert credentials["made_by_ai"]
    text = page.read_text()
    assert text.count("data:video/mp4;base64,") == 1
    assert "it continues there" not in text
    assert "<code>reenax prepare synthetic <span>--identities 3</span>" in text
