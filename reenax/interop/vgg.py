"""Published VGG files as frozen networks.

Torchvision's (``vgg16-397923af.pth``, ``vgg19-dcbb9e9d.pth``) hold the trunk's convolutions by position, as
``features.N.weight`` and ``features.N.bias``; the networks of faces hold them by name:

    vggface     VGG-Face of 16 layers (``vgg_face_dag.pth``): conv1_1.weight, conv1_1.bias, conv1_2.weight, ...
    vggface11   VGG-Face of 11 layers, configuration A: conv1_1, conv2_1, conv3_1, conv3_2, conv4_1, ... conv5_2, or the
                same eight counted through, conv1 ... conv8
    vggmface    VGG-M trained on faces: conv1 ... conv5

Classifiers (``fc6``, ...) are not used here. The first convolution reads RGB. Weights that were trained with Caffe read
BGR: such a file says so by an entry "channels" of "bgr" next to its tensors, ``torch.save({**state, "channels":
"bgr"}, FILE)``, and the order is turned round.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.interop.torch import entries_of, flat_tensors, listed, to_variables
from reenax.nn.vgg import CONVS, OF_FACES, frozen_vgg, layer_names
from reenax.nn.vgg_m import FACE_NETWORKS, frozen_face_network, layers_of

TITLES = {"vggface": "VGG-Face", "vggface11": "VGG-Face of 11 layers", "vggmface": "VGG-M"}


def convert(checkpoint: Mapping[str, Any], arch: str) -> Collections:
    """``{"params": ...}`` of a whole trunk from the published state dict.

    Args:
        checkpoint: the tensors; next to them may be "channels", "rgb" or "bgr".
        arch: a key of `reenax.nn.vgg.CONVS`, or "vggmface".

    Raises:
        UserError: the file holds another network, or tensors are missing or misshapen.
    """
    if arch in FACE_NETWORKS:
        return _convert_by_name(checkpoint, arch)
    names, state = layer_names(arch), flat_tensors(checkpoint)
    shapes = {"vgg": jax.eval_shape(frozen_vgg(arch).init, jax.random.key(0))}
    trunk: dict[str, np.ndarray] = {n: v for n, v in state.items() if n.startswith("features.")}
    other = [n for n in state if n not in trunk and not n.startswith("classifier.")]
    if not trunk or other:
        found = f"it holds {listed(other)}" if other else "it holds no tensor named features.*"
        raise UserError(f"the file is not torchvision's {arch}: {found}")
    weights = {n for n in trunk if n.endswith(".weight")}
    for another in CONVS:
        if another not in (arch, *OF_FACES) and _convolutions(another) == weights:
            raise UserError(f"the file is torchvision's {another}, and {arch} is asked for")

    def name(path: tuple[str, ...]) -> str:
        return f"features.{names.index(path[2])}.{'weight' if path[3] == 'kernel' else 'bias'}"

    return to_variables(trunk, entries_of(shapes, name), shapes)["vgg"]


def _convert_by_name(checkpoint: Mapping[str, Any], arch: str) -> Collections:
    """The same for a network of faces, whose convolutions have names."""
    state = flat_tensors(checkpoint)
    trunk = {n: v for n, v in state.items() if n.startswith("conv")}
    ours = [n for n in layers_of(arch) if n.startswith("conv")]
    if arch == "vggface11" and "conv1.weight" in trunk:
        theirs = {f"conv{i}": n for i, n in enumerate(ours, start=1)}
        trunk = {".".join([theirs.get(n.split(".")[0], n), *n.split(".")[1:]]): v for n, v in trunk.items()}
    first = f"{ours[0]}.weight"
    if first not in trunk:
        raise UserError(f"the file is not {TITLES[arch]}: it has no {first}; it holds {listed(state) or 'no tensors'}")
    channels = checkpoint.get("channels", "rgb")
    if channels not in ("rgb", "bgr"):
        raise UserError(f'the file says "channels" {channels!r}; it can say "rgb" or "bgr"')
    if channels == "bgr":
        trunk[first] = trunk[first][:, ::-1]
    shapes = {"vgg": jax.eval_shape(frozen_face_network(arch).init, jax.random.key(0))}

    def name(path: tuple[str, ...]) -> str:
        return f"{path[2]}.{'weight' if path[3] == 'kernel' else 'bias'}"

    return to_variables(trunk, entries_of(shapes, name), shapes)["vgg"]


def _convolutions(arch: str) -> set[str]:
    return {f"features.{i}.weight" for i, n in enumerate(layer_names(arch)) if n.startswith("conv")}
