"""Published checkpoints of GANimation and StarGAN: one file of the generator, one of the critic, bare states.

    net_epoch_30_id_G.pth, net_epoch_30_id_D.pth       GANimation; the optimisers beside them, opt_*, are left alone
    200000-G.ckpt, 200000-D.ckpt                       StarGAN

Either file is enough to find the other one beside it, and so is a folder that holds one pair. A generator can come
alone: its critic is then a fresh one whose last layer is zero, which says that it never learned to read a label.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Method, Variables
from reenax.interop.published import COLLECTED
from reenax.interop.torch import Entry, entries_of, flat_tensors, read_checkpoint, to_variables

LETTERS = {"generator": "G", "critic": "D"}
FILE = re.compile(r"(?!opt_)(?P<stem>.*[_-])(?P<letter>[GD])(?P<ending>\.(pth|ckpt|pt))")


def read_pair(path: Path) -> dict[str, Any]:
    """The contents of both files: {"G": state} and, where it is there, "D".

    Args:
        path: either file, or a folder with one file of a generator.

    Raises:
        UserError: no such file, several generators in the folder, a critic without its generator, or a damaged file.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if (name := FILE.fullmatch(p.name)) and name["letter"] == "G")
        if len(found) != 1:
            held = ", ".join(p.name for p in found) or "none"
            raise UserError(f"{path} must hold one file of a generator (*_G.pth or *-G.ckpt); found: {held}. Name one")
        path = found[0]
    name = FILE.fullmatch(path.name)
    if name is None:
        return {"G": read_checkpoint(path)}
    files = {letter: path.with_name(f"{name['stem']}{letter}{name['ending']}") for letter in LETTERS.values()}
    if name["letter"] == "D" and not files["G"].is_file():
        raise UserError(f"{path} is a critic, and its generator {files['G'].name} is not beside it")
    return {letter: read_checkpoint(file) for letter, file in files.items() if letter == "G" or file.is_file()}


def module_names(blocks: int) -> Callable[[str], str]:
    """Our module name to the published one, for a generator of so many residual blocks; heads stay to be named."""
    behind = 9 + blocks
    fixed = {"first": "main.0", "first_norm": "main.1", "scores": "conv1", "label": "conv2"}
    fixed |= {"conv1": "main.0", "norm1": "main.1", "conv2": "main.3", "norm2": "main.4"}  # inside a residual block

    def module(name: str) -> str:
        if name in fixed:
            return fixed[name]
        if found := re.fullmatch(r"(conv|down|down_norm|residual|up|up_norm)_(\d+)", name):
            kind, i = found[1], int(found[2])
            first, step = {
                "conv": (0, 2),
                "down": (3, 3),
                "down_norm": (4, 3),
                "residual": (9, 1),
                "up": (behind, 3),
                "up_norm": (behind + 1, 3),
            }[kind]
            return f"main.{first + step * i}"
        return name

    return module


def entries_for(shapes: Variables, module: Callable[[str], str]) -> list[Entry]:
    """Every tensor under its published name, "G." or "D." in front, and ours."""

    def tensor(path: tuple[str, ...]) -> str:
        network, _, *modules, leaf = path
        leaf = "weight" if leaf in ("kernel", "transposed_kernel") else COLLECTED.get(leaf, leaf)
        return ".".join([LETTERS[network], *(module(m) for m in modules if m != "trunk"), leaf])

    return entries_of(shapes, tensor)


def shapes_of(method: Method, image_size: int) -> Variables:
    """Shapes of all variables."""
    batch = {"source": jnp.zeros((1, image_size, image_size, 3))}
    return jax.eval_shape(method.init, jax.random.key(0), batch)


def convert_pair(
    checkpoint: Mapping[str, Any],
    method: Method,
    *,
    name: str,
    image_size: int,
    module: Callable[[str], str],
    left_out: re.Pattern[str],
) -> Variables:
    """The variables of both networks.

    Args:
        checkpoint: "G" and perhaps "D", or the tensors of a generator.
        method: whose variables are wanted.
        name: the method's, for messages.
        image_size: of the pictures that the critic reads.
        module: our module name to the published one.
        left_out: tensors that have no counterpart here.

    Raises:
        UserError: naming the tensors that are missing, unknown or misshapen.
    """
    states = dict(checkpoint) if isinstance(checkpoint.get("G"), Mapping) else {"G": checkpoint}
    shapes = shapes_of(method, image_size)
    entries = entries_for(shapes, module)
    state = {
        f"{letter}.{tensor}": value
        for letter, tensors in states.items()
        for tensor, value in _plain(tensors).items()
        if not left_out.fullmatch(tensor)
    }
    if not any(tensor.startswith("G.") for tensor in state):
        raise UserError(f"the file is no generator of {name}: it has no tensors")
    if "D" not in states:
        state |= _fresh_critic(entries, shapes)
    return to_variables(state, entries, shapes)


def _plain(tensors: Any) -> dict[str, np.ndarray]:
    """Tensors by name, without the prefix of several devices."""
    return {key.removeprefix("module."): value for key, value in flat_tensors(tensors).items()}


def _fresh_critic(entries: list[Entry], shapes: Variables) -> dict[str, np.ndarray]:
    """A critic that training can begin with, drawn on the host; its last layer is zero."""
    random, state = np.random.default_rng(0), {}
    for entry in entries:
        network, _, *path = entry.ours
        if network == "critic":
            leaf: Any = shapes[network]["params"]
            for key in path:
                leaf = leaf[key]
            scale = (
                0.0 if entry.theirs == "D.conv2.weight" or path[-1] == "bias" else math.prod(leaf.shape[:-1]) ** -0.5
            )
            state[entry.theirs] = entry.to_theirs(scale * random.standard_normal(leaf.shape).astype(np.float32))
    return state
