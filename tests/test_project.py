"""The house keeps its order: one stem per method in every folder, quick help, no endless files."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import reenax
from reenax.core.errors import UserError
from reenax.core.types import Method

ROOT = Path(__file__).parents[1]
UNPUBLISHED = {"estimators"}  # methods of which no checkpoint exists elsewhere: there is nothing to import


@pytest.mark.parametrize("name", reenax.method_names())
def test_a_method_is_one_hop_away_in_every_folder(name):
    assert Method in reenax.load_method(name).__mro__
    assert (ROOT / "configs" / f"{name}.py").is_file()
    assert (ROOT / "tests" / "methods" / f"test_{name}.py").is_file()
    if name not in UNPUBLISHED:
        assert importlib.import_module(f"reenax.interop.{name}").convert
    configs = importlib.import_module(f"configs.{name}")
    assert "smoke" in configs.NAMES
    for config in configs.NAMES:
        assert f"configs/{name}.py:{config}" in (configs.__doc__ or "") or config in (configs.__doc__ or "")


def test_an_unknown_method_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"there is no method 'nerf'; the methods are: .*fomm"):
        reenax.load_method("nerf")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from reenax import cli; cli.build_parser().format_help(); "
        "print([m for m in ('jax', 'numpy', 'av', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_files_stay_readable():
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for folder in ("reenax", "configs", "data_pipelines", "experiments")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (count := len(path.read_text().splitlines())) > 450
    ]
    assert not long
