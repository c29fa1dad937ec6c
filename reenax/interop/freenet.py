"""Published checkpoints of FReeNet: of the landmark converter, and of the generator trained behind it.

The converter's training writes ``best.pth`` with the states ``net_G``, ``net_D`` and ``net_Dr`` and the epoch. The
generator's writes two plain states, ``latest_net_G.pth`` and ``latest_net_D.pth``. A folder of all three becomes one
checkpoint; ``best.pth`` alone is one of a config whose generator is never trained.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from reenax.core.errors import UserError
from reenax.core.types import Method, Variables
from reenax.interop.torch import Entry, State, entries_of, flat_tensors, listed, read_checkpoint, to_variables
from reenax.methods.freenet import FReeNet

FILES = ("best.pth", "latest_net_G.pth", "latest_net_D.pth")
"""What a folder of a whole model holds, of both stages."""

# network -> (file, state in the file)
PLACES = {
    "converter": ("best", "net_G"),
    "identity_discriminator": ("best", "net_D"),
    "realism_discriminator": ("best", "net_Dr"),
    "generator": ("latest_net_G", None),
    "discriminator": ("latest_net_D", None),
}
PERCEPTRONS = {
    "converter": {"expression": "emotion", "neutral": "calm", "fusion": "fusion_flow"},
    "identity_discriminator": {"tower_0": "layers1", "tower_1": "layers2", "fusion": "layers3"},
    "realism_discriminator": {"layers": "layers"},
}


def read(path: Path) -> dict[str, Any]:
    """What :func:`convert` takes: the contents of a file, or those of a folder's files by their names without ending.

    Raises:
        UserError: the folder has none of the files, or one cannot be read.
    """
    if not path.is_dir():
        return read_checkpoint(path)
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found:
        raise UserError(f"{path} holds none of {', '.join(FILES)}, the files of freenet's published trainings")
    return {file.stem: read_checkpoint(file) for file in found}


def convert(checkpoint: Mapping[str, Any], method: FReeNet) -> Variables:
    """The variables of all networks from the contents of published checkpoints.

    Args:
        checkpoint: what ``best.pth`` holds; or what several files hold, by their names without ending.
        method: whose variables are wanted.

    Raises:
        UserError: naming the files, networks or tensors that are missing, unknown or misshapen.
    """
    if method.converter.centred:
        raise UserError("published converters see landmarks as they are: set config.model.converter.centred=False")
    files = checkpoint if "best" in checkpoint or "latest_net_G" in checkpoint else {"best": checkpoint}
    shapes = variable_shapes(method)
    state: State = {}
    for network in shapes:
        file, part = PLACES[network]
        content = files.get(file)
        content = content.get(part) if part and isinstance(content, Mapping) else content
        if not isinstance(content, Mapping) or not content:
            raise UserError(
                f"freenet needs {file}.pth{f' with {part}' if part else ''} for its {network}, and was given "
                f"{listed(map(str, checkpoint))}; give a folder of {', '.join(FILES)}, or best.pth with a config "
                f"that never trains the generator"
            )
        state |= {f"{network}.{name}": value for name, value in flat_tensors(content).items()}
    state = {_with_dropout(name): value for name, value in state.items()}
    return to_variables(state, tensor_entries(shapes), shapes)


def variable_shapes(method: Method) -> Variables:
    """Shapes of all variables."""
    return jax.eval_shape(method.init, jax.random.key(0), {"source": jnp.zeros((1, 64, 64, 3))})


def tensor_entries(shapes: Variables) -> list[Entry]:
    """Every tensor under its published name, behind the name of our network, and ours."""
    halvings = sum(name.startswith("down_") for name in shapes.get("generator", {}).get("params", {}))

    def tensor(path: tuple[str, ...]) -> str:
        network, _, *modules, leaf = path
        kind = "bias" if leaf == "bias" else "weight"
        if network == "generator":
            return f"{network}.{_generator_module(modules, halvings)}.{kind}"
        if network == "discriminator":
            return f"{network}.model.{_patch_index(int(modules[0].removeprefix('conv_')))}.{kind}"
        part, layer = modules
        return f"{network}.{PERCEPTRONS[network][part]}.{2 * int(layer.removeprefix('dense_'))}.{kind}"

    return entries_of(shapes, tensor)


def _patch_index(conv: int) -> int:
    """The place of a convolution: the first has no norm behind it, the others a norm and an activation."""
    return 0 if conv == 0 else 3 * conv - 1


def _generator_module(modules: list[str], halvings: int) -> str:
    """The published name of one of our modules; a block's second convolution comes after a layer of dropout."""
    name, _, index = modules[0].rpartition("_")
    if name == "block":
        inner = {"shortcut": "shortcut.0", "conv_0": "conv_block.1", "conv_1": "conv_block.6"}[modules[1]]
        return f"model2.{index}.{inner}"
    if name in ("down", "up", "landmark"):
        return {
            "down": f"model1.{4 + 3 * int(index)}",
            "up": f"model3.{3 * int(index)}",
            "landmark": f"model_landmark_trans.{3 * int(index)}",
        }[name]
    return "model1.1" if modules[0] == "first" else f"model3.{3 * halvings + 1}"


def _with_dropout(name: str) -> str:
    """The usual name of a tensor: without dropout a block's second convolution is one place earlier."""
    return re.sub(r"^(generator\.model2\.\d+\.conv_block)\.5\.", r"\1.6.", name)
