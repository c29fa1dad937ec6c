"""What is launched: one `reenax train` command that serves the first start and every restart."""

import dataclasses
import re
from pathlib import Path

CHECKPOINT_NAME = "[0-9]{8,}"  # regular expression of the folders of whole checkpoints: anything else is half written


@dataclasses.dataclass(frozen=True)
class Training:
    """A training as the command line describes it.

    Attributes:
        config: FILE:NAME.
        data: dataset folder.
        run: run folder; the training continues there when it holds a run.
        overrides: ``--config.KEY=VALUE`` words.
    """

    config: str
    data: Path
    run: Path
    overrides: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The words after ``reenax``."""
        named = ["--config", self.config, "--data", str(self.data), "--run", str(self.run)]
        return ["train", *named, "--or-resume", *self.overrides]


def last_line(log: Path) -> str:
    """What a training said last, in a file of all that it printed; the errors of the command, where there are some."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if "error:" in line.lower()]
    return ([*lines, *errors] or ["it printed nothing"])[-1][:300]


def newest_step(run: Path) -> int:
    """The step of a run's newest whole checkpoint; -1 when there is none."""
    try:
        names = [path.name for path in (run / "checkpoints").iterdir()]
    except OSError:
        return -1
    return max((int(name) for name in names if re.fullmatch(CHECKPOINT_NAME, name)), default=-1)
