"""The command line of the launcher; the sweep shares the options of the targets."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.launch.training import Training
from reenax.cli import split_overrides
from reenax.commands import EXIT_USER_ERROR, positive, run_command, start_logging

ABOUT = """\
Starts `reenax train` on one machine, or writes what a cluster needs to start it.

  local   runs --processes on this machine and starts them again after a crash
  slurm   writes a batch script: one process per node, requeued when its time is up
  jobset  writes a Kubernetes JobSet (0.10.1 or newer): one pod per node, on GPUs or on a TPU slice

The run goes on from its newest checkpoint whenever it is started again, so that the same command serves the first start
and every restart. An error of the user's (exit code 2) is never tried again."""

EXAMPLES = """\
examples:
  python -m experiments.launch --target local --config configs/fomm.py:vox256 --data data/mine --run runs/fomm \\
      --processes 4
  python -m experiments.launch --target slurm --config configs/fomm.py:vox256 --data /gpfs/data --run /gpfs/fomm \\
      --nodes 4 --partition gpu --time 1-00:00:00 --out fomm.sbatch --config.batch_size=256 && sbatch fomm.sbatch
  python -m experiments.launch --target jobset --config configs/fomm.py:vox256 --data data/mine --run runs/fomm \\
      --nodes 2 --accelerator h100 --image registry.example.com/reenax:cuda --claim training | kubectl apply -f -
  python -m experiments.launch --target jobset --config configs/fomm.py:vox256 --data data/mine --run runs/fomm \\
      --nodes 4 --accelerator v5e --image registry.example.com/reenax:tpu --claim training --out fomm.yaml

--config.KEY=VALUE changes one value of the config, as for `reenax train`. The images are built in the repository:
  docker build -f experiments/launch/Dockerfile.cuda -t registry.example.com/reenax:cuda ."""

TARGETS = ("local", "slurm", "jobset")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of some targets.

    Attributes:
        flag: with its hyphens.
        targets: that have it.
        keywords: for `argparse`; all options default to None, so that those of another target are noticed.
        required: for these targets.
    """

    flag: str
    targets: tuple[str, ...]
    keywords: Mapping[str, Any]
    required: bool = False

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


def _whole(text: str) -> int:
    return 0 if text == "0" else positive(text)


OPTIONS = (
    Option(
        "--restarts",
        TARGETS,
        {"type": _whole, "metavar": "N", "help": "start again so often (10); local, slurm: without a newer checkpoint"},
    ),
    Option("--processes", ("local",), {"type": positive, "metavar": "N", "help": "how many processes (1)"}),
    Option(
        "--devices-per-process",
        ("local",),
        {"type": positive, "metavar": "N", "help": "GPUs of each process (an even share); fake devices on a CPU"},
    ),
    Option("--name", ("slurm", "jobset"), {"help": "name of the job (that of the run folder)"}),
    Option(
        "--nodes",
        ("slurm", "jobset"),
        {"type": positive, "metavar": "N", "help": "how many nodes, or hosts of a TPU slice (1)"},
    ),
    Option(
        "--devices-per-node",
        ("slurm", "jobset"),
        {"type": _whole, "metavar": "N", "help": "GPUs of a node (8; 0 for none, on SLURM) or chips of a TPU host (4)"},
    ),
    Option("--process-per-gpu", ("slurm",), {"action": "store_true", "help": "one process per GPU, not per node"}),
    Option("--time", ("slurm",), {"help": "limit of one job (24:00:00)"}),
    Option("--partition", ("slurm",), {"help": "where to run (the cluster's default)"}),
    Option("--account", ("slurm",), {"help": "who pays (your default)"}),
    Option(
        "--accelerator", ("jobset",), {"choices": ("h100", "h200", "v5e", "v5p"), "help": "what runs it"}, required=True
    ),
    Option("--image", ("jobset",), {"help": "container image, see the examples"}, required=True),
    Option(
        "--claim",
        ("jobset",),
        {"help": "PersistentVolumeClaim that all nodes write to (ReadWriteMany); --data and --run are paths in it"},
        required=True,
    ),
    Option("--topology", ("jobset",), {"help": "shape of the TPU slice (the usual one for so many chips)"}),
    Option(
        "--node-selector",
        ("jobset",),
        {"action": "append", "metavar": "KEY=VALUE", "help": "label of the nodes, off Google's clusters; repeatable"},
    ),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the usage is. Options are not abbreviated."""

    def __init__(self, prog: str, description: str, epilog: str):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, epilog=epilog, formatter_class=formatter, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {text}; see `{self.prog} --help`\n")


def add_training_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What is trained, on what."""
    parser.add_argument("--config", metavar="FILE:NAME", required=required, help="for example configs/fomm.py:vox256")
    parser.add_argument("--data", type=Path, required=required, help="dataset folder made by `reenax prepare`")


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Where it runs: --target and all options of the targets."""
    parser.add_argument("--target", choices=TARGETS, default="local", help="where to train (local)")
    groups: dict[tuple[str, ...], Any] = {}
    for option in OPTIONS:
        if option.targets not in groups:
            title = "all targets" if option.targets == TARGETS else f"--target {' or '.join(option.targets)}"
            groups[option.targets] = parser.add_argument_group(title)
        groups[option.targets].add_argument(option.flag, default=None, **option.keywords)


def read_settings(parser: Parser, options: argparse.Namespace, name: str) -> Any:
    """The settings of the chosen target: `Local`, `Slurm` or `JobSet`.

    Args:
        parser: refuses what does not fit.
        options: as parsed.
        name: of the job, where --name does not say it.
    """
    from experiments.launch import jobset, local, slurm

    target, given = options.target, {}
    for option in OPTIONS:
        value = getattr(options, option.name)
        if value is not None and target not in option.targets:
            parser.error(f"{option.flag} is for --target {' or '.join(option.targets)}; leave it out")
        if value is None and option.required and target in option.targets:
            parser.error(f"--target {target} needs {option.flag}: {option.keywords['help']}")
        if value is not None:
            given[option.name] = tuple(value) if isinstance(value, list) else value
    if target == "local":
        return local.Local(**given)
    if target == "jobset" and given.get("devices_per_node") == 0:
        parser.error("--devices-per-node 0: a JobSet needs accelerators; give at least 1")
    return {"slurm": slurm.Slurm, "jobset": jobset.JobSet}[target](**{"name": name, **given})


def job_name(run: Path) -> str:
    """A name for a job that every cluster takes, from that of a run folder."""
    text = re.sub(r"[^a-z0-9]+", "-", Path(os.path.abspath(run)).name.lower()).strip("-")
    named = text if text[:1].isalpha() else f"run-{text}"
    return named[:40].strip("-")


def parse(parser: Parser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """The options, and the ``--config.KEY=VALUE`` words."""
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    overrides, unknown = split_overrides(rest)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options, tuple(overrides)


def write_job(training: Training, settings: Any) -> str:
    """The script or manifest of a cluster.

    Raises:
        UserError: a value that the cluster would not take.
    """
    from experiments.launch import jobset, slurm

    if isinstance(settings, jobset.JobSet):
        return jobset.document(training, settings)
    return slurm.script(training, settings)


def build_parser() -> Parser:
    """All options of the launcher."""
    parser = Parser("launch", ABOUT, EXAMPLES)
    add_training_options(parser)
    parser.add_argument("--run", type=Path, required=True, help="run folder; continued when it holds a run")
    parser.add_argument("--dry-run", action="store_true", help="local: print what would run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="slurm and jobset: write to a file, not to the screen")
    add_target_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs or writes one training; exit codes: 0 done, 2 an error of the user's, 75 stopped and saved."""
    parser = build_parser()
    options, overrides = parse(parser, arguments)
    training = Training(options.config, options.data, options.run, overrides)
    settings = read_settings(parser, options, job_name(options.run))
    if options.target == "local" and options.out is not None:
        parser.error("--out is for --target slurm or jobset; leave it out")
    if options.target != "local" and options.dry_run:
        parser.error(f"--dry-run is for --target local: {options.target} only writes; leave it out")
    start_logging()
    return run_command(lambda: _launch(training, settings, options), debug=options.debug, name="launch")


def _launch(training: Training, settings: Any, options: argparse.Namespace) -> int:
    from experiments.launch import local
    from reenax.train.config import load_config

    load_config(training.config, training.overrides)  # a typing error should not have to wait for the cluster
    if not isinstance(settings, local.Local):
        text = write_job(training, settings)
        if options.out is None:
            print(text, end="")
        else:
            options.out.write_text(text, "utf-8")
        return 0
    if options.dry_run:
        print(local.preview(training, settings))
        return 0
    return local.run(training, settings).code
