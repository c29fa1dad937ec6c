"""Configs by ``FILE:NAME``, changed from the command line."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import config_flags

import reenax
from reenax.core.errors import UserError
from reenax.train.runs import Config

ROOT = Path(reenax.__file__).parents[1]  # of a checkout: where configs/ lies when the working directory is another


def load_config(spec: str, overrides: Sequence[str] = ()) -> Config:
    """The config of ``FILE:NAME``, for example ``configs/fomm.py:vox256``, with ``--config.KEY=VALUE`` applied.

    Raises:
        UserError: no such file or name, or an override that does not fit.
    """
    file, _, name = spec.partition(":")
    path = next((p for p in (Path(file), ROOT / file) if p.is_file()), None)
    if path is None:
        known = ", ".join(f"configs/{m}.py" for m in reenax.method_names())
        raise UserError(f"there is no config file {file}; the files are: {known}")
    module = _load(path)
    names = config_names(module)
    if name not in names:
        raise UserError(f"{file} has no config {name!r}; its configs are: {', '.join(names)}")
    return override(module.get_config(name), overrides)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """The config with some values changed; types and keys are checked.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    arguments = ["reenax", *overrides]
    values = flags.FlagValues()
    for text in overrides:
        _check_key(config, text)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{' '.join(overrides)}: {' '.join(str(error).split())}") from error
    changed = values["config"].value
    assert changed is not None
    return changed


def _check_key(config: Config, text: str) -> None:
    """Refuses ``--config.a.b=VALUE`` when the config has no such key, and names those that it has."""
    where, level = text.split("=")[0].removeprefix("--"), config
    for part in where.split(".")[1:]:
        if not hasattr(level, "keys") or part not in level:
            keys = ", ".join(sorted(level.keys())) if hasattr(level, "keys") else "none"
            raise UserError(f"{where} is no key of the config; at {part!r} the keys are: {keys}")
        level = level[part]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reenax_config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} is no config file: it has no get_config(name)")
    return module


def config_names(module: ModuleType) -> tuple[str, ...]:
    """The configs that a config file offers."""
    return tuple(module.NAMES)
