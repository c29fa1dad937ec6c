"""What a person at the keyboard can get wrong ends in one line and exit code 2, and nothing is lost."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines.prepare import prepare
from data_pipelines.video_writer import write_video
from reenax import cli
from reenax.commands import run_command
from reenax.core.errors import UserError
from reenax.interop.published import tensor_entries, variable_shapes
from reenax.interop.torch import to_state
from reenax.train.config import load_config, override
from reenax.train.runs import load_trained
from tests.damage import flip_bytes
from tests.moving_shapes import FPS, render_clip

CONFIG = "configs/fomm.py:smoke"
SHORT = ["--config.steps=4", "--config.save_every=2", "--config.eval_every=4", "--config.sample_every=4",
         "--config.log_every=1", "--config.batch_size=8"]  # fmt: skip


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for identity in range(3):
        write_video(folder / f"person{identity}.mp4", render_clip(identity, frames=20), FPS)
    return folder


@pytest.fixture(scope="session")
def data(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    prepare([videos], out, size=64, faces="none")
    return out


@pytest.fixture(scope="session")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    assert cli.main(["train", "--config", CONFIG, "--data", str(data), "--run", str(folder), *SHORT]) == 0
    return folder


def said(capsys, *arguments) -> str:
    """The one line of error of a command that must fail with exit code 2."""
    capsys.readouterr()
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if "error:" in line]
    assert len(lines) == 1, error
    return lines[0]


def test_train_leaves_a_run_folder_that_says_everything(run, data):
    config = json.loads((run / "config.json").read_text())
    assert config["steps"] == 4
    assert config["method"] == "fomm"
    facts = json.loads((run / "facts.json").read_text())
    assert facts["data"] == str(data)
    assert facts["data_digest"] == json.loads((data / "digest.json").read_text())["digest"]
    assert set(facts["packages"]) >= {"jax", "flax", "optax", "orbax-checkpoint", "grain"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 4]
    assert all(np.isfinite(r["generator/loss"]) for r in rows[:4])
    assert sorted(p.name for p in (run / "samples").glob("0*")) == ["00000004.mp4", "00000004.png"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["00000002", "00000004"]


def test_resume_needs_nothing_but_the_run(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert cli.main(["train", "--resume", str(copy)]) == 0
    assert "nothing left to do" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(copy), "--config.steps", "6"]) == 0
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert json.loads((copy / "config.json").read_text())["steps"] == 6


def test_a_run_is_used_on_fewer_devices_than_it_was_trained_on(run):
    code = (
        "import jax, pathlib; from reenax.train.runs import load_trained; "
        f"print(jax.device_count(), load_trained(pathlib.Path({str(run)!r})).step)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "4"]


def test_evaluate_writes_a_table_and_json(run, data, tmp_path, capsys):
    path = tmp_path / "result.json"
    arguments = ["evaluate", "--run", str(run), "--data", str(data), "--max-frames", "6", "--json", str(path)]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "person" in out
    for word in ("L1", "PSNR", "SSIM"):
        assert word in out
    assert json.loads(path.read_text())


def test_animate_makes_a_clip(run, videos, tmp_path):
    picture = tmp_path / "me.png"
    Image.fromarray(render_clip(5, frames=1)[0]).save(picture)
    out = tmp_path / "out.mp4"
    arguments = ["animate", "--run", run, "--source", picture, "--driving", videos / "person1.mp4", "--out", out,
                 "--faces", "none", "--no-credentials"]  # fmt: skip
    assert cli.main([str(a) for a in arguments]) == 0
    assert out.stat().st_size > 1000


def test_warm_start_begins_where_the_other_run_ended(run, data, tmp_path):
    folder = tmp_path / "second"
    arguments = ["train", "--config", CONFIG, "--data", data, "--run", folder, "--warm-start", run, *SHORT,
                 "--config.lr=0.0", "--config.steps=1"]  # fmt: skip
    assert cli.main([str(a) for a in arguments]) == 0
    kernels = [load_trained(f).variables["generator"]["params"]["final"]["kernel"] for f in (run, folder)]
    np.testing.assert_array_equal(*kernels)


def test_warm_start_keeps_networks_that_fit_and_names_those_that_do_not(run, data, tmp_path, capsys):
    folder = tmp_path / "adversarial"
    arguments = ["train", "--config", CONFIG, "--data", data, "--run", folder, "--warm-start", run, *SHORT,
                 "--config.steps=1", "--config.model.kp_detector.max_features=8"]  # fmt: skip
    assert cli.main([str(a) for a in arguments]) == 0
    assert "warm start: kp_detector begins fresh" in capsys.readouterr().err


def test_an_imported_checkpoint_serves_every_command(run, data, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    trained = load_trained(run)
    method: Any = trained.method
    entries = tensor_entries(variable_shapes(method))
    published: dict = {}
    for name, tensor in to_state(trained.variables, entries).items():
        network, rest = name.split(".", 1)
        published.setdefault(network, {})[rest] = torch.from_numpy(np.array(tensor))
    torch.save({**published, "epoch": 3}, tmp_path / "smoke-cpk.pth.tar")
    out = tmp_path / "imported"
    assert cli.main(["import", "fomm", str(tmp_path / "smoke-cpk.pth.tar"), "--config", CONFIG, "--out", str(out)]) == 0
    jax.tree.map(np.testing.assert_array_equal, dict(load_trained(out).variables), dict(trained.variables))
    assert cli.main(["evaluate", "--checkpoint", str(out), "--data", str(data), "--max-frames", "3"]) == 0
    again = ["train", "--config", CONFIG, "--data", str(data), "--run", str(tmp_path / "r"), "--warm-start", str(out)]
    assert cli.main([*again, *SHORT, "--config.steps=1"]) == 0
    assert "is not empty; give --out a new folder" in said(
        capsys, "import", "fomm", tmp_path / "smoke-cpk.pth.tar", "--config", CONFIG, "--out", out
    )
    common = ("import", "fomm", tmp_path / "smoke-cpk.pth.tar", "--out", tmp_path / "x")
    assert "needs --config configs/fomm.py:NAME" in said(capsys, *common)
    assert "does not fit the model" in said(capsys, *common, "--config", "configs/fomm.py:real64")
    assert "neither a method nor a frozen network" in said(capsys, "import", "nerf", data, "--out", tmp_path / "x")


def test_a_perceptual_loss_asks_for_its_weights(data, tmp_path, capsys):
    folder = tmp_path / "r"
    arguments = ["train", "--config", CONFIG, "--data", data, "--run", folder, *SHORT, "--config.steps=1",
                 "--config.model.losses.perceptual=(1.0,1.0,0.0,0.0,0.0)"]  # fmt: skip
    assert "fomm needs the weights of vgg19: run `reenax import vgg19" in said(capsys, *arguments)
    assert not folder.exists()


def test_methods_lists_configs(capsys):
    assert cli.main(["methods"]) == 0
    out = capsys.readouterr().out
    assert "fomm: First Order Motion" in out
    assert "configs/fomm.py:vox256" in out
    assert "discriminator (6 of 12 configs)" in out
    assert "reenax import fomm" in out
    assert cli.main(["methods", "face_vid2vid"]) == 0
    assert "yaw=NUMBER" in capsys.readouterr().out


def test_methods_tell_where_each_was_published(capsys):
    assert cli.main(["methods", "freenet"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"published +CVPR 2020, arXiv:1905\.11805\n", out), out
    cases = (Path(__file__).parent / "golden" / "cases" / "freenet").glob("manifest_*.json")
    count = sum(len(json.loads(path.read_text())["cases"]) for path in cases)
    assert f"golden cases in this checkout: {count} (" in out
    assert cli.main(["methods", "estimators"]) == 0
    out = capsys.readouterr().out
    assert "published " not in out
    assert "golden" not in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["trian"], "reenax: error: argument COMMAND: invalid choice: 'trian'"),
        (["animate", "--out"], "reenax animate: error: argument --out: expected one argument"),
        (["animate"], "reenax animate: error: the following arguments are required: --out"),
        (["prepare", "synthetic", "--size", "x"], "reenax prepare synthetic: error: argument --size: invalid int"),
        (
            ["import", "fomm", "a", "--out", "b", "--steps", "3"],
            "reenax import: error: unrecognized arguments: --steps",
        ),
    ],
)
def test_words_that_no_command_knows_are_one_line(words, error, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(error)
    assert lines[0].endswith(f"; see `{error.split(':')[0]} --help`")


def test_sources_add_up():
    parse = cli.build_parser().parse_args
    common = ["animate", "--run", "r", "--out", "o.mp4", "--driving", "d.mp4"]
    several = parse([*common, "--source", "a.jpg", "--source", "b.jpg", "c.jpg"])
    assert several.source == [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    assert parse(common).source == []


def test_imports_take_changes_of_the_config(monkeypatch):
    given = {}
    monkeypatch.setattr("reenax.train.imports.import_file", lambda *names, **about: given.update(about))
    words = ["import", "reenactgan", "a", "--out", "b", "--config", "c.py:d", "--config.data.people=('x',)"]
    assert cli.main(words) == 0
    assert given == {"config_spec": "c.py:d", "landmarks": None, "overrides": ["--config.data.people=('x',)"]}


def test_no_command_prints_help(capsys):
    assert cli.main([]) == 0
    assert "quickstart" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prepare", "train", "animate", "evaluate", "import", "methods", "quickstart"])
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"reenax {command}" in capsys.readouterr().out.split("examples:")[1]


def test_errors_of_train(data, run, tmp_path, capsys):
    new = tmp_path / "new"
    common = ("train", "--data", data, "--run", new, "--config")
    assert "train needs --config, --data, --run" in said(capsys, "train")
    assert "there is no config file configs/nope.py" in said(capsys, *common, "configs/nope.py:smoke")
    assert "has no config 'huge'; its configs are" in said(capsys, *common, "configs/fomm.py:huge")
    assert "config.lrr" in said(capsys, *common, CONFIG, "--config.lrr=1")
    assert "config.batch_size" in said(capsys, *common, CONFIG, "--config.batch_size=many")
    assert "config.batch_size=9" in said(capsys, *common, CONFIG, "--config.batch_size=9")
    assert "this run has 8" in said(capsys, *common, CONFIG, "--config.mesh.data=64")
    assert "config.dtype='float8'" in said(capsys, *common, CONFIG, "--config.dtype=float8")
    assert "unrecognized arguments: --lr=1" in said(capsys, *common, CONFIG, "--lr=1")
    assert "reenax import vgg19" in said(capsys, *common, "configs/fomm.py:vox256", "--config.data.size=64")
    assert "holds frames of 64x64, config.data.size is 256" in said(capsys, *common, "configs/fomm.py:vox256")
    assert "nowhere" in said(capsys, "train", "--data", tmp_path / "nowhere", "--run", new, "--config", CONFIG)
    assert not new.exists()
    assert "is not empty; continue it with" in said(capsys, "train", "--config", CONFIG, "--data", data, "--run", run)
    assert "is no run folder" in said(capsys, "train", "--resume", tmp_path)
    assert "leave out --config" in said(capsys, "train", "--resume", run, "--config", CONFIG)


def test_resume_refuses_another_dataset(run, videos, tmp_path, capsys):
    other = tmp_path / "other"
    prepare([videos / "person0.mp4", videos / "person1.mp4"], other, size=64, faces="none")
    assert "is not the dataset that" in said(capsys, "train", "--resume", run, "--data", other)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["00000002", "00000004"]


def test_errors_of_animate_and_evaluate(run, data, videos, tmp_path, capsys):
    picture = tmp_path / "me.png"
    Image.fromarray(render_clip(5, frames=1)[0]).save(picture)
    common = ("animate", "--run", run, "--faces", "none", "--source")
    driving = ("--driving", videos / "person1.mp4", "--out", tmp_path / "x.mp4")
    assert "nobody.png" in said(capsys, *common, tmp_path / "nobody.png", *driving)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert "text.mp4" in said(capsys, *common, picture, "--driving", text, "--out", tmp_path / "x.mp4")
    assert "x.xyz" in said(capsys, *common, picture, "--driving", text, "--out", tmp_path / "x.xyz")
    assert "is no run folder" in said(capsys, "animate", "--run", tmp_path, "--source", picture, *driving)
    out = ("--out", tmp_path / "x.mp4")
    refused = said(capsys, *common, picture, "--action-units", "AU12=0..1", *out)
    assert "fomm is not driven by action_units but by video; methods driven by action_units: ganimation" in refused
    assert "there can be one driver" in said(capsys, *common, picture, *driving, "--pose", "yaw=1..2")
    for sources in ((), ("--source", picture)):
        refused = said(capsys, "animate", "--run", run, "--frames", "3", *out, *sources)
        assert "fomm does not go on by itself, it needs a driver: give --driving" in refused
    assert "there is no driver: give one of --driving, --action-units" in said(capsys, *common, picture, *out)
    assert "--frames is the length of a range" in said(capsys, *common, picture, *driving, "--frames", "3")
    assert "fomm needs --source" in said(capsys, "animate", "--run", run, *driving)
    assert "step 3" in said(capsys, "evaluate", "--run", run, "--step", "3", "--data", data)
    assert not (tmp_path / "x.mp4").exists()


def test_a_flipped_byte_is_found_and_the_run_goes_on_from_the_checkpoint_before(run, data, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    flip_bytes(copy / "checkpoints" / "00000004" / "variables")
    assert "step 4" in said(capsys, "evaluate", "--run", copy, "--data", data)
    assert cli.main(["train", "--resume", str(copy)]) == 0
    error = capsys.readouterr().err
    assert "warning: checkpoint of step 4 is damaged" in error
    assert "continuing from step 2" in error
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    first = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r.get("generator/loss") for r in rows] == [r.get("generator/loss") for r in first]


def test_a_run_of_another_shape_is_refused(run, tmp_path, capsys, data):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"]["num_kp"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    assert "is of another model" in said(capsys, "evaluate", "--run", copy, "--data", data)
    config["method"] = "nerf"
    (copy / "config.json").write_text(json.dumps(config))
    assert "there is no method 'nerf'" in said(capsys, "evaluate", "--run", copy, "--data", data)
    (copy / "config.json").write_text("{")
    assert "cannot be read" in said(capsys, "evaluate", "--run", copy, "--data", data)


def test_out_of_memory_and_full_disks_are_one_line(capsys):
    def fail(error):
        def command():
            raise error

        return command

    assert run_command(fail(MemoryError()), debug=False) == 2
    assert run_command(fail(OSError(28, "No space left on device", "run/x")), debug=False) == 2
    assert run_command(fail(RuntimeError("RESOURCE_EXHAUSTED: Out of memory")), debug=False) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "run/x: No space left on device; free some space" in lines[1]
    with pytest.raises(UserError):
        run_command(fail(UserError("x")), debug=True)


def test_overrides_are_typed():
    config = ConfigDict({"a": 1, "b": {"c": 0.5}})
    assert override(config, ["--config.a=3", "--config.b.c=2"]).to_dict() == {"a": 3, "b": {"c": 2.0}}
    with pytest.raises(UserError, match="config.a"):
        override(config, ["--config.a=x"])
    smoke = load_config(CONFIG, ["--config.lr=0.5"])
    assert {smoke.optim[k].lr for k in smoke.optim} == {0.5}
