"""Published checkpoints of the First Order Motion Model (``vox-cpk.pth.tar`` and its kin).

Top level: ``generator``, ``kp_detector``, ``discriminator``, next to optimisers and the epoch, which are left out.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reenax.core.errors import UserError
from reenax.core.types import Variables
from reenax.geometry.sampling import antialias_taps
from reenax.interop.torch import Entry, State, entries_of, flat_tensors, listed, to_variables
from reenax.methods.fomm import FirstOrderMotion

IGNORED = re.compile(r"optimizer_.*|epoch")
COLLECTED = {"mean": "running_mean", "var": "running_var", "scale": "weight", "u": "weight_u", "v": "weight_v"}


def convert(checkpoint: Mapping[str, Any], method: FirstOrderMotion) -> Variables:
    """The variables of all networks from the contents of a published checkpoint.

    The spectral vector ``weight_v``, which old checkpoints lack, is computed from the kernel and ``weight_u``. The
    stored blur kernels (``down.weight``) are checked against the formula and left out.

    Raises:
        UserError: naming the networks or tensors that are missing, unknown or misshapen, or a blur kernel that is not
            the one of the config.
    """
    shapes = variable_shapes(method)
    missing = [n for n in shapes if not isinstance(checkpoint.get(n), Mapping)]
    if missing:
        raise UserError(
            f"the file is no checkpoint of fomm: it has no {listed(missing)}; it holds {listed(map(str, checkpoint))}"
        )
    extra = [n for n in checkpoint if n not in shapes and not IGNORED.fullmatch(n)]
    if extra:
        raise UserError(f"the file is no checkpoint of fomm: its {listed(extra)} is unknown")
    state = {
        name: value
        for name, value in flat_tensors({n: checkpoint[n] for n in shapes}).items()
        if not name.endswith("num_batches_tracked")
    }
    _drop_blur_kernels(state, method)
    entries = tensor_entries(shapes)
    for entry in entries:
        if entry.ours[-1] == "v" and entry.theirs not in state:
            _add_missing_v(state, entry.theirs.removesuffix("_v"))
    return to_variables(state, entries, shapes)


def variable_shapes(method: FirstOrderMotion) -> Variables:
    """Shapes of all variables; they do not depend on the size of the pictures."""
    # the smallest side that every hourglass can halve and that the discriminators' unpadded kernels leave something of
    side = 512
    batch = {name: jnp.zeros((1, side, side, 3)) for name in ("source", "driving")}
    return jax.eval_shape(method.init, jax.random.key(0), batch)


def tensor_entries(shapes: Variables) -> list[Entry]:
    """Every tensor under its published name and ours."""
    spectral = {path[:1] + path[2:-1] for path in _paths(shapes) if path[1] == "spectral"}

    def name(path: tuple[str, ...]) -> str:
        network, _, *modules, leaf = path
        parts = [_published(module) for module in modules]
        if leaf == "kernel":
            leaf = "weight_orig" if (network, *modules) in spectral else "weight"
        return ".".join([network, *parts, COLLECTED.get(leaf, leaf)])

    return entries_of(shapes, name)


def _paths(shapes: Variables) -> list[tuple[str, ...]]:
    return [e.ours for e in entries_of(shapes, ".".join)]


def _published(module: str) -> str:
    """``down_blocks_0`` to ``down_blocks.0``, ``bottleneck_0`` to ``bottleneck.r0``, ``discs_0-5`` to ``discs.0-5``."""
    found = re.fullmatch(r"(down_blocks|up_blocks|bottleneck|discs)_(.+)", module)
    if not found:
        return module
    kind, index = found.groups()
    return f"{kind}.r{index}" if kind == "bottleneck" else f"{kind}.{index}"


def _drop_blur_kernels(state: State, method: FirstOrderMotion) -> None:
    """Takes the anti-alias Gaussians out of the state, after a look at whether they are the config's."""
    scales = {
        "kp_detector.down.weight": method.kp_detector.scale_factor,
        "generator.dense_motion_network.down.weight": method.generator.dense_motion.scale_factor,
    }
    for name, scale in scales.items():
        stored = state.pop(name, None)
        if stored is None:
            continue
        wanted = blur_kernel(scale)
        if stored.shape[-2:] != wanted.shape or np.abs(stored - wanted).max() > 1e-5:
            raise UserError(f"the checkpoint's {name} is not the blur of scale_factor={scale}: another config")


def blur_kernel(scale: float) -> Float[np.ndarray, "n n"]:
    """The Gaussian before downsampling, as the published code stores it for every channel."""
    taps = antialias_taps(round(1 / scale))
    return np.outer(taps, taps)


def _add_missing_v(state: State, name: str) -> None:
    """``weight_v = normalize(W^T u)`` of the convolution called ``name`` without its last letters."""
    kernel, u = state.get(f"{name}_orig"), state.get(f"{name}_u")
    if kernel is not None and u is not None and u.shape == kernel.shape[:1]:
        v = u @ kernel.reshape(kernel.shape[0], -1)
        state[f"{name}_v"] = v / max(float(np.linalg.norm(v)), 1e-12)
