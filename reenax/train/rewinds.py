"""Going back after a loss that was no number: the steps after a checkpoint are trained again, with other data.

    RUN/rewinds.json    a list of {"at": the step that was no number, "to": the step gone back to, "skipped": how many
                        batches from there on are passed by}

What a step is trained with follows from the steps that were given up before it, so that a run that is stopped after a
rewind and continued has the data that it would have had.
"""

import json
from pathlib import Path

from reenax.core.errors import UserError
from reenax.train.runs import write_json

MOST_FROM_ONE_STEP = 3


class Rewinds:
    """The rewinds of a run.

    Args:
        folder: the run folder.
        start: the step that the run continues from; rewinds to later steps belong to what was lost, and are forgotten.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, folder: Path, start: int):
        self._path = Path(folder) / "rewinds.json"
        try:
            rows = json.loads(self._path.read_text()) if self._path.is_file() else []
            self._rows = [{k: int(row[k]) for k in ("at", "to", "skipped")} for row in rows if row["to"] <= start]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._path} cannot be read ({error}); restore it, or remove it and accept that the data of the next "
                f"steps differ"
            ) from error

    def times(self, step: int) -> int:
        """How often the run went back to a step."""
        return sum(row["to"] == step for row in self._rows)

    def add(self, at: int, to: int, *, write: bool) -> None:
        """Notes that step ``at`` was no number and the run goes on from step ``to``."""
        reached = self.data_step(at)
        self._rows = [row for row in self._rows if row["to"] <= to]  # what came after belongs to what is given up
        self._rows.append({"at": at, "to": to, "skipped": reached - self.data_step(to)})
        if write:
            write_json(self._path, self._rows)

    def data_step(self, step: int) -> int:
        """The place in the stream of batches that the training reads from a step on."""
        return step + sum(row["skipped"] for row in self._rows)
