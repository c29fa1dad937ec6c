"""Every golden case of every model that has an adapter: the same numbers as the published code.

pytest tests/golden                  the committed cases, and ../shared/golden where it is there
pytest tests/golden --golden DIR     any folder of that format
pytest tests/golden --slow           also those cases that take many minutes
"""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from . import golden
from .conftest import golden_roots

ADAPTERS = frozenset(p.stem for p in (pathlib.Path(__file__).parent / "adapters").glob("[!_]*.py"))


def pytest_generate_tests(metafunc):
    found: dict[tuple[str, str], golden.Golden] = {}
    for root in golden_roots(metafunc.config):
        for g in golden.find(root):
            found.setdefault((g.manifest["model"], g.manifest["name"]), g)
    if "case" in metafunc.fixturenames:
        pairs = [(g, case) for (model, _), g in found.items() if model in ADAPTERS for case in g.cases]
        metafunc.parametrize(("g", "case"), pairs, ids=[f"{g.manifest['model']}-{case}" for g, case in pairs])
    if "unknown" in metafunc.fixturenames:
        unknown = sorted({model for model, _ in found} - ADAPTERS)
        metafunc.parametrize("unknown", [unknown], ids=["models"])


def test_case(g: golden.Golden, case: str, record_errors, request: pytest.FixtureRequest):
    label = f"{g.manifest['model']}/{case}"
    adapter = importlib.import_module(f".adapters.{g.manifest['model']}", __package__)
    if (why := getattr(adapter, "SLOW", {}).get(case)) and not request.config.getoption("--slow"):
        pytest.skip(f"{why}; pytest tests/golden --slow")
    expected, computed = g.case(case), adapter.compute(g, case)
    jax.clear_caches()  # programs of the published sizes hold hundreds of megabytes
    failures = []
    for name in g.compared(case):
        if name not in computed:
            failures.append(f"{name}: the adapter does not compute it")
            continue
        want, got = np.asarray(expected[name], np.float64), np.asarray(computed[name], np.float64)
        if want.shape != got.shape:
            failures.append(f"{name}: shape {got.shape} instead of {want.shape}")
            continue
        tolerance = g.tolerance(name)
        error = np.abs(got - want)
        allowed = tolerance["atol"] + tolerance["rtol"] * np.abs(want)
        if (noise := getattr(adapter, "NOISE", {}).get(name)) is not None:
            assert np.abs(want).max() < noise, f"{name} is more than rounding noise"
            allowed = np.full_like(want, noise)
        # how far the reference is known to be from what exact arithmetic gives: beyond its own tolerance
        rounding = getattr(adapter, "ROUNDING", {}).get(name, 0.0)
        relative, share = error.max() / max(np.abs(want).max(), 1e-30), (error / allowed).max()
        print(f"{label} {name}: largest relative error {relative:.2e}, {100 * share:.2f} % of the tolerance")
        record_errors((label, name, float(relative), float(share)))
        if not share <= 1 and not (error <= rounding).all():  # NaN included
            failures.append(f"{name}: relative error {relative:.2e}, {share:.3g} times the tolerance")
    assert not failures, f"{label}:\n  " + "\n  ".join(failures)


def test_models_without_an_adapter(unknown: list[str]):
    if unknown:
        pytest.skip(f"no adapter in tests/golden/adapters for: {', '.join(unknown)}")
