"""Options and the closing table of the golden tests."""

import pathlib

import pytest

from tests.compiling import compiled_well

COMPARED = "compared"


def pytest_addoption(parser):
    parser.addoption(
        "--golden", metavar="DIR", default=None, help="folder of golden cases to check (searched for manifest_*.json)"
    )


def golden_roots(config: pytest.Config) -> list[pathlib.Path]:
    """The folder that was asked for, else the committed cases and those beside the repository."""
    asked = config.getoption("--golden", default=None)
    if asked is not None:
        root = pathlib.Path(asked).resolve()
        if not root.is_dir():
            raise pytest.UsageError(f"--golden {asked}: there is no such folder")
        if not any(root.rglob("manifest_*.json")):
            raise pytest.UsageError(f"--golden {asked}: there is no manifest_*.json in it")
        return [root]
    here = pathlib.Path(__file__).parent
    beside = here.parents[2] / "shared" / "golden"
    return [here / "cases", *([beside] if beside.is_dir() else [])]


@pytest.fixture(autouse=True)
def _networks_of_published_sizes_are_compiled_well():
    with compiled_well():
        yield


@pytest.fixture
def record_errors(record_property):
    """Keeps (case, array, relative error, share of the tolerance) for the closing table, from any process."""
    return lambda row: record_property(COMPARED, row)


def pytest_terminal_summary(terminalreporter):
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    rows = [row for report in reports for name, row in report.user_properties if name == COMPARED]
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("golden cases: largest error of each output, relative to its largest value")
    for case in dict.fromkeys(row[0] for row in rows):
        mine = sorted((row for row in rows if row[0] == case), key=lambda row: -row[2])
        write(f"{case}: {len(mine)} arrays, largest relative error {mine[0][2]:.1e} ({mine[0][1]})")
        for _, array, relative, share in mine:
            write(f"    {array:<72} {relative:9.1e}   {100 * share:7.2f} % of the tolerance")
