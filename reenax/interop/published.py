"""What the published checkpoints of the keypoint family have in common.

A file holds one state per network, next to optimisers and the epoch. Modules are called alike; spectrally normalised
kernels, running statistics and the blur kernels of anti-aliased downsampling have PyTorch's names.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reenax.core.errors import UserError
from reenax.core.types import Method, Variables
from reenax.geometry.sampling import antialias_taps
from reenax.interop.torch import Entry, State, entries_of, flat_tensors, listed, to_variables

IGNORED = re.compile(r"optimizer_.*|epoch")
COLLECTED = {"mean": "running_mean", "var": "running_var", "scale": "weight", "u": "weight_u", "v": "weight_v"}
# the smallest side that every hourglass can halve and that the discriminators' unpadded kernels leave something of
SIDE = 512

Naming = Callable[[str], str]


def read_published(
    checkpoint: Mapping[str, Any],
    method: Method,
    *,
    name: str,
    module: Naming | None = None,
    ignored: re.Pattern[str] = IGNORED,
    blurs: Mapping[str, float] | None = None,
    prepare: Callable[[State], None] | None = None,
) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    The spectral vector ``weight_v``, which old checkpoints lack, is computed from the kernel and ``weight_u``. Stored
    blur kernels are checked against the formula and left out.

    Args:
        checkpoint: what the file holds, tensors as NumPy arrays.
        method: whose variables are wanted; its networks are called as in the file.
        name: the method's name, for messages.
        module: our module name to the published one, see :func:`published_module`, which is the default.
        ignored: what else the file may hold at top level.
        blurs: tensor name to the scale factor whose blur it must be.
        prepare: changes the state, tensors under their published names, before it is read.

    Raises:
        UserError: naming the networks or tensors that are missing, unknown or misshapen, or a blur kernel that is not
            the one of the config.
    """
    shapes = variable_shapes(method)
    missing = [n for n in shapes if not isinstance(checkpoint.get(n), Mapping)]
    if missing:
        raise UserError(
            f"the file is no checkpoint of {name}: it has no {listed(missing)}; it holds {listed(map(str, checkpoint))}"
        )
    extra = [n for n in checkpoint if n not in shapes and not ignored.fullmatch(n)]
    if extra:
        raise UserError(f"the file is no checkpoint of {name}: its {listed(extra)} is unknown")
    state = {
        tensor: value
        for tensor, value in flat_tensors({n: checkpoint[n] for n in shapes}).items()
        if not tensor.endswith("num_batches_tracked")
    }
    _drop_blur_kernels(state, blurs or {})
    if prepare is not None:
        prepare(state)
    entries = tensor_entries(shapes, module or published_module)
    for entry in entries:
        if entry.ours[-1] == "v" and entry.theirs not in state:
            _add_missing_v(state, entry.theirs.removesuffix("_v"))
    return to_variables(state, entries, shapes)


def variable_shapes(method: Method) -> Variables:
    """Shapes of all variables; they do not depend on the size of the pictures."""
    batch = {name: jnp.zeros((1, SIDE, SIDE, 3)) for name in ("source", "driving")}
    return jax.eval_shape(method.init, jax.random.key(0), batch)


def published_module(module: str) -> str:
    """``down_blocks_0`` to ``down_blocks.0``, ``bottleneck_0`` to ``bottleneck.r0``, ``discs_0-5`` to ``discs.0-5``."""
    found = re.fullmatch(r"(down_blocks|up_blocks|bottleneck|discs)_(.+)", module)
    if not found:
        return module
    kind, index = found.groups()
    return f"{kind}.r{index}" if kind == "bottleneck" else f"{kind}.{index}"


def tensor_entries(shapes: Variables, module: Naming = published_module) -> list[Entry]:
    """Every tensor under its published name and ours."""
    paths = [e.ours for e in entries_of(shapes, ".".join)]
    spectral = {path[:1] + path[2:-1] for path in paths if path[1] == "spectral"}

    def tensor(path: tuple[str, ...]) -> str:
        network, _, *modules, leaf = path
        if leaf == "kernel":
            leaf = "weight_orig" if (network, *modules) in spectral else "weight"
        return ".".join([network, *map(module, modules), COLLECTED.get(leaf, leaf)])

    return entries_of(shapes, tensor)


def blur_kernel(scale: float) -> Float[np.ndarray, "n n"]:
    """The Gaussian before downsampling, as the published codes store it for every channel."""
    taps = antialias_taps(round(1 / scale))
    return np.outer(taps, taps)


def _drop_blur_kernels(state: State, blurs: Mapping[str, float]) -> None:
    """Takes the anti-alias Gaussians out of the state, after a look at whether they are the config's."""
    for name, scale in blurs.items():
        stored = state.pop(name, None)
        if stored is None:
            continue
        wanted = blur_kernel(scale)
        if stored.shape[-2:] != wanted.shape or np.abs(stored - wanted).max() > 1e-5:
            raise UserError(f"the checkpoint's {name} is not the blur of scale_factor={scale}: another config")


def _add_missing_v(state: State, name: str) -> None:
    """``weight_v = normalize(W^T u)`` of the convolution called ``name`` without its last letters."""
    kernel, u = state.get(f"{name}_orig"), state.get(f"{name}_u")
    if kernel is not None and u is not None and u.shape == kernel.shape[:1]:
        v = u @ kernel.reshape(kernel.shape[0], -1)
        state[f"{name}_v"] = v / max(float(np.linalg.norm(v)), 1e-12)
