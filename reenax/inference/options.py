"""The options of a method's reenactor, from texts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.media import read_image
from reenax.core.errors import UserError
from reenax.core.types import Method, Option

Value = str | float | bool | Float[np.ndarray, "h w 4"] | None
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_options(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts by name.

    Raises:
        UserError: a text without a name or a value, or a name that is given twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise UserError(f"--option takes NAME=VALUE, not {text!r}")
        if name in given:
            raise UserError(f"--option {name} is given twice, as {given[name]} and as {value}; leave one out")
        given[name] = value
    return given


def read_options(method: Method, name: str, given: Mapping[str, str]) -> dict[str, Value]:
    """Every option of the method with its value, given or by default.

    Args:
        method: whose reenactor is meant.
        name: what it is called.
        given: option to the text of its value.

    Raises:
        UserError: an option that the method lacks, or a value that it cannot have.
    """
    for option in given:
        if option not in method.options:
            known = ", ".join(method.options) or "none"
            raise UserError(f"{name} has no option {option}; its options are: {known} (`reenax methods {name}`)")
    return {
        key: _read(key, option, given[key]) if key in given else option.default
        for key, option in method.options.items()
    }


def _read(name: str, option: Option, text: str) -> Value:
    if option.picture:
        return (read_image(Path(text), alpha=True) / 255.0).astype(np.float32)
    if isinstance(option.default, bool):
        if text.lower() not in _TRUTHS:
            raise UserError(f"option {name} is true or false, not {text!r}")
        return _TRUTHS[text.lower()]
    if isinstance(option.default, str):
        if option.choices and text not in option.choices:
            raise UserError(f"option {name} must be one of {', '.join(option.choices)}, not {text!r}")
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"option {name} is a number, not {text!r}")
    return value


def describe_options(method: Method) -> str:
    """A line per option, with its default."""
    lines = []
    for name, option in method.options.items():
        kind = "|".join(option.choices) or ("true|false" if isinstance(option.default, bool) else "NUMBER")
        default = "none" if option.default is None else str(option.default).lower()
        lines.append(f"  {name}={'FILE' if option.picture else kind}  {option.help} ({default})")
    return "\n".join(lines)
