"""What each method is: its paper, its drivers, what it needs and trains, its configs, and what checks there are."""

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import reenax
from reenax.core.types import DRIVES, Method
from reenax.train.config import ROOT, config_names
from reenax.train.optim import make_optimisers
from reenax.train.runs import Config, make_method


@functools.cache
def _methods(name: str) -> Mapping[str, tuple[Config, Method]]:
    """Every config of a method, and the method that it makes."""
    module = importlib.import_module(f"configs.{name}")
    configs = {key: module.get_config(key) for key in config_names(module)}
    return {key: (config, make_method(config)) for key, config in configs.items()}


def driven_by(kind: str) -> tuple[str, ...]:
    """The methods that take a kind of driver, a key of `reenax.core.types.DRIVES`, in one config at least."""
    return tuple(
        name for name in reenax.method_names() if any(kind in method.drives for _, method in _methods(name).values())
    )


def method_table(names: Sequence[str] | None = None) -> str:
    """One block per method, by default of all.

    A field, a driver or a network that not all configs have is followed by the number of those that do.
    """
    return "\n".join(_block(name) for name in (reenax.method_names() if names is None else names))


def _block(name: str) -> str:
    title, published = _paper(name)
    made = _methods(name)
    methods = [method for _, method in made.values()]
    rows = {
        "published": published,
        "driven by": _union(methods, lambda m: sorted(m.drives, key=list(DRIVES).index))
        or "nothing: it reenacts nothing",
        "needs": _union(methods, lambda m: sorted(m.fields)),
        "trains": _union(list(made.values()), lambda pair: _trained(*pair)),
        "reads": _union(methods, lambda m: sorted(network.kind for network in m.frozen.values())),
        "configs": ", ".join(f"configs/{name}.py:{key}" for key in made),
        "checks": ", ".join(_checks(name)),
    }
    lines = [f"{name}: {title}"]
    return "\n".join([*lines, *(f"  {title:<10} {text}" for title, text in rows.items() if text)])


def _paper(name: str) -> tuple[str, str]:
    """Title, and where and when it was published: what a method's module begins with; no such place, no such text.

    The second paragraph is the authors, and as its last sentence the place.
    """
    doc = importlib.import_module(f"reenax.methods.{name}").__doc__ or ""
    title, second, *_ = [" ".join(paragraph.split()) for paragraph in doc.split("\n\n")] + [""]
    place = second.removesuffix(".").rsplit(". ", 1)[-1]
    return title, place if re.search(r"\b(19|20)\d\d\b", place) else ""


def _union(made: Sequence[Any], of: Callable[[Any], Iterable[str]]) -> str:
    """All words of some lists, in order; behind one that some lists lack how many have it."""
    counts: dict[str, int] = {}
    for one in made:
        for word in of(one):
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(w if n == len(made) else f"{w} ({n} of {len(made)} configs)" for w, n in counts.items())


def _trained(config: Config, method: Method) -> list[str]:
    """The networks that players move."""
    players = method.players(make_optimisers(config.optim.to_dict(), 1, 1))
    return list(dict.fromkeys(network for player in players for network in player.owns))


def _checks(name: str) -> Iterable[str]:
    """What there is in this checkout to check the method by; nothing is said of how the checks end."""
    folder = ROOT / "tests" / "golden" / "cases" / name
    if cases := sum(len(json.loads(path.read_text())["cases"]) for path in folder.glob("manifest_*.json")):
        yield f"golden cases in this checkout: {cases} (numbers of the published code, pytest tests/golden)"
    if (ROOT / "tests" / "methods" / f"test_{name}.py").is_file():
        yield f"contracts (pytest tests/methods/test_{name}.py)"
    if importlib.util.find_spec(f"reenax.interop.{name}") is not None:
        yield f"a reader of published checkpoints (reenax import {name})"
    if (record := ROOT / "experiments" / "runs" / f"{name}.md").is_file():
        yield f"a record of trainings ({record.relative_to(ROOT)})"
