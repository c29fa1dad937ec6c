"""The launcher's command line says in one line what is wrong; its images hold what they need."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments.launch import jobset
from experiments.launch.command import OPTIONS, build_parser, job_name, main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "launch"
TRAINING = "--config configs/fomm.py:smoke --data data/x --run runs/fomm"


def said(capsys, words: str) -> str:
    """The one line of error of a command that must fail with exit code 2."""
    try:
        code = main(shlex.split(words))
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("launch: error: ")
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data d --run r", "the following arguments are required: --config"),
        (f"{TRAINING} --target cloud", "invalid choice: 'cloud'"),
        (f"{TRAINING} --nodes 2", "--nodes is for --target slurm or jobset; leave it out"),
        (f"{TRAINING} --target slurm --processes 2", "--processes is for --target local; leave it out"),
        (f"{TRAINING} --target slurm --claim a", "--claim is for --target jobset"),
        (f"{TRAINING} --target jobset --accelerator h100 --claim a", "--target jobset needs --image"),
        (f"{TRAINING} --target jobset --accelerator h100 --claim a --image b --devices-per-node 0", "at least 1"),
        (f"{TRAINING} --out file", "--out is for --target slurm or jobset"),
        (f"{TRAINING} --target slurm --dry-run", "--dry-run is for --target local"),
        (f"{TRAINING} --processes 0", "0 is not positive"),
        (f"{TRAINING} --proc 2", "unrecognized arguments: --proc 2"),
        (f"{TRAINING} --config.lr=fast", "--config.lr=fast"),
        (f"{TRAINING} --target slurm --config.rate 1", "config.rate is no key of the config"),
        ("--config configs/none.py:x --data d --run r", "there is no config file configs/none.py"),
        (f"{TRAINING} --target slurm --out /nowhere/job", "/nowhere/job: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, words, message):
    assert message in said(capsys, words)


def test_a_dry_run_prints_what_would_run(capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    words = "--config configs/fomm.py:smoke --data 'my data' --run runs/fomm --config.lr 1e-4"
    assert main(shlex.split(f"{words} --dry-run --processes 2 --devices-per-process 4")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for k, line in enumerate(lines):
        start, flags, *command = shlex.split(line)
        assert (start, flags) == ("env", "XLA_FLAGS=--xla_force_host_platform_device_count=4")
        assert command[:4] == [sys.executable, "-m", "reenax.cli", "train"]
        assert "my data" in command
        assert "--config.lr=1e-4" in command
        assert command[-1] == str(k)


def test_help_is_quick_and_names_every_option():
    code = "import sys; from experiments.launch.command import build_parser; print(build_parser().format_help())"
    code += "; print([m for m in ('jax', 'numpy', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    *text, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert all(option.flag in "\n".join(text) for option in OPTIONS)
    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)


def test_the_examples_of_the_help_work(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"python -m experiments\.launch (.*)", build_parser().format_help().replace("\\\n", ""))
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(re.split(r" \| | && ", command)[0])
        assert main([*words, "--dry-run"] if "local" in words else words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fomm.sbatch", "fomm.yaml"]


def test_accelerators_are_those_of_the_command_line():
    (option,) = (option for option in OPTIONS if option.flag == "--accelerator")
    assert set(option.keywords["choices"]) == set(jobset.ACCELERATORS)


@pytest.mark.parametrize(
    ("run", "name"), [("runs/FOMM_1", "fomm-1"), ("runs/1", "run-1"), ("runs/...", "run"), ("x" * 90, "x" * 40)]
)
def test_a_job_has_the_name_of_its_run(run, name):
    assert job_name(Path(run)) == name
    assert re.fullmatch(jobset.LABEL, name)


@pytest.mark.parametrize("name", ["cuda", "tpu"])
def test_images(name):
    """No docker here: the instructions are read, and what they take from the repository must be there."""
    text = re.sub(r"\\\n", "", (FOLDER / f"Dockerfile.{name}").read_text())
    instructions = [
        (line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line and line[0] != "#"
    ]
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}  # no ADD, which would fetch addresses
    assert {kind for kind, _ in instructions} <= known
    kind, base = instructions[0]
    assert kind == "FROM"
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    copied = [word for kind, rest in instructions if kind == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {*packages, "pyproject.toml", "constraints.txt", project["project"]["readme"]} <= set(copied)
    assert set(project["project"]["license-files"]) <= set(copied)
    (install,) = (rest for kind, rest in instructions if kind == "RUN" and "pip install" in rest)
    (extras,) = re.findall(r"\.\[([\w,]+)\]", install)
    assert extras == name
    assert name in project["project"]["optional-dependencies"]
    assert "-c constraints.txt" in install
    assert [rest for kind, rest in instructions if kind == "USER"] == [str(jobset.USER)]
    assert f"useradd --uid {jobset.USER}" in text
    assert instructions[-1][0] == "CMD"
