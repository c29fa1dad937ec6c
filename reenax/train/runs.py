"""The run folder: what is needed to resume, repeat or use a training, and nothing else.

    RUN/config.json          the resolved config
    RUN/facts.json           see `reenax.train.facts`
    RUN/checkpoints/STEP/    see `reenax.train.checkpoint`
    RUN/metrics.jsonl        one line per logged step
    RUN/samples/             sheets (PNG) and clips (MP4) of fixed test pictures
    RUN/set_aside/           checkpoints that were found damaged
    RUN/rewinds.json         see `reenax.train.rewinds`

An imported checkpoint is a folder with a config and one checkpoint.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

import reenax
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.pictures import float_pictures
from reenax.core.types import Method, Variables
from reenax.train.checkpoint import BadCheckpointError, Checkpoints, save_variables

Config = Any
"""An ml_collections ConfigDict with the keys of `configs.common`. The class types its attributes as unions of all that
a config may hold, which no type checker can use."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A method with variables that can be used.

    Attributes:
        method: the method.
        variables: its networks' variables, averaged where a network has a moving average.
        config: the config that it was trained with.
        step: the step of the checkpoint; 0 for an imported one.
        name: the method's name.
    """

    method: Method
    variables: Variables
    config: Config
    step: int
    name: str


def make_method(config: Config) -> Method:
    """The method of a config, with the compute dtype and remat that the config asks for.

    Raises:
        UserError: an unknown method or hyper-parameter.
    """
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f'config.dtype={config.dtype!r} is unknown; use "float32" or "bfloat16"')
    cls = reenax.load_method(config.method)
    return from_mapping(cls, {**config.model.to_dict(), "dtype": config.dtype, "remat": config.remat})


def write_json(path: Path, value: Any) -> None:
    """Writes a file in one piece: it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")
    temporary.replace(path)


def write_config(folder: Path, config: Config) -> None:
    """Writes ``config.json``."""
    write_json(folder / "config.json", json.loads(config.to_json()))


def check_run_folder(folder: Path) -> None:
    """Refuses to train into a folder that holds something.

    Raises:
        UserError: it does.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; continue it with `reenax train --resume {folder}` or give a new --run")


def create_run(folder: Path, config: Config, facts: Mapping[str, Any]) -> None:
    """Makes a run folder in one piece: one that is there has config and facts."""
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    write_config(new, config)
    write_json(new / "facts.json", facts)
    new.rename(folder)


def read_config(folder: Path) -> Config:
    """The config of a run folder.

    Raises:
        UserError: the folder is no run folder, or its config cannot be read.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.json; give the folder that `reenax train` made")
    try:
        return ConfigDict(_with_tuples(json.loads(path.read_text())))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from the run's log or start a new run") from error


def batch_shapes(batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shapes and dtypes of a batch of one, in a form for JSON."""
    return {k: [[1, *v.shape[1:]], str(v.dtype)] for k, v in batch.items()}


def abstract_variables(method: Method, shapes: Mapping[str, Any]) -> dict[str, PyTree]:
    """Shapes and dtypes of the checkpoint item ``variables``, without computing anything."""

    def make() -> dict[str, PyTree]:
        batch = {k: jax.numpy.zeros(shape, dtype) for k, (shape, dtype) in shapes.items()}
        variables = method.init(jax.random.key(0), float_pictures(batch))
        params = {n: v.get("params", {}) for n, v in variables.items()}
        return {
            "params": params,
            "collections": {n: {k: c for k, c in v.items() if k != "params"} for n, v in variables.items()},
            "ema_params": {n: params[n] for n in method.ema},
        }

    return jax.eval_shape(make)


def load_trained(folder: Path, step: int | None = None) -> Trained:
    """The newest (or the named) checkpoint of a run folder or of an imported checkpoint, ready for use.

    Raises:
        UserError: no such folder, no checkpoint in it, a damaged one, or one of another model.
    """
    config = read_config(folder)
    method = make_method(config)
    with Checkpoints(_checkpoints_of(folder)) as checkpoints:
        found, meta = _meta(checkpoints, folder, step)
        variables = checkpoints.restore_variables(found, abstract_variables(method, meta["batch"]))
    # arrays restored without shardings are put on one device, which is what inference uses
    return Trained(method, variables, config, found, config.method)


def checkpoint_meta(folder: Path, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """Step and description (see `reenax.train.checkpoint`) of the newest (or the named) checkpoint of a folder.

    Raises:
        UserError: as `load_trained`.
    """
    read_config(folder)  # says when it is no run folder at all
    with Checkpoints(_checkpoints_of(folder)) as checkpoints:
        return _meta(checkpoints, folder, step)


def _checkpoints_of(folder: Path) -> Path:
    where = Path(folder) / "checkpoints"
    if not where.is_dir():
        raise UserError(f"{folder} has no checkpoint yet; train longer, or lower config.save_every")
    return where


def _meta(checkpoints: Checkpoints, folder: Path, step: int | None) -> tuple[int, dict[str, Any]]:
    found = checkpoints.latest_step() if step is None else step
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet; train longer, or lower config.save_every")
    if found not in checkpoints.steps():
        steps = ", ".join(map(str, checkpoints.steps()))
        raise UserError(f"{folder} has no checkpoint of step {found}; it has those of steps {steps}")
    try:
        return found, checkpoints.meta(found)
    except BadCheckpointError as error:
        raise UserError(f"the checkpoint of step {found} in {folder} is damaged: {error}") from error


def _with_tuples(value: Any) -> Any:
    """JSON knows lists alone; configs hold tuples, and their changes are checked against those."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def save_imported(folder: Path, config: Config, variables: Variables, shapes: Mapping[str, Any]) -> None:
    """Writes variables that came from elsewhere as a folder that `load_trained` reads.

    Raises:
        UserError: the folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give --out a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_variables(folder / "checkpoints", variables, shapes)
    write_config(folder, config)
