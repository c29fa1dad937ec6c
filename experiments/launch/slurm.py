"""SLURM: writes the batch script of a training."""

import dataclasses
import re
import shlex

from experiments.launch.training import CHECKPOINT_NAME, Training
from reenax.commands import EXIT_USER_ERROR
from reenax.core.errors import UserError
from reenax.train.processes import EXIT_LOST, EXIT_PREEMPTED

WORD = r"[A-Za-z0-9][A-Za-z0-9_.,:@+-]*"
TIME = r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}"
TOLD = 125  # what a task ends with in place of an error of the user's; 126 and 127 are bash's own
SAVE_SECONDS = 120  # before the end of the time limit; also how long the others live when one task has ended

BODY = """\
set -u
run={run}
restarts={restarts}

newest() {{  # the step of the newest whole checkpoint
    ls -- "$run/checkpoints" 2>/dev/null | grep -xE '{checkpoint}' | sort -n | tail -n 1
}}

# srun ends with the highest code of all tasks. When one refuses with {refused} the others end with {lost}, which would
# hide it: every task makes {told} of a {refused}. Codes of signals are higher still: a task that is killed meanwhile,
# as by --wait, hides it yet, and the job is tried again, at most $restarts times. slurmstepd signals the shell too,
# which has to wait for the trainer's own code; an empty trap the trainer would inherit.
task='trap : TERM INT; "$@"; code=$?; [ "$code" -ne {refused} ] || code={told}; exit "$code"'

first=$(newest)
failures=0
while true; do
    before=$(newest)
    # one task that ends ends the step, but the others may save first: --kill-on-bad-exit would not let them
    srun --label --cpu-bind=none --kill-on-bad-exit=0 --wait={wait} \\
        bash -c "$task" task {command}
    code=$?
    case $code in
        0) exit 0 ;;
        {told}) exit {refused} ;;
        {stopped})  # the time is up, or the nodes are wanted: saved, and goes on when the job runs again
            if [ "$(newest)" != "$first" ]; then
                scontrol requeue "$SLURM_JOB_ID" && exit 0
                exit $code
            fi
            echo "launch: no newer checkpoint since the job began: not requeued; give it more --time" >&2
            exit $code ;;
    esac
    if [ "$(newest)" = "$before" ]; then failures=$((failures + 1)); else failures=0; fi
    if [ "$failures" -gt "$restarts" ]; then
        echo "launch: ended with $code; no newer checkpoint in $restarts restarts: giving up" >&2
        exit $code
    fi
    echo "launch: ended with $code; starting again from step $(newest)" >&2
done
"""


@dataclasses.dataclass(frozen=True)
class Slurm:
    """What a job asks the cluster for; it takes whole nodes.

    Attributes:
        name: of the job.
        nodes: how many.
        devices_per_node: GPUs of each; 0 for none.
        process_per_gpu: one process for every GPU in place of one for every node.
        time: limit, as sbatch takes it.
        partition: None for the cluster's default.
        account: None for the user's default.
        restarts: how often the command is run again, in one job, without a newer checkpoint.
    """

    name: str
    nodes: int = 1
    devices_per_node: int = 8
    process_per_gpu: bool = False
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    restarts: int = 10


def script(training: Training, settings: Slurm) -> str:
    """The batch script, for ``sbatch FILE`` in the folder that relative paths begin in.

    Raises:
        UserError: a value that sbatch would not take.
    """
    body = BODY.format(
        run=shlex.quote(str(training.run)),
        restarts=settings.restarts,
        checkpoint=CHECKPOINT_NAME,
        wait=SAVE_SECONDS,
        command=shlex.join(["reenax", *training.arguments()]),
        refused=EXIT_USER_ERROR,
        told=TOLD,
        lost=EXIT_LOST,
        stopped=EXIT_PREEMPTED,
    )
    return "\n".join(["#!/bin/bash", *(f"#SBATCH --{line}" for line in _header(settings)), "", body])


def _header(settings: Slurm) -> list[str]:
    for flag, value, pattern in (
        ("name", settings.name, WORD),
        ("partition", settings.partition, WORD),
        ("account", settings.account, WORD),
        ("time", settings.time, TIME),
    ):
        if value is not None and not re.fullmatch(pattern, value):
            form = "D-HH:MM:SS, HH:MM:SS or minutes" if flag == "time" else "letters, digits and _.,:@+-"
            raise UserError(f"--{flag} {value!r}: sbatch takes {form}")
    gpus = settings.devices_per_node
    if settings.process_per_gpu and not gpus:
        raise UserError("--process-per-gpu with --devices-per-node 0: there is no GPU; leave out one of them")
    lines = [
        f"job-name={settings.name}",
        f"nodes={settings.nodes}",
        f"ntasks-per-node={gpus if settings.process_per_gpu else 1}",
        "exclusive",
        "mem=0",
        f"time={settings.time}",
        f"signal=TERM@{SAVE_SECONDS}",
        "requeue",
        "open-mode=append",
        f"output={settings.name}-%j.out",
    ]
    lines += [f"gpus-per-node={gpus}"] if gpus else []
    lines += [f"{k}={v}" for k, v in (("partition", settings.partition), ("account", settings.account)) if v]
    return lines
