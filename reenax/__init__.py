"""reenax: face reenactment methods in JAX and Flax, trained by one sharded engine."""

import importlib
import pkgutil
from typing import Any

__version__ = "0.1.0"


def method_names() -> tuple[str, ...]:
    """The names of all methods, alphabetically: the files of ``reenax.methods``."""
    methods = importlib.import_module("reenax.methods")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(methods.__path__)))


def load_method(name: str) -> Any:
    """The method class called ``name``, a dataclass of hyper-parameters whose defaults are the paper's.

    ``reenax.core.config.from_mapping(load_method("fomm"), {...})`` builds it from nested plain mappings.

    Raises:
        UserError: there is no method of that name.
    """
    if name not in method_names():
        from reenax.core.errors import UserError

        raise UserError(f"there is no method {name!r}; the methods are: {', '.join(method_names())}")
    return importlib.import_module(f"reenax.methods.{name}").METHOD
