"""Published files of ReenactGAN, a folder of them.

One network per file, some under two names: the boundary encoder (``v8_net_boundary_detection.pth``), the transformer to
the target (``NAME_net_transformer.pth``, ``G_BA_STEP.pth``), its decoder (``NAME_net_decoder.pth``,
``EPOCH_net_G.pth``), the aligner (``Align_40000.pth``) and four text files of the shape's components (``weight_212``,
``bias_212``, ``inverse_weight_212``, ``inverse_bias_212``). The first three must be there; the others, which only
trainings read, begin fresh where they are not.
"""

import io
import logging
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections, Variables
from reenax.interop.published import COLLECTED
from reenax.interop.torch import (
    Entry,
    State,
    entries_of,
    flat_tensors,
    leaves,
    listed,
    read_checkpoint,
    to_variables,
)
from reenax.methods.reenactgan import ReenactGAN

log = logging.getLogger("reenax")

FILES = {
    "encoder": ("*boundary_detection*.pth",),
    "transformer": ("*_net_transformer.pth", "G_BA_*.pth"),
    "decoder": ("*_net_decoder.pth", "*_net_G.pth"),
    "aligner": ("Align_*.pth",),
}
NEEDED = ("encoder", "transformer", "decoder")  # for a picture of the target
COMPONENTS = ("weight_212", "bias_212", "inverse_weight_212", "inverse_bias_212")
LANDMARKS = 106  # of the aligner and of the components

_MODULES: dict[str, tuple[tuple[str, str], ...]] = {
    "encoder": (
        (r"(layer\d)", r"\1.0"),
        (r"hg_(\d+)", r"hg.\1.hg"),
        (r"level_(\d+)_(\d)", r"\1.\2.0"),
        (r"res_(\d+)", r"res.\1.0"),
        (r"fc_norm_(\d+)", r"fc.\1.1"),
        (r"(fc|score)_back_(\d+)", r"\1_.\2"),
        (r"fc_(\d+)", r"fc.\1.0"),
        (r"score_(\d+)", r"score.\1"),
        (r"downsample", r"downsample.0"),
    ),
    "aligner": (
        (r"mix", r"model.0"),
        (r"first", r"model.1"),
        (r"first_norm", r"model.2"),
        (r"shortcut", r"downsample.0"),
        (r"shortcut_norm", r"downsample.1"),
        (r"hidden_1", r"mlp.1"),
        (r"hidden_2", r"mlp.3"),
        (r"points", r"mlp.5"),
    ),
}


def read(folder: Path) -> dict[str, Any]:
    """What is in a folder of published files: network -> tensors by name, and "shape" -> the four arrays.

    Files that are not known are logged.

    Raises:
        UserError: the path is no folder, it lacks a network without which there are no pictures, two of its files are
            of one network, or one is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; put the published files of one target into one and give that")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    known = {n: [f for f in names if any(fnmatchcase(f, p) for p in patterns)] for n, patterns in FILES.items()}
    for network, found in known.items():
        if len(found) > 1:
            raise UserError(f"{folder} holds {listed(found)}, all of the {network}; leave the one that you want")
    if missing := [f"the {n} ({' or '.join(FILES[n])})" for n in NEEDED if not known[n]]:
        raise UserError(f"{folder} lacks {', '.join(missing)}; it holds {listed(names) or 'nothing'}")
    stems = {Path(name).stem: name for name in names}
    there = [name for name in COMPONENTS if name in stems]
    if there and len(there) < len(COMPONENTS):
        raise UserError(f"{folder} lacks {listed(n for n in COMPONENTS if n not in there)}")
    used = {*(found[0] for found in known.values() if found), *(stems[name] for name in there)}
    if ignored := [name for name in names if name not in used]:
        log.warning("ignored, since no network's files are called so: %s", listed(ignored))
    content: dict[str, Any] = {n: read_checkpoint(folder / found[0]) for n, found in known.items() if found}
    if there:
        content["shape"] = {name: _numbers(folder / stems[name]) for name in COMPONENTS}
    return content


def convert(checkpoint: Mapping[str, Any], method: ReenactGAN) -> Variables:
    """The variables of all networks from what :func:`read` gives; networks without a file are fresh, and logged.

    Raises:
        UserError: tensors that are missing, unknown or misshapen; components without 106 landmarks.
    """
    batch = {"source": jnp.zeros((1, method.size, method.size, 3))}
    variables: Any = jax.jit(method.init)(jax.random.key(0), batch)
    made = {}
    for network, fresh in variables.items():
        kept = {name: collection for name, collection in fresh.items() if name == "shape"}
        learned = fresh
        if network in checkpoint:
            learned = convert_network(network, checkpoint[network], {n: c for n, c in fresh.items() if n not in kept})
        made[network] = {**learned, **kept}
    if "shape" in checkpoint:
        made["aligner"] = {**made["aligner"], "shape": convert_shape(checkpoint["shape"], method)}
    without = [name for name in made if name not in checkpoint]
    if "shape" not in checkpoint:
        without.append("components of the shape")
    if without:
        log.info("without files, so fresh: %s", ", ".join(without))
    return made


def convert_network(network: str, checkpoint: Mapping[str, Any], shapes: Collections) -> Collections:
    """One network's collections from its published tensors.

    Args:
        network: as the method calls it.
        checkpoint: name to tensor; a leading ``module.`` is taken off.
        shapes: collections of the same structure.

    Raises:
        UserError: naming the tensors that are missing, unknown or misshapen.
    """
    state: State = {
        name.removeprefix("module."): value
        for name, value in flat_tensors(checkpoint).items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        return to_variables(state, tensor_entries(network, shapes), {network: shapes})[network]
    except UserError as error:
        raise UserError(f"{network}: {error}") from None


def tensor_entries(network: str, shapes: Collections) -> list[Entry]:
    """Every tensor of a network under its published name and ours."""
    blocks = {path[1] for path, _ in leaves(shapes) if path[1].startswith("block_")}

    def name(path: tuple[str, ...]) -> str:
        _, _, *modules, leaf = path
        leaf = "weight" if leaf.endswith("kernel") else COLLECTED.get(leaf, leaf)
        return ".".join([*_published(network, modules, len(blocks), _depth(shapes)), leaf])

    return entries_of({network: shapes}, name)


def _depth(shapes: Collections) -> int:
    """How many levels the U-Net has, where there is one."""
    return sum(name.startswith("down_") and "norm" not in name for name in shapes["params"].get("unet", {}))


def _published(network: str, modules: list[str], blocks: int, depth: int) -> list[str]:
    if network in _MODULES:
        prefix = ["model.0"] if network == "encoder" else []
        return prefix + [_renamed(network, module) for module in modules]
    if network.endswith(("discriminator", "discriminators")):
        kind, index = modules[0].rsplit("_", 1)
        return [f"model.{3 * int(index)}" if kind == "norm" else f"model.{max(0, 3 * int(index) - 1)}"]
    return _decoder_name(modules, depth) if network == "decoder" else _transformer_name(modules, blocks)


def _renamed(network: str, module: str) -> str:
    if found := re.fullmatch(r"block_(\d)_(\d)", module):
        return f"model.{5 + int(found[1])}.{found[2]}"
    for pattern, theirs in _MODULES[network]:
        if re.fullmatch(pattern, module):
            return re.sub(pattern, theirs, module)
    return module


def _transformer_name(modules: list[str], blocks: int) -> list[str]:
    module, *inner = modules
    if module.startswith("block_"):
        position = {"conv_1": 1, "norm_1": 2, "conv_2": 5, "norm_2": 6}[inner[0]]
        return [f"model.{10 + int(module.split('_')[1])}.conv_block.{position}"]
    first = {"first": 1, "first_norm": 2, "last": 10 + blocks + 7}
    if module in first:
        return [f"model.{first[module]}"]
    kind, index = module.rsplit("_", 1)
    start = {"down": 4, "down_norm": 5, "up": 10 + blocks, "up_norm": 11 + blocks}[kind]
    return [f"model.{start + 3 * int(index)}"]


def _decoder_name(modules: list[str], depth: int) -> list[str]:
    """The published decoder enlarges twice; every level of its U-Net is nested in the one around it."""
    if modules[0] != "unet":
        return [
            {"enlarge_0": "model.model.0.model.0.model.1", "enlarge_norm_0": "model.model.0.model.0.model.2"}.get(
                modules[0], "model.model.0.model.2"
            )
        ]
    kind, number = modules[1].rsplit("_", 1)
    level = int(number)
    if level == 1:
        return ["model.model.1" if kind == "down" else "model.model.4"]
    up = 3 if level == depth else 5
    position = {"down": 1, "down_norm": 2, "up": up, "up_norm": up + 1}[kind]
    return ["model.model.2" + ".model.3" * (level - 2) + f".model.{position}"]


def convert_shape(arrays: Mapping[str, np.ndarray], method: ReenactGAN) -> Collections:
    """The statistics of the shape from its components: whitening rows, and their inverse around the mean.

    Raises:
        UserError: the method's aligner has other landmarks.
    """
    size = 2 * method.aligner.points
    flat = {name.removesuffix("_212"): np.asarray(array, np.float64).ravel() for name, array in arrays.items()}
    sizes = {"weight": size**2, "inverse_weight": size**2, "bias": size, "inverse_bias": size}
    wrong = [name for name, wanted in sizes.items() if flat[name].size != wanted]
    if wrong:
        raise UserError(
            f"the components have other sizes than config.model.aligner.points={method.aligner.points} needs "
            f"({listed(wrong)}); the published ones are of {LANDMARKS}"
        )
    kept = method.aligner.components
    weight, inverse = (flat[name].reshape(size, size) for name in ("weight", "inverse_weight"))
    shape = {
        "seen": np.asarray(1e6),  # batches: many
        "mean": flat["inverse_bias"],
        "covariance": inverse @ inverse.T,
        "weight": weight[:kept].T,
        "bias": flat["bias"][:kept],
    }
    return {name: jnp.asarray(array, jnp.float32) for name, array in shape.items()}


def _numbers(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(io.StringIO(path.read_text().replace(",", " ")), dtype=np.float64, ndmin=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no text file of numbers ({error})") from None
