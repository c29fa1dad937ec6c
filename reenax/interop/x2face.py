"""Published files of X2Face: ``x2face_model.pth``, its variant with pose layers, and the files of the maps.

    x2face_model.pth      state_dict: pix2pixUnwrapped.* and pix2pixSampler.*, two nested U-Nets; the variant with poses
                          has posefrombottle and bottlefrompose in the innermost block of the second
    posereg.pth           state_dict: posefrombottle.weight, posefrombottle.bias
    posetobottle.pth      state_dict: 0.weight, 1.weight, 1.bias, 1.running_mean, 1.running_var

Pose codes of the published layers are roll, pitch and yaw in radians; in which directions they count is not documented,
and they are taken as ours. The regression from sound is not imported: it reads features of another network than the
spectra of sound that are used here. Tensors of it (``linearregression.coef`` [vector features] and
``linearregression.intercept`` [vector]) are passed over.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from reenax.core.errors import UserError
from reenax.core.types import Variables
from reenax.interop.torch import Entry, State, entries_of, flat_tensors, listed, read_checkpoint, to_state, to_variables
from reenax.methods.x2face import X2Face

ROOTS = {"embedder": "pix2pixUnwrapped.netG.model", "driver": "pix2pixSampler.netG.model"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
OPTIONAL = ("pose_from_vector", "vector_from_pose", "vector_from_audio")


def joined(checkpoints: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The contents of several published files as those of one.

    Raises:
        UserError: two files hold the same tensor.
    """
    state: dict[str, Any] = {}
    for checkpoint in checkpoints:
        part = _state(checkpoint)
        if twice := state.keys() & part.keys():
            raise UserError(f"two of the files hold {listed(sorted(twice))}; give each file once")
        state |= part
    return {"state_dict": state}


def read(path: Path) -> dict[str, Any]:
    """One published file, or a folder of several.

    Raises:
        UserError: a folder without such a file, or a file that is damaged.
    """
    if not path.is_dir():
        return read_checkpoint(path)
    files = sorted(path.glob("*.pth"))
    if not files:
        raise UserError(f"{path} holds no .pth file; give x2face_model.pth, or a folder with it and the maps' files")
    return joined(read_checkpoint(file) for file in files)


def convert(checkpoint: Mapping[str, Any], method: X2Face) -> Variables:
    """The variables of all networks from the contents of a published checkpoint, or of several that were joined.

    Maps that it does not hold are fresh, that of sound always, and their drivers are refused until they have been
    fitted.

    Raises:
        UserError: naming the tensors that are missing, unknown or misshapen.
    """
    inner = _block("driver", method.size.levels)
    state = {n: v for n, v in _state(checkpoint).items() if not n.startswith("linearregression.")}
    if not any(name.startswith(tuple(ROOTS.values())) for name in state):
        raise UserError(
            f"the file is no checkpoint of x2face: it has no {ROOTS['embedder']}.*; it holds "
            f"{listed(state) or 'no tensors'}"
        )
    elsewhere = {"posefrombottle.": f"{inner}.posefrombottle."}
    elsewhere |= {f"{i}.": f"{inner}.bottlefrompose.{i}." for i in range(2)}
    for short, full in elsewhere.items():
        for name in [n for n in state if n.startswith(short)]:
            state[full + name.removeprefix(short)] = state.pop(name)
    shapes = variable_shapes(method)
    entries = tensor_entries(shapes, method.size.levels)
    missing = [n for n in OPTIONAL if not any(e.theirs in state for e in entries if e.ours[0] == n)]
    if missing:
        fresh = _fresh(method)
        state |= to_state({n: fresh[n] for n in missing}, entries)
    return to_variables(state, entries, shapes)


def tensor_entries(shapes: Variables, levels: int) -> list[Entry]:
    """Every tensor under its published name and ours."""

    def name(path: tuple[str, ...]) -> str:
        network, _, *modules, leaf = path
        if network in ROOTS:
            *parts, level = modules[0].split("_")
            return f"{_block(network, int(level))}.{_position(parts, int(level))}.{LEAVES[leaf]}"
        if network == "pose_from_vector":
            return f"{_block('driver', levels)}.posefrombottle.{LEAVES[leaf]}"
        if network == "vector_from_pose":
            return f"{_block('driver', levels)}.bottlefrompose.{int(modules[0] == 'norm')}.{LEAVES[leaf]}"
        return f"linearregression.{'coef' if leaf == 'kernel' else 'intercept'}"

    return entries_of(shapes, name)


def variable_shapes(method: X2Face) -> Variables:
    """Shapes of all variables."""
    return jax.eval_shape(method.init, jax.random.key(0), _pair(method))


def _state(checkpoint: Mapping[str, Any]) -> State:
    """The tensors of one file, without counters that nothing reads."""
    content = checkpoint.get("state_dict", checkpoint)
    return {n: v for n, v in flat_tensors(content).items() if not n.endswith("num_batches_tracked")}


def _block(network: str, level: int) -> str:
    return ROOTS[network] + ".submodule" * (level - 1)


def _position(parts: list[str], level: int) -> str:
    """The place of a convolution or a norm among the layers of its block, which activations and resizing share."""
    way, *norm = parts
    first = 2 if way == "up" else int(level > 1)
    return f"{way}.{first + len(norm)}"


def _fresh(method: X2Face) -> Variables:
    """The maps as they begin; the large networks are not computed."""
    pair = _pair(method)
    return jax.jit(lambda key: {n: v for n, v in method.init(key, pair).items() if n in OPTIONAL})(jax.random.key(0))


def _pair(method: X2Face) -> dict[str, Any]:
    """Pictures of the method's size."""
    side = 2**method.size.levels
    return {name: jnp.zeros((1, side, side, 3)) for name in ("source", "driving")}
