"""What a run was made with: enough to repeat it, and to say why it cannot be repeated exactly.

RUN/facts.json    command, versions, git revision, dataset and its digest, starting point, frozen weights, devices
"""

import collections
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import xxhash

import reenax
from data_pipelines import clips
from reenax.core.errors import UserError
from reenax.train.frozen import RANDOM
from reenax.train.runs import Config, checkpoint_meta, write_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def gather_facts(config: Config, data: Path, warm_start: Path | None = None) -> dict[str, Any]:
    """What a training that begins now is made with, beside its config.

    Args:
        config: the training's.
        data: the dataset's folder.
        warm_start: the folder whose variables it starts from.

    Raises:
        UserError: a folder cannot be read.
    """
    frozen = {n: str(w) for n, w in config.frozen.to_dict().items() if w}
    return {
        "command": sys.argv,
        "packages": {"reenax": reenax.__version__} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "python": platform.python_version(),
        "git_revision": git_revision(),
        "data": str(Path(data).absolute()),
        "data_digest": clips.describe(Path(data))["digest"],
        "warm_start": None if warm_start is None else weights_of(warm_start),
        "frozen": {n: {"folder": w} if w == RANDOM else weights_of(Path(w)) for n, w in frozen.items()},
        "devices": [f"{d.device_kind} {d.id}" for d in jax.devices()],
        "processes": jax.process_count(),
    }


def weights_of(folder: Path, step: int | None = None) -> dict[str, Any]:
    """Where a folder's newest variables (or those of a step) are, and a digest of them.

    Raises:
        UserError: the folder holds none.
    """
    found, meta = checkpoint_meta(folder, step)
    leaves = json.dumps(meta["leaves"]["variables"], sort_keys=True)
    return {"folder": str(folder.absolute()), "step": found, "digest": xxhash.xxh3_64_hexdigest(leaves.encode())}


def git_revision() -> str | None:
    """The revision of the checkout that reenax runs from, with a digest of what is not committed; None elsewhere."""
    root = Path(reenax.__file__).parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, errors="replace").stdout

    if not (root / ".git").exists():  # installed, perhaps below somebody else's checkout
        return None
    try:
        revision, changes = git("rev-parse", "HEAD").strip(), git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}-changed-{xxhash.xxh3_64_hexdigest(changes.encode())}" if changes else revision


def read_facts(folder: Path) -> dict[str, Any]:
    """``facts.json`` of a run folder.

    Raises:
        UserError: it is missing or cannot be read.
    """
    path = Path(folder) / "facts.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); start a new run with --warm-start {folder}") from error


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes ``facts.json``."""
    write_json(folder / "facts.json", facts)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two trainings were not made with alike, each in a few words; paths and commands do not count."""
    found = []
    for package in sorted(then["packages"].keys() | now["packages"].keys()):
        was, is_now = then["packages"].get(package), now["packages"].get(package)
        if was != is_now:
            found.append(f"{package} was {was}, is {is_now}")
    for key, words in (("python", "Python"), ("git_revision", "git revision"), ("processes", "processes")):
        if then.get(key) != now.get(key):
            found.append(f"{words} was {then.get(key)}, is {now.get(key)}")
    if then["data_digest"] != now["data_digest"]:
        found.append(f"the dataset's digest was {then['data_digest'][:12]}, is {now['data_digest'][:12]}")
    kinds = [collections.Counter(d.rsplit(" ", 1)[0] for d in facts["devices"]) for facts in (then, now)]
    if kinds[0] != kinds[1]:
        was, is_now = (", ".join(f"{n} x {kind}" for kind, n in sorted(k.items())) for k in kinds)
        found.append(f"the devices were {was}, are {is_now}")
    if _digest(then.get("warm_start")) != _digest(now.get("warm_start")):
        found.append("the variables that it started from are others")
    weights = then.get("frozen", {}), now.get("frozen", {})
    networks = sorted(weights[0].keys() | weights[1].keys())
    others = [n for n in networks if _digest(weights[0].get(n)) != _digest(weights[1].get(n))]
    return [*found, *(f"the weights of {network} are others" for network in others)]


def _digest(weights: Mapping[str, Any] | None) -> str | None:
    return None if weights is None else weights.get("digest")
