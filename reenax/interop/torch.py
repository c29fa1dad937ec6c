"""Checkpoints of PyTorch: reading them safely, and moving tensors between their names and layouts and ours.

A file is read with ``weights_only``: tensors and plain containers only, so that a hostile file cannot run code.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Variables

Layout = Literal["same", "conv", "conv3d", "dense", "transposed"]
State = dict[str, np.ndarray]

# (theirs to ours, ours to theirs): OIHW and HWIO, OIDHW and DHWIO, OI and IO; IOHW and HWIO, flipped as well
_KERNELS: dict[int, Layout] = {2: "dense", 4: "conv", 5: "conv3d"}  # by number of axes
_AXES: dict[Layout, tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = {
    "same": (None, None),
    "conv": ((2, 3, 1, 0), (3, 2, 0, 1)),
    "conv3d": ((2, 3, 4, 1, 0), (4, 3, 0, 1, 2)),
    "dense": ((1, 0), (1, 0)),
    "transposed": ((2, 3, 0, 1), (2, 3, 0, 1)),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor under both names.

    Attributes:
        theirs: name in the checkpoint.
        ours: network, collection and the path inside it.
        layout: "conv" for OIHW against HWIO, "conv3d" for OIDHW against DHWIO, "dense" for OI against IO, "transposed"
            for IOHW against HWIO of the flipped kernel.
    """

    theirs: str
    ours: tuple[str, ...]
    layout: Layout = "same"

    def to_ours(self, value: np.ndarray) -> np.ndarray:
        axes = _AXES[self.layout][0]
        value = self._flipped(value)
        return value if axes is None or value.ndim != len(axes) else np.ascontiguousarray(value.transpose(axes))

    def to_theirs(self, value: np.ndarray) -> np.ndarray:
        axes = _AXES[self.layout][1]
        return value if axes is None else np.ascontiguousarray(self._flipped(value.transpose(axes)))

    def _flipped(self, theirs: np.ndarray) -> np.ndarray:
        return theirs[..., ::-1, ::-1] if self.layout == "transposed" and theirs.ndim == 4 else theirs


def read_checkpoint(path: str | pathlib.Path) -> dict[str, Any]:
    """The contents of a checkpoint file, its tensors as NumPy arrays.

    Raises:
        UserError: PyTorch is not installed; the file is missing, damaged, holds more than tensors and plain
            containers, or is no checkpoint at all.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; give the path of a PyTorch checkpoint")
    try:
        import torch
    except ImportError:
        raise UserError(
            "reading a PyTorch checkpoint needs PyTorch: install the extra, pip install 'reenax[torch]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storage classes of old files, none of the user's business
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes on bytes that it does not understand
        raise UserError(f"{path} {_reason(path, error)}") from None
    content = _to_numpy(content)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not the named tensors of a checkpoint")
    return content


def _reason(path: pathlib.Path, error: Exception) -> str:
    """What is wrong with a file that torch refused, in words that help."""
    head = path.read_bytes()[:4] if path.stat().st_size < 1 << 20 else path.open("rb").read(4)
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if "weights only" in str(error).lower() and (head[:2] == b"PK" or head[:1] == b"\x80"):
        if "unsupported" in str(error).lower() or "allowed" in str(error).lower() or "global" in str(error).lower():
            return "holds objects other than tensors and is not read, since such a file can run code when opened"
        return "is no PyTorch checkpoint, or a damaged one"
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return "is a truncated or damaged PyTorch checkpoint; fetch it again"
    return "is no PyTorch checkpoint"


def _to_numpy(value: Any) -> Any:
    """Containers with their tensors as arrays; brain floats, which NumPy lacks, as float32."""
    if isinstance(value, Mapping):
        return {str(k): _to_numpy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_numpy(v) for v in value]
    if hasattr(value, "detach"):
        value = value.detach()
        if value.is_floating_point():
            value = value.float() if value.element_size() < 4 else value
        return value.numpy()
    return value


def flat_tensors(state: Any, prefix: str = "") -> State:
    """All arrays of a nested mapping under dotted names; everything else is left out."""
    if isinstance(state, np.ndarray):
        return {prefix: state}
    if not isinstance(state, Mapping):
        return {}
    return {
        name: tensor
        for key, value in state.items()
        for name, tensor in flat_tensors(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def listed(names: Iterable[str], at_most: int = 5) -> str:
    """Names for an error message of one line."""
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def to_variables(state: Mapping[str, np.ndarray], entries: Sequence[Entry], shapes: Variables) -> dict[str, Any]:
    """Our variables from the tensors of a checkpoint; every tensor must have its place and its shape.

    Args:
        state: checkpoint name to tensor; leave out what has no counterpart here.
        entries: every tensor under both names.
        shapes: the variables' shapes and dtypes, ``jax.eval_shape`` of an init.

    Raises:
        UserError: naming the tensors that are missing, unknown, of another shape or not finite.
    """
    known = {e.theirs for e in entries}
    missing = [e.theirs for e in entries if e.theirs not in state]
    extra = [name for name in state if name not in known]
    wrong, broken = [], []
    variables: dict[str, Any] = {}
    for entry in entries:
        if entry.theirs not in state:
            continue
        expected = _at(shapes, entry.ours)
        value = entry.to_ours(np.asarray(state[entry.theirs]))
        if value.shape != expected.shape:
            wanted = entry.to_theirs(np.empty(expected.shape, np.bool_)).shape
            wrong.append(f"{entry.theirs} {list(state[entry.theirs].shape)} instead of {list(wanted)}")
        elif not np.isfinite(value).all():
            broken.append(entry.theirs)
        _set(variables, entry.ours, jnp.asarray(value, expected.dtype))
    problems = (("missing", missing), ("unknown", extra), ("of another shape", wrong), ("not finite", broken))
    found = [f"{len(names)} {what}: {listed(names)}" for what, names in problems if names]
    if found:
        raise UserError(f"the checkpoint does not fit the model; tensors {'; '.join(found)}")
    return variables


def to_state(variables: Variables, entries: Sequence[Entry]) -> State:
    """The tensors of a checkpoint from our variables (or from gradients of the same structure).

    Entries whose place is absent in ``variables`` are left out, so a tree of gradients of params alone works.
    """
    state = {}
    for entry in entries:
        value = _at(variables, entry.ours)
        if value is not None:
            state[entry.theirs] = entry.to_theirs(np.asarray(value))
    return state


def entries_of(shapes: Variables, name: Callable[[tuple[str, ...]], str]) -> list[Entry]:
    """One entry per leaf, named by a rule.

    Kernels of five or four axes are convolutions, those of two are dense; "transposed_kernel" is of a `ConvTranspose`.
    """

    def layout(path: tuple[str, ...], shape: tuple[int, ...]) -> Layout:
        if path[-1] == "transposed_kernel":
            return "transposed"
        return _KERNELS[len(shape)] if path[-1] == "kernel" else "same"

    return [Entry(name(path), path, layout(path, leaf.shape)) for path, leaf in leaves(shapes)]


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every leaf of nested mappings with its path."""
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
