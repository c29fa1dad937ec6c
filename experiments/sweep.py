"""Trains the same config with other values: a grid of them, or so many drawn at random.

    python experiments/sweep.py --config configs/fomm.py:synth64 --data DATA --out runs/lr \\
        --grid lr=1e-4,2e-4 --grid batch_size=8,16
    python experiments/sweep.py --config configs/fomm.py:synth64 --data DATA --out runs/random \\
        --random lr=log:1e-5..1e-3 --random model.num_kp=int:5..15 --random dtype=float32,bfloat16 --trials 20

The plan is written first, to OUT/trials.json, and every trial is a run folder OUT/000, OUT/001, ... The same command
continues: trials that are done are left alone, all others go on where they stopped, those that failed are tried again.
OUT/summary.md and OUT/summary.json hold what came out so far; --collect makes them again and trains nothing.

With --target slurm or jobset (see `python -m experiments.launch --help`) it writes a job for every trial that is not
done, and says how to submit them; --collect reads their runs afterwards.
"""

import argparse
import dataclasses
import itertools
import json
import math
import random
import re
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.launch import command
from experiments.launch.training import Training, last_line, newest_step
from reenax.commands import positive, run_command, start_logging
from reenax.core.errors import UserError
from reenax.train.processes import EXIT_PREEMPTED

PLAN_FILE = "trials.json"
FAILURES_FILE = "failures.json"
JOB_FILES = {"slurm": ("sbatch", 'sbatch "$job"'), "jobset": ("yaml", 'kubectl apply -f "$job"')}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One set of values.

    Attributes:
        name: of its run folder.
        values: config keys and what they are set to.
    """

    name: str
    values: Mapping[str, str]

    def training(self, plan: Mapping[str, Any], folder: Path) -> Training:
        """What is trained."""
        own = tuple(f"--config.{key}={value}" for key, value in self.values.items())
        return Training(plan["config"], Path(plan["data"]), folder / self.name, (*plan["overrides"], *own))


def grid_values(keys: Mapping[str, str]) -> list[dict[str, str]]:
    """All combinations of comma separated values."""
    choices = [[(key, value) for value in _split(key, text)] for key, text in keys.items()]
    return [dict(chosen) for chosen in itertools.product(*choices)]


def random_values(keys: Mapping[str, str], trials: int, seed: int) -> list[dict[str, str]]:
    """So many draws; every key has a stream of its own, so that another key changes nothing."""
    streams = {key: random.Random(f"{seed}/{key}") for key in keys}
    return [{key: _draw(key, text, streams[key]) for key, text in keys.items()} for _ in range(trials)]


def _split(key: str, text: str) -> list[str]:
    """Values between commas that are in no brackets."""
    values = re.split(r",(?![^(\[]*[)\]])", text)
    if "" in values:
        raise UserError(f"{key}={text}: there is an empty value; give KEY=A,B,...")
    if len(set(values)) < len(values):
        raise UserError(f"{key}={text}: a value is there twice; leave one out")
    return values


def _draw(key: str, text: str, stream: random.Random) -> str:
    if ".." not in text and not re.match("(log|linear|int):", text):
        return stream.choice(_split(key, text))
    kind, low, high = _range(key, text)
    if kind == "int":
        return str(stream.randint(int(low), int(high)))
    if kind == "log":
        return f"{math.exp(stream.uniform(math.log(low), math.log(high))):.4g}"
    return f"{stream.uniform(low, high):.4g}"


def _range(key: str, text: str) -> tuple[str, float, float]:
    kind, _, ends = text.partition(":")
    try:
        low, high = (float(end) for end in ends.split(".."))
        fits = low < high and (kind != "log" or low > 0) and (kind != "int" or low % 1 == high % 1 == 0)
    except ValueError:
        fits, low, high = False, 0.0, 0.0
    if kind not in ("log", "linear", "int") or not fits:
        raise UserError(
            f"{key}={text} is no range; give log:A..B (A above 0), linear:A..B, int:A..B with A below B, or values A,B"
        )
    return kind, low, high


def make_plan(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """What trials.json holds: the request, and the trials that follow from it.

    Raises:
        UserError: a request that makes no sense, or a value that the config does not take.
    """
    for flag, value in (("--config", options.config), ("--data", options.data)):
        if value is None:
            raise UserError(f"a sweep needs {flag}; --collect alone does without")
    if bool(options.grid) == bool(options.random):
        raise UserError("give either --grid KEY=A,B or --random KEY=log:A..B, once for every key")
    if options.grid and (options.trials or options.seed is not None):
        raise UserError("--trials and --seed are for --random; leave them out")
    if options.random and options.trials is None:
        raise UserError("--random needs --trials N, the number of draws")
    keys = _keys(options.grid or options.random, overrides)
    seed = options.seed or 0
    values = grid_values(keys) if options.grid else random_values(keys, options.trials, seed)
    request: dict[str, Any] = {
        "config": options.config,
        "data": str(options.data),
        "overrides": list(overrides),
        "grid" if options.grid else "random": keys,
    }
    if options.random:
        request |= {"trials": options.trials, "seed": seed}
    width = max(3, len(str(len(values) - 1)))
    runs = [{"name": f"{k:0{width}d}", "values": chosen} for k, chosen in enumerate(values)]
    return {**request, "runs": runs}


def _keys(texts: Sequence[str], overrides: Sequence[str]) -> dict[str, str]:
    """KEY=VALUES by key."""
    found: dict[str, str] = {}
    fixed = {word.removeprefix("--config.").partition("=")[0] for word in overrides}
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.removeprefix("config.")
        if not equals or not key:
            raise UserError(f"{text!r}: give KEY=VALUES, for example lr=1e-4,2e-4")
        if key in found or key in fixed:
            raise UserError(f"{key} is given twice; leave one out")
        found[key] = values
    return found


def open_sweep(folder: Path, plan: Mapping[str, Any]) -> None:
    """Writes the plan of a new sweep, or finds the same one.

    Raises:
        UserError: the folder holds another sweep, or something else; or the config does not take a value.
    """
    from reenax.train.config import load_config
    from reenax.train.runs import write_json

    path = folder / PLAN_FILE
    if path.is_file():
        saved = read_plan(folder)
        different = [key for key in {**saved, **plan} if key != "runs" and saved.get(key) != plan.get(key)]
        if different:
            key = different[0]
            raise UserError(
                f"{folder} holds another sweep: its {key} is {saved.get(key)}, now it is {plan.get(key)}; repeat the "
                f"first command, or give a new --out"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no {PLAN_FILE}; give a new --out")
    for trial in trials_of(plan):
        load_config(plan["config"], trial.training(plan, folder).overrides)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)


def read_plan(folder: Path) -> dict[str, Any]:
    """trials.json.

    Raises:
        UserError: it is missing or cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); give --out the folder of a sweep") from error


def trials_of(plan: Mapping[str, Any]) -> list[Trial]:
    """The trials of a plan."""
    return [Trial(run["name"], run["values"]) for run in plan["runs"]]


def train(folder: Path, settings: Any, trainer: Sequence[str] | None = None) -> int:
    """Trains what is not done, one after another; a failure is noted and the next one is begun.

    Returns:
        0: all are done; 1: some failed; 75: stopped by a signal.
    """
    from experiments.launch import local
    from reenax.train.runs import write_json

    plan, failures = read_plan(folder), _failures(folder)
    for trial in trials_of(plan):
        failures.pop(trial.name, None)
        write_json(folder / FAILURES_FILE, failures)
        if _result(folder, trial, {})["state"] == "done":
            continue
        print(f"sweep: {trial.name}: {_shown(trial.values)}", file=sys.stderr)
        log, training = folder / f"{trial.name}.log", trial.training(plan, folder)
        outcome = local.run(training, settings, trainer=trainer or local.TRAINER, output=log)
        if outcome.stopped:
            return EXIT_PREEMPTED
        if outcome.code:
            failures[trial.name] = f"exit code {outcome.code}: {last_line(log)}"
            write_json(folder / FAILURES_FILE, failures)
            print(f"sweep: {trial.name} failed: {failures[trial.name]}", file=sys.stderr)
    return 1 if failures else 0


def _failures(folder: Path) -> dict[str, str]:
    path = folder / FAILURES_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def write_jobs(folder: Path, settings: Any, target: str) -> None:
    """Writes a job for every trial that is not done, and how to submit them."""
    suffix, submit = JOB_FILES[target]
    plan, written = read_plan(folder), []
    for trial in trials_of(plan):
        path = folder / f"{trial.name}.{suffix}"
        path.unlink(missing_ok=True)
        if _result(folder, trial, {})["state"] != "done":
            path.write_text(_job(plan, trial, folder, settings), "utf-8")
            written.append(path)
    if written:
        files = f"{shlex.quote(str(folder))}/*.{suffix}"
        print(f"{len(written)} jobs written; submit them: for job in {files}; do {submit}; done")


def _job(plan: Mapping[str, Any], trial: Trial, folder: Path, settings: Any) -> str:
    named = dataclasses.replace(settings, name=f"{settings.name}-{trial.name}")
    return command.write_job(trial.training(plan, folder), named)


def collect(folder: Path) -> str:
    """Writes and returns the table of all trials.

    Raises:
        UserError: the folder holds no sweep.
    """
    from reenax.inference.report import Table, write_text
    from reenax.train.runs import write_json

    plan, failures = read_plan(folder), _failures(folder)
    results = [_result(folder, trial, failures) for trial in trials_of(plan)]
    keys = list(plan.get("grid") or plan.get("random") or {})
    losses = list(dict.fromkeys(name for result in results for name in result["losses"]))
    titles = ("trial", *keys, "state", "step", *losses, "best eval/l1", "images/s")
    rows = [
        (
            result["trial"],
            *(result["values"][key] for key in keys),
            result["state"],
            f"{result['step']}/{result['steps'] or '?'}",
            *(_number(result["losses"].get(name), ".4g") for name in losses),
            _number(result["best_eval_l1"], ".4f"),
            _number(result["images_per_s"], ".1f"),
        )
        for result in results
    ]
    table = Table(titles, tuple(rows))
    reasons = [f"- {r['trial']} failed: {r['reason']}" for r in results if r["state"] == "failed"]
    title = f"# {plan['config']} on {plan['data']}"
    write_text(folder / "summary.md", "\n".join([title, "", table.markdown(), "", *reasons]).rstrip() + "\n")
    write_json(folder / "summary.json", results)
    text = "\n".join([table.text(), *reasons])
    print(text)
    return text


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _shown(values: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _result(folder: Path, trial: Trial, failures: Mapping[str, str]) -> dict[str, Any]:
    """How far a trial is, and how well it does."""
    run = folder / trial.name
    config, rows = _json(run / "config.json"), _rows(run / "metrics.jsonl")
    logged = max((row["step"] for row in rows), default=0)
    step, steps = newest_step(run), config.get("steps")
    if steps is not None and (step if config.get("save_every") else logged) >= steps:
        state = "done"
    elif trial.name in failures:
        state = "failed"
    else:
        state = "begun" if config else "waiting"
    losses = {key: row[key] for row in rows for key in row if key.endswith("/loss")}
    scores = [row["eval/l1"] for row in rows if "eval/l1" in row]
    speeds = [row["speed/images_per_s"] for row in rows if "speed/images_per_s" in row]
    return {
        "trial": trial.name,
        "values": dict(trial.values),
        "state": state,
        "reason": failures.get(trial.name) if state == "failed" else None,
        "step": max(step, logged),
        "steps": steps,
        "losses": losses,
        "best_eval_l1": min(scores, default=None),
        "images_per_s": statistics.median(speeds) if speeds else None,
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; the last one of a killed run may be half written."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def build_parser() -> command.Parser:
    """The sweep's options, and those of the targets."""
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = command.Parser("sweep.py", about, "examples:\n" + rest.rstrip())
    command.add_training_options(parser, required=False)
    parser.add_argument("--out", type=Path, metavar="SWEEP", required=True, help="folder of the sweep")
    parser.add_argument("--grid", action="append", metavar="KEY=A,B", help="all combinations of these; repeatable")
    parser.add_argument(
        "--random",
        action="append",
        metavar="KEY=RANGE",
        help="draw from log:A..B, linear:A..B, int:A..B, or A,B,C; repeatable",
    )
    parser.add_argument("--trials", type=positive, metavar="N", help="how many draws")
    parser.add_argument("--seed", type=int, help="of the draws (0)")
    parser.add_argument("--collect", action="store_true", help="make the table and train nothing")
    command.add_target_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sweep; exit codes: 0 done, 1 a trial failed, 2 an error of the user's, 75 stopped and saved."""
    parser = build_parser()
    options, overrides = command.parse(parser, arguments)
    settings = None if options.collect else command.read_settings(parser, options, command.job_name(options.out))
    start_logging()
    return run_command(lambda: _sweep(options, settings, overrides), debug=options.debug, name="sweep")


def _sweep(options: argparse.Namespace, settings: Any, overrides: Sequence[str]) -> int:
    code = 0
    if not options.collect:
        plan = make_plan(options, overrides)
        if options.target != "local":  # what the cluster would not take is found before anything is written
            _job(plan, trials_of(plan)[-1], options.out, settings)
        open_sweep(options.out, plan)
        if options.target == "local":
            code = train(options.out, settings)
        else:
            write_jobs(options.out, settings, options.target)
    collect(options.out)
    return code


if __name__ == "__main__":
    sys.exit(main())
