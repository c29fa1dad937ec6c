"""`reenax train --repeat`: the same training again, from what the run folder says."""

import logging
from pathlib import Path

from reenax.core.errors import UserError
from reenax.train.facts import differences, gather_facts, read_facts
from reenax.train.run import check_place, train
from reenax.train.runs import read_config

log = logging.getLogger("reenax")


def repeat(run: Path, folder: Path, data: Path | None = None, *, warn: bool = False) -> None:
    """Trains anew with the config, the dataset and the starting point of a run.

    On the same machine, with the same versions, every loss is that of the run.

    Args:
        run: the run folder to repeat.
        folder: the new run folder.
        data: the dataset, when it has moved.
        warn: go on where versions, revision, devices or data differ, and say so.

    Raises:
        UserError: something differs, or what the run was made from is no longer there.
    """
    check_place(folder)
    config, then = read_config(run), read_facts(run)
    data = Path(then["data"]) if data is None else data
    started = then.get("warm_start")
    warm_start = None if started is None else Path(started["folder"])
    now = gather_facts(config, data, warm_start)
    found = differences(then, now)
    found += [f"the run was continued from step {c['step']} with other settings" for c in then.get("resumed", ())]
    if found and not warn:
        raise UserError(
            f"{run} cannot be repeated exactly: {'; '.join(found)}; restore these, or repeat it all the same with "
            f"--differences warn"
        )
    for difference in found:
        log.warning("not the same as in %s: %s", run, difference)
    train(config, data, folder, warm_start)
