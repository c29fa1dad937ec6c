"""Hyper-parameters from plain mappings into frozen dataclasses, with errors that name the key."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from reenax.core.errors import UserError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], prefix: str = "config.model") -> T:
    """Builds the dataclass ``cls`` from a mapping; nested mappings fill nested dataclasses, lists become tuples,
    whole numbers become floats where the dataclass has floats.

    Raises:
        UserError: a key that the dataclass does not have.
    """
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    made = {}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{prefix}.{key} is no key of {cls.__name__}; its keys are: {', '.join(known)}")
        made[key] = _convert(hints[key], value, f"{prefix}.{key}")
    return cls(**made)


def _convert(hint: Any, value: Any, prefix: str) -> Any:
    if isinstance(value, Mapping) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, prefix)
    if isinstance(value, list | tuple):
        item = (typing.get_args(hint) or (Any,))[0]
        return tuple(_convert(item, v, prefix) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
