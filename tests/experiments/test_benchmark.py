"""The benchmark measures, writes everything or nothing, and says in one line what is wrong."""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import benchmark
from reenax.inference.sheet import COLUMNS, Example, draw_sheet
from reenax.interop import lpips as published
from reenax.metrics import lpips as perceptual
from reenax.metrics.pixel import l1
from reenax.train import runs
from reenax.train.config import load_config
from tests.inference import worlds
from tests.inference.toys import trained

LABELS = {"landmarks": (68, 2), "pose": (6,), "expression": (52,), "identity_coefficients": (80,)}
SMALL = (
    "--config.data.size=32",
    "--config.model.landmarks.num_blocks=1",
    "--config.model.motion.num_blocks=2",
    "--config.model.identity.num_blocks=2",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return worlds.build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def readers(world, tmp_path_factory) -> Path:
    """A folder of estimators that have learnt nothing."""
    folder = tmp_path_factory.mktemp("runs") / "readers"
    config = load_config("configs/estimators.py:smoke", SMALL)
    shapes: Any = {"source": [[1, worlds.SIZE, worlds.SIZE, 3], "uint8"]}
    shapes |= {name: [[1, *shape], "float32"] for name, shape in LABELS.items()}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, (shape, _) in shapes.items()}
    rng, abstract = np.random.default_rng(0), jax.eval_shape(runs.make_method(config).init, jax.random.key(0), batch)
    variables = jax.tree.map(lambda x: rng.uniform(0, 0.1, x.shape).astype(x.dtype), abstract)
    runs.save_imported(folder, config, variables, shapes)
    return folder


@pytest.fixture
def tint(tmp_path, monkeypatch) -> Path:
    """A run folder that loads as a method that needs no training."""
    folder, really = tmp_path / "tint", runs.load_trained
    folder.mkdir()

    def load(path: Path, step: int | None = None) -> Any:
        if path.name != "tint":
            return really(path, step)
        model = trained()
        model.config.data.size = worlds.SIZE
        return model

    monkeypatch.setattr(runs, "load_trained", load)
    return folder


def said(capsys, *arguments: Any) -> str:
    """The one line of error of a command that must fail with exit code 2."""
    capsys.readouterr()
    handlers = logging.getLogger("reenax").handlers
    try:
        assert benchmark.main([str(a) for a in arguments]) == 2
    finally:
        logging.getLogger("reenax").handlers = handlers
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_estimators_are_measured_on_their_own(readers, world, capsys):
    saved = benchmark.estimators(readers, world, max_frames=3)
    assert saved == json.loads((readers / benchmark.ERRORS_FILE).read_text())
    assert saved["frames"] == 18
    assert saved["step"] == 0
    assert {"nme", "pose", "translation", "expression", "action_units", "csim"} <= set(saved["errors"])
    assert "AUC" in capsys.readouterr().out


def test_a_run_is_measured_with_everything(readers, world, tint, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(published, "load", lambda *files: asked.append(files) or {"scale": 3.0})
    monkeypatch.setattr(perceptual, "lpips", lambda a, b, variables: variables["scale"] * l1(a, b))
    benchmark.estimators(readers, world, max_frames=3)
    files = (Path("alexnet.pth"), Path("alex.pth"))
    saved = benchmark.run(tint, world, estimators=readers, lpips=files, max_frames=4)
    assert asked == [("alex", *files)]
    out = tint / "benchmark"
    assert sorted(p.name for p in out.iterdir()) == ["benchmark.json", "benchmark.md", "sheet.png"]
    written = json.loads((out / "benchmark.json").read_text())
    assert written == json.loads(json.dumps(saved, allow_nan=False))
    assert set(written["protocols"]) == {"self", "cross", "cross_relative"}
    cross = written["protocols"]["cross"]
    assert {"l1", "psnr", "ssim", "lpips", "face_l1", "mouth_l1", "nme", "csim"} <= set(cross["method"])
    assert cross["copy"]["lpips"] == pytest.approx(3 * cross["copy"]["l1"], rel=1e-5)
    assert set(cross) == {"about", "method", "copy", "copy_driving", "truth"}
    text = (out / "benchmark.md").read_text()
    for part in (
        "| tint (tint, step 7) |",
        "| copy the driving frame |",
        "| the true frames |",
        "LPIPS",
        "## The estimators",
    ):
        assert part in text
    sheet = Image.open(out / "sheet.png")
    assert sheet.size[1] > 6 * 128
    capsys.readouterr()
    # and many of them in one table, in which a baseline stands once
    other = tmp_path / "other"
    other.mkdir()
    (other / "benchmark.json").write_text(json.dumps({**written, "name": "other", "step": 8}))
    again = tmp_path / "tint2.json"
    again.write_text(json.dumps({**written, "run": "/elsewhere/tint"}))
    table = benchmark.collect([tint, out, out / "benchmark.json", other], out / "all")
    assert table.count("| tint (tint, step 7) |") == table.count("| other (tint, step 8) |") == 3
    assert table.count("| copy the source |") == 3
    assert capsys.readouterr().out.strip() == table.strip()
    rows = json.loads((out / "all" / "table.json").read_text())
    assert [row["name"] for row in rows] == ["tint", "other"]
    assert "clips" not in rows[0]
    assert "| /elsewhere/tint (tint, step 7) |" in benchmark.collect([tint, again])
    other_data = {**written, "data_digest": "0" * 32, "name": "third"}
    again.write_text(json.dumps(other_data))
    assert benchmark.collect([tint, again]).count("| copy the source |") == 6


def test_without_a_cross_split_people_are_measured_against_themselves(tint, tmp_path):
    plain = worlds.build_world(tmp_path / "plain", cross=False)
    saved = benchmark.run(tint, plain, out=tmp_path / "out")
    assert set(saved["protocols"]) == {"self"}
    assert (tmp_path / "out" / "sheet.png").is_file()
    assert "copy the driving" not in (tmp_path / "out" / "benchmark.md").read_text()


def test_a_sheet_shows_pixels_as_they_are():
    pictures = [np.full((32, 32, 3), 40 * k, np.uint8) for k in range(5)]
    sheet = np.asarray(
        draw_sheet([Example(("cross", "a very long name of a clip that fits no margin"), tuple(pictures))])
    )
    assert sheet.shape == (24 + 132, 190 + 5 * 132, 3)
    for k in range(len(COLUMNS)):
        assert (sheet[24 : 24 + 128, 190 + 132 * k : 190 + 132 * k + 128] == 40 * k).all()
        assert (sheet[:24, 190 + 132 * k : 190 + 132 * (k + 1)] < 128).any()  # its title
    assert (sheet[:, 186:190] == 255).all()


def test_what_is_wrong_is_said_in_one_line(world, tint, readers, tmp_path, capsys):
    line = said(capsys, "run", "--run", tint, "--data", tmp_path / "none")
    assert "no such dataset folder" in line
    line = said(capsys, "run", "--run", tmp_path / "gone", "--data", world)
    assert "no run folder" in line
    line = said(capsys, "run", "--run", readers, "--data", world)
    assert "estimators has no reenactment to measure" in line
    line = said(capsys, "run", "--run", tint, "--data", world, "--estimators", tint)
    assert "tint is a method that makes pictures" in line
    line = said(capsys, "estimators", "--run", tint, "--data", world)
    assert "tint is a method that makes pictures" in line
    line = said(capsys, "run", "--run", tint, "--data", world, "--lpips", tmp_path / "a.pth", tmp_path / "b.pth")
    assert "a.pth" in line
    line = said(capsys, "collect", tmp_path)
    assert "holds no benchmark.json; measure it" in line
    (tmp_path / "benchmark.json").write_text("[")
    assert "cannot be read" in said(capsys, "collect", tmp_path)
    (tmp_path / "benchmark.json").write_text("{}")
    assert "was not written by" in said(capsys, "collect", tmp_path)
    (readers / benchmark.ERRORS_FILE).write_text("{}")
    line = said(capsys, "run", "--run", tint, "--data", world, "--estimators", readers)
    assert "estimator_errors.json was not written by" in line
    assert not (tint / "benchmark").exists()
