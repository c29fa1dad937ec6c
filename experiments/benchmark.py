"""How well a method reenacts, on rendered heads whose exact truth is known.

    reenax prepare synthetic --identities 200 --size 64 --out DATA --workers 2
    python experiments/benchmark.py run --run runs/fomm --data DATA

measures self-reenactment and, where the dataset has a split "cross", one person moving like another, each beside its
baselines: copying the source and copying the driving frame. With estimators, small networks that read faces, it also
tells how far landmarks, pose, expression and identity of the made frames are from the labels:

    reenax prepare synthetic --identities 700 --seconds 1 --fps 10 --size 64 --seed 1 --test-share 0.1 --out PEOPLE64
    reenax train --config configs/estimators.py:synth64 --data PEOPLE64 --run runs/estimators
    python experiments/benchmark.py estimators --run runs/estimators --data DATA
    python experiments/benchmark.py run --run runs/fomm --data DATA --estimators runs/estimators

The row "the true frames" is what the estimators read from the truth itself: nothing can be measured finer than that.
Many benchmarked runs go into one table:

    python experiments/benchmark.py collect runs/fomm runs/other --out runs/table
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reenax.commands import keep_programs, positive, run_command, start_logging

ERRORS_FILE = "estimator_errors.json"
RESULT_FILE = "benchmark.json"
NEEDED = {"name", "run", "method", "step", "data_digest", "max_frames", "estimator_run", "protocols", "clips", "size"}
EXAMPLES = 6  # rows of the sheet, of every protocol across people half


def run(
    folder: Path,
    data: Path,
    *,
    driver: str | None = None,
    estimators: Path | None = None,
    lpips: tuple[Path, Path] | None = None,
    out: Path | None = None,
    step: int | None = None,
    max_frames: int | None = None,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Measures a run by all protocols and writes benchmark.json, benchmark.md and sheet.png.

    Args:
        folder: the run folder, or a folder of `reenax import`.
        data: dataset folder.
        driver: what of the clips drives, see `reenax.inference.evaluate`.
        estimators: the run folder of trained estimators.
        lpips: torchvision's AlexNet and the lpips package's alex.pth.
        out: where to write; ``folder/benchmark`` when None.
        step: the checkpoint; the newest when None.
        max_frames: use only so many frames of each clip.
        batch_size: frames worked on together.

    Returns:
        What benchmark.json holds.

    Raises:
        UserError: anything that the user can mend.
    """
    from reenax.inference.evaluate import check, evaluate
    from reenax.inference.protocols import open_tests
    from reenax.inference.readings import Reader
    from reenax.inference.sheet import draw_sheet, save_picture
    from reenax.train.runs import load_trained, write_json

    # all that can be wrong is looked at before the long work
    clips = open_tests(data)
    trained = load_trained(folder, step)
    driver = check(trained, clips, driver)
    readers = None if estimators is None else load_trained(estimators)
    if readers is not None:
        Reader.of(readers, clips)
    errors = None if estimators is None else _saved_errors(estimators)
    others = {} if lpips is None else {"lpips": _lpips(*lpips)}
    out = folder / "benchmark" if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    result = evaluate(
        trained,
        clips,
        driver=driver,
        estimators=readers,
        others=others,
        max_frames=max_frames,
        batch_size=batch_size,
    )
    saved = {
        "name": folder.absolute().name,
        "run": str(folder.absolute()),
        "max_frames": max_frames,
        "estimator_run": None if estimators is None else str(estimators.absolute()),
        "estimator_errors": errors,
        "trained_on": _trained_on(folder),
        **result.to_json(),
    }
    sheet = draw_sheet(_examples(trained, clips, result.protocols, driver, max_frames, batch_size))
    (out / RESULT_FILE).unlink(missing_ok=True)  # written last: it is there when all is
    save_picture(out / "sheet.png", sheet)
    text = markdown([saved], f"# {trained.name}, step {trained.step}")
    _write(out / "benchmark.md", f"{text}\n\n![examples](sheet.png)\n")
    write_json(out / RESULT_FILE, saved)
    print(result.summary())
    print(f"written to {out}: benchmark.json, benchmark.md, sheet.png")
    return saved


def _examples(
    trained: Any, clips: Any, protocols: Sequence[str], driver: str, max_frames: int | None, batch_size: int
) -> list[Any]:
    """Rows of the sheet: across people where the dataset has that."""
    from reenax.inference.protocols import Trials
    from reenax.inference.sheet import examples

    chosen = [p for p in protocols if p != "self"] or ["self"]
    trials = [Trials.open(p, clips, max_frames, trained.method.portrays) for p in chosen]
    return [row for t in trials for row in examples(trained, t, EXAMPLES // len(trials), driver, batch_size)]


def _trained_on(folder: Path) -> str | None:
    """The digest of the dataset that a run was trained on; an imported model has none."""
    from reenax.train.facts import read_facts

    return read_facts(folder)["data_digest"] if (folder / "facts.json").is_file() else None


def _lpips(trunk: Path, lins: Path) -> Any:
    """LPIPS of batches of pictures, compiled."""
    import functools

    import jax

    from reenax.interop.lpips import load
    from reenax.metrics.lpips import lpips

    return jax.jit(functools.partial(lpips, variables=load("alex", trunk, lins)))


def estimators(
    folder: Path, data: Path, *, step: int | None = None, max_frames: int | None = None, batch_size: int = 32
) -> dict[str, Any]:
    """Measures how far estimators are off on people that they were not trained on; writes estimator_errors.json.

    Args:
        folder: their run folder.
        data: dataset folder.
        step: the checkpoint; the newest when None.
        max_frames: use only so many frames of each clip.
        batch_size: frames worked on together.

    Returns:
        What the file holds.

    Raises:
        UserError: anything that the user can mend.
    """
    from reenax.inference.protocols import open_tests
    from reenax.inference.readings import estimator_errors
    from reenax.inference.report import finite
    from reenax.train.runs import load_trained, write_json

    found = estimator_errors(load_trained(folder, step), open_tests(data), max_frames=max_frames, batch_size=batch_size)
    saved = {**found, **{key: finite(found[key]) for key in ("errors", "guess", "verification")}}
    write_json(folder / ERRORS_FILE, saved)
    print(error_table(saved).text())
    print(f"{saved['frames']} frames of {saved['clips']} clips, step {saved['step']}; {_verified(saved)}")
    print(f"written to {folder / ERRORS_FILE}")
    return saved


def error_table(saved: Mapping[str, Any]) -> Any:
    """The errors of estimators, and those of answering the mean of the labels."""
    from reenax.inference.report import Table, shown
    from reenax.inference.scores import METRICS

    names = [name for name in METRICS if name in saved["errors"]]

    def cells(row: Mapping[str, float | None]) -> tuple[str, ...]:
        return tuple(shown(name, row[name]) for name in names)

    rows = (("estimators, on their own", *cells(saved["errors"])), ("always the mean label", *cells(saved["guess"])))
    return Table(("", *(METRICS[name].title for name in names)), rows)


def _verified(saved: Mapping[str, Any]) -> str:
    found = saved["verification"]
    if found["auc"] is None:
        return "no pairs of people to verify"
    return (
        f"verification of people: AUC {found['auc']:.3f}, accuracy {found['accuracy']:.3f} over {found['pairs']} pairs"
    )


def _saved_errors(folder: Path) -> dict[str, Any] | None:
    """The estimators' own error, when it has been measured."""
    from reenax.core.errors import UserError

    path = folder / ERRORS_FILE
    if not path.is_file():
        command = f"python {Path(__file__).name} estimators --run {folder} --data DATA"
        print(f"benchmark: {path} is missing; `{command}` measures the estimators themselves", file=sys.stderr)
        return None
    saved = _read(path)
    if not {"errors", "guess", "verification"} <= set(saved):
        raise UserError(f"{path} was not written by `benchmark.py estimators`; run that again")
    return saved


def collect(runs: Sequence[Path], out: Path | None = None) -> str:
    """One table of many benchmarked runs, grouped by what they were measured on.

    Args:
        runs: run folders, or folders or files that `run` wrote.
        out: folder for table.md and table.json; none are written when None.

    Returns:
        The Markdown.

    Raises:
        UserError: a folder holds no result.
    """
    from reenax.train.runs import write_json

    found = [_read_result(place) for place in dict.fromkeys(_result_file(path) for path in runs)]
    names = [saved["name"] for saved in found]
    found = [s if names.count(s["name"]) == 1 else {**s, "name": s["run"]} for s in found]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for saved in found:
        key = (
            saved["data_digest"],
            saved["max_frames"],
            saved["estimator_run"],
            (saved.get("estimators") or {}).get("step"),
        )
        groups.setdefault(key, []).append(saved)
    text = "\n\n".join(markdown(group, f"# {len(group)} runs") for group in groups.values())
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "table.md", text + "\n")
        rows = [{k: v for k, v in saved.items() if k != "clips"} for saved in found]
        write_json(out / "table.json", rows)
        print(f"\nwritten to {out}: table.md, table.json", file=sys.stderr)
    return text


def _result_file(path: Path) -> Path:
    from reenax.core.errors import UserError

    for place in (path, path / RESULT_FILE, path / "benchmark" / RESULT_FILE):
        if place.is_file():
            return place.resolve()
    raise UserError(
        f"{path} holds no {RESULT_FILE}; measure it: python {Path(__file__).name} run --run {path} --data DATA"
    )


def _read_result(place: Path) -> dict[str, Any]:
    from reenax.core.errors import UserError

    saved = _read(place)
    if NEEDED - set(saved):
        raise UserError(f"{place} was not written by `benchmark.py run`; measure the run again")
    return saved


def _read(path: Path) -> dict[str, Any]:
    from reenax.core.errors import UserError

    try:
        saved = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); measure again") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds no result; measure again")
    return saved


def markdown(results: Sequence[Mapping[str, Any]], title: str) -> str:
    """A table per protocol: the runs, then the baselines, which are the same for all of them."""
    from reenax.inference.evaluate import ROWS
    from reenax.inference.protocols import PROTOCOLS
    from reenax.inference.report import legend, score_table

    first = results[0]
    limit = f", the first {first['max_frames']} frames of each" if first["max_frames"] else ""
    lines = [title, "", f"Dataset {first['data_digest'][:12]}, {first['size']}x{first['size']}{limit}."]
    foreign = [r["name"] for r in results if r.get("trained_on") not in (None, r["data_digest"])]
    lines += [f"Trained on another dataset: {', '.join(foreign)}."] if foreign else []
    measured: set[str] = set()
    for name, protocol in PROTOCOLS.items():
        having = [r for r in results if name in r["protocols"]]
        if not having:
            continue
        clips = [c for c in having[0]["clips"] if c["protocol"] == name]
        rows = [(f"{r['name']} ({r['method']}, step {r['step']})", r["protocols"][name]["method"]) for r in having]
        rows += [(label, having[0]["protocols"][name].get(row)) for row, label in ROWS.items() if label]
        rows = [(label, {m: float("nan") if v is None else v for m, v in s.items()}) for label, s in rows if s]
        measured |= {m for _, scores in rows for m in scores}
        lines += ["", f"## {protocol.title}", "", f"{protocol.about[0].upper()}{protocol.about[1:]}."]
        lines += [f"{len(clips)} clips, {sum(c['frames'] for c in clips)} frames.", ""]
        lines += [score_table("", rows).markdown()]
    if first["estimator_errors"]:
        saved = first["estimator_errors"]
        lines += [
            "",
            "## The estimators",
            "",
            f"On {saved['frames']} frames of {saved['clips']} clips. {_verified(saved)}.",
        ]
        lines += ["", error_table(saved).markdown()]
    return "\n".join([*lines, "", *(f"- {line}" for line in legend(sorted(measured)).splitlines())])


def _write(path: Path, text: str) -> None:
    from reenax.inference.report import write_text

    write_text(path, text)


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="measure one run", description="Measures one run by all protocols.")
    command.add_argument("--run", dest="folder", type=Path, required=True, help="run folder, or one of `reenax import`")
    command.add_argument("--data", type=Path, required=True, help="dataset folder of `reenax prepare`")
    command.add_argument(
        "--driver",
        choices=("video", "action_units", "pose", "audio"),
        help="what of the clips drives the method (video, or what the method takes)",
    )
    command.add_argument("--estimators", type=Path, metavar="RUN", help="run folder of configs/estimators.py")
    command.add_argument(
        "--lpips",
        nargs=2,
        type=Path,
        metavar=("ALEXNET", "LINS"),
        help="measure LPIPS too: torchvision's alexnet-owt-7be5be79.pth and the lpips package's weights/v0.1/alex.pth",
    )
    command.add_argument("--out", type=Path, help="folder to write to (RUN/benchmark)")
    command.add_argument("--step", type=int, help="use the checkpoint of this step (the newest)")
    command.add_argument("--max-frames", type=positive, help="use only so many frames of each clip")
    command.add_argument("--batch-size", type=positive, default=8, help="frames worked on together (8)")
    command = commands.add_parser(
        "estimators", help="how far estimators are off", description="Measures estimators on people they have not seen."
    )
    command.add_argument("--run", dest="folder", type=Path, required=True, help="run folder of configs/estimators.py")
    command.add_argument("--data", type=Path, required=True, help="dataset folder with labels")
    command.add_argument("--step", type=int, help="use the checkpoint of this step (the newest)")
    command.add_argument("--max-frames", type=positive, help="use only so many frames of each clip")
    command.add_argument("--batch-size", type=positive, default=32, help="frames worked on together (32)")
    command = commands.add_parser(
        "collect", help="many measured runs in one table", description="One table of runs that `run` has measured."
    )
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="measured run folders")
    command.add_argument("--out", type=Path, help="folder for table.md and table.json")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 2 an error of the user's."""
    options = vars(build_parser().parse_args(arguments))
    debug, command = (
        options.pop("debug"),
        {"run": run, "estimators": estimators, "collect": collect}[options.pop("command")],
    )

    def work() -> None:
        if command is not collect:
            keep_programs()
        command(**options)

    start_logging()
    return run_command(work, debug=debug, name="benchmark")


if __name__ == "__main__":
    sys.exit(main())
