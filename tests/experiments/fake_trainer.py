"""Stands in for `reenax train` in tests of the launcher: does what DATA/plan.json says, without jax.

The plan holds, for every attempt (the last one stays), what each process does: words of say:TEXT, save:STEP, log:STEP,
wait (for SIGTERM), hang, kill (itself) and exit:CODE. Every start leaves a file RUN/started/PROCESS-ATTEMPT with the
process's number, its words and its devices.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn


def main(words: list[str]) -> NoReturn:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    given = dict(itertools.pairwise(words))
    run, process = Path(given["--run"]), int(given["--process-id"])
    started = run / "started"
    started.mkdir(parents=True, exist_ok=True)
    attempt = len(list(started.glob(f"{process}-*")))
    plan = json.loads((Path(given["--data"]) / "plan.json").read_text())
    devices = {name: os.environ.get(name) for name in ("XLA_FLAGS", "CUDA_VISIBLE_DEVICES")}
    note = started / f"note-{process}"
    note.write_text(json.dumps({"pid": os.getpid(), "words": words, **devices}))
    note.rename(started / f"{process}-{attempt}")
    while len(list(started.glob(f"[0-9]*-{attempt}"))) < int(given["--processes"]):  # none acts before all are there
        time.sleep(0.01)
    for word in plan[min(attempt, len(plan) - 1)][process].split():
        name, _, value = word.partition(":")
        if name == "say":
            print(value, file=sys.stderr, flush=True)
        elif name == "save":
            (run / "checkpoints" / f"{int(value):08d}").mkdir(parents=True, exist_ok=True)
        elif name == "log":
            (run / "config.json").write_text(json.dumps({"steps": 8, "save_every": 4}))
            with (run / "metrics.jsonl").open("a") as file:
                loss = 1 / int(value)
                row = {"step": int(value), "generator/loss": loss, "eval/l1": loss / 2, "speed/images_per_s": 10.0}
                file.write(json.dumps(row) + "\n")
        elif name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "exit":
            sys.exit(int(value))
        while name == "hang" or (name == "wait" and not asked):
            time.sleep(0.01)
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
