"""Published VGG files as frozen networks.

Torchvision's (``vgg16-397923af.pth``, ``vgg19-dcbb9e9d.pth``) hold the trunk's convolutions by position, as
``features.N.weight`` and ``features.N.bias``; VGG-Face (``vgg_face_dag.pth``) holds them by name, as
``conv1_1.weight``. The classifiers are not used here.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections, Variables
from reenax.interop.torch import State, entries_of, flat_tensors, listed, to_variables
from reenax.nn.vgg import CONVS, frozen_vgg, layer_names


def convert(checkpoint: Mapping[str, Any], arch: str) -> Collections:
    """``{"params": ...}`` of a whole trunk from the published state dict.

    Raises:
        UserError: the file holds another network, or tensors are missing or misshapen.
    """
    names, state = layer_names(arch), flat_tensors(checkpoint)
    shapes = {"vgg": jax.eval_shape(frozen_vgg(arch).init, jax.random.key(0))}
    if arch == "vggface":
        return _convert_by_name(state, shapes)
    trunk: dict[str, np.ndarray] = {n: v for n, v in state.items() if n.startswith("features.")}
    other = [n for n in state if n not in trunk and not n.startswith("classifier.")]
    if not trunk or other:
        found = f"it holds {listed(other)}" if other else "it holds no tensor named features.*"
        raise UserError(f"the file is not torchvision's {arch}: {found}")
    weights = {n for n in trunk if n.endswith(".weight")}
    for another in CONVS:
        if another not in (arch, "vggface") and _convolutions(another) == weights:
            raise UserError(f"the file is torchvision's {another}, and {arch} is asked for")

    def name(path: tuple[str, ...]) -> str:
        return f"features.{names.index(path[2])}.{'weight' if path[3] == 'kernel' else 'bias'}"

    return to_variables(trunk, entries_of(shapes, name), shapes)["vgg"]


def _convert_by_name(state: State, shapes: Variables) -> Collections:
    trunk = {n: v for n, v in state.items() if n.startswith("conv")}
    if "conv1_1.weight" not in trunk:
        raise UserError(f"the file is not VGG-Face: it has no conv1_1.weight; it holds {listed(state) or 'no tensors'}")

    def name(path: tuple[str, ...]) -> str:
        return f"{path[2]}.{'weight' if path[3] == 'kernel' else 'bias'}"

    return to_variables(trunk, entries_of(shapes, name), shapes)["vgg"]


def _convolutions(arch: str) -> set[str]:
    return {f"features.{i}.weight" for i, n in enumerate(layer_names(arch)) if n.startswith("conv")}
