"""Linear models of faces: a mean shape, bases of identity, expression and albedo, landmarks, and how they are kept.

Every model, ours or a licensed one, becomes the same `FaceModel`. Its arrays are leaves of a pytree, so that a model is
an argument of compiled functions and no constant inside them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PyTree

from reenax.core.errors import UserError
from reenax.geometry.array_files import read_arrays, write_arrays
from reenax.geometry.rotations import rotation_matrices

FORMAT = "reenax face model 1"
LANDMARKS = 68

_HIGHEST = jax.lax.Precision.HIGHEST  # tensor cores would round each factor to ten bits


class Skeleton(struct.PyTreeNode):
    """Joints of a model that is posed by linear blend skinning (FLAME: global, neck, jaw, left and right eye).

    Attributes:
        joint_regressor: float32 [j v], places of the joints as sums over the vertices.
        skinning: float32 [v j], weights of the joints on every vertex; rows sum to 1.
        pose_basis: float32 [(j-1)*9 v 3], centimetres per entry of (rotation matrix - identity) of every joint but
            the first, row by row.
        parents: each joint's parent, earlier in the list; -1 for the first, the root.
    """

    joint_regressor: PyTree  # a tree of the same form holds shapes or shardings, hence no array types
    skinning: PyTree
    pose_basis: PyTree
    parents: tuple[int, ...] = struct.field(pytree_node=False)


class FaceModel(struct.PyTreeNode):
    """A linear model of faces: v vertices, f triangles, i identity, e expression and a albedo coefficients.

    Space: centimetres, x to the right of the picture (the subject's left), y up, z towards the camera. Coefficients
    are standard normal deviates, the standard deviations are folded into the bases; expression coefficients of
    models with named expressions (``expression_names``) run from 0 to 1 instead.

    Attributes:
        mean: float32 [v 3].
        identity_basis: float32 [i v 3].
        expression_basis: float32 [e v 3].
        faces: int32 [f 3], triangles, counter-clockwise as seen from outside.
        landmark_vertices: int32 [68 3], corners of the triangle that each landmark of the iBUG order lies in; one
            vertex thrice for a landmark on a vertex.
        landmark_weights: float32 [68 3], its barycentric coordinates there; rows sum to 1.
        albedo_mean: float32 [v 3], linear RGB, or None.
        albedo_basis: float32 [a v 3], linear RGB, or None.
        uv: float32 [v 2], texture coordinates in [0, 1], v upwards, or None.
        regions: name ("face", "mouth", "eyes", "skin" ... as far as known) to bool [v].
        skeleton: joints, where the model has them.
        name: what to call it.
        licence: the terms under which the file came, in a line or two.
        expression_names: one for each expression, or () where they have none.
    """

    mean: PyTree  # a tree of the same form holds shapes or shardings, hence no array types
    identity_basis: PyTree
    expression_basis: PyTree
    faces: PyTree
    landmark_vertices: PyTree
    landmark_weights: PyTree
    albedo_mean: PyTree = None
    albedo_basis: PyTree = None
    uv: PyTree = None
    regions: Mapping[str, PyTree] = struct.field(default_factory=dict)
    skeleton: Skeleton | None = None
    name: str = struct.field(pytree_node=False, default="")
    licence: str = struct.field(pytree_node=False, default="")
    expression_names: tuple[str, ...] = struct.field(pytree_node=False, default=())

    def shape(self, identity: Float[Array, " i"], expression: Float[Array, " e"]) -> Float[Array, "v 3"]:
        """Vertices in centimetres, not posed."""
        moved = jnp.tensordot(identity, self.identity_basis, 1, precision=_HIGHEST)
        return self.mean + moved + jnp.tensordot(expression, self.expression_basis, 1, precision=_HIGHEST)

    def albedo(self, coefficients: Float[Array, " a"]) -> Float[Array, "v 3"]:
        """Linear RGB of every vertex, not clipped; for models that have an albedo."""
        if self.albedo_mean is None or self.albedo_basis is None:
            raise UserError(f"the face model {self.name or 'without a name'} has no albedo")
        return self.albedo_mean + jnp.tensordot(coefficients, self.albedo_basis, 1, precision=_HIGHEST)

    def landmarks(self, vertices: Float[Array, "v 3"]) -> Float[Array, "68 3"]:
        """The 68 landmarks of the iBUG order on given vertices, in their unit."""
        corners = vertices[self.landmark_vertices]
        return jnp.einsum("lc,lcd->ld", self.landmark_weights, corners, precision=_HIGHEST)

    def posed(
        self, identity: Float[Array, " i"], expression: Float[Array, " e"], rotations: Float[Array, "j 3"]
    ) -> Float[Array, "v 3"]:
        """Vertices in centimetres under rotations of the joints: linear blend skinning with pose correctives.

        Joints are placed by the identity alone, as Li et al., "Learning a model of facial shape and expression from
        4D scans" (2017), define them.

        Args:
            identity: coefficients.
            expression: coefficients.
            rotations: axis times angle in radians of each joint against its parent.

        Raises:
            UserError: the model has no skeleton.
        """
        if self.skeleton is None:
            raise UserError(f"the face model {self.name or 'without a name'} has no joints to pose")
        skeleton = self.skeleton
        neutral = self.shape(identity, jnp.zeros_like(expression))
        joints = jnp.matmul(skeleton.joint_regressor, neutral, precision=_HIGHEST)
        turns = rotation_matrices(rotations)
        correctives = (turns[1:] - jnp.eye(3)[None]).reshape(-1)
        vertices = self.shape(identity, expression)
        vertices = vertices + jnp.tensordot(correctives, skeleton.pose_basis, 1, precision=_HIGHEST)
        turned, moved = _chain(turns, joints, skeleton.parents)
        turn = jnp.einsum("vj,jab->vab", skeleton.skinning, turned, precision=_HIGHEST)
        move = jnp.matmul(skeleton.skinning, moved, precision=_HIGHEST)
        return jnp.einsum("vab,vb->va", turn, vertices, precision=_HIGHEST) + move


def _chain(
    turns: Float[Array, "j 3 3"], joints: Float[Array, "j 3"], parents: tuple[int, ...]
) -> tuple[Float[Array, "j 3 3"], Float[Array, "j 3"]]:
    """What each joint does to the points that hang on it: x becomes turned[j] @ x + moved[j]."""
    turned: list[Any] = []
    places: list[Any] = []
    for joint, parent in enumerate(parents):
        if parent < 0:
            turned.append(turns[joint])
            places.append(joints[joint])
        else:
            bone = joints[joint] - joints[parent]
            turned.append(jnp.matmul(turned[parent], turns[joint], precision=_HIGHEST))
            places.append(places[parent] + jnp.matmul(turned[parent], bone, precision=_HIGHEST))
    rotation = jnp.stack(turned)
    return rotation, jnp.stack(places) - jnp.einsum("jab,jb->ja", rotation, joints, precision=_HIGHEST)


_ARRAYS = {
    "mean": (np.float32, "v 3"),
    "identity_basis": (np.float32, "i v 3"),
    "expression_basis": (np.float32, "e v 3"),
    "faces": (np.int32, "f 3"),
    "landmark_vertices": (np.int32, "68 3"),
    "landmark_weights": (np.float32, "68 3"),
    "albedo_mean": (np.float32, "v 3"),
    "albedo_basis": (np.float32, "a v 3"),
    "uv": (np.float32, "v 2"),
}
_OPTIONAL = ("albedo_mean", "albedo_basis", "uv")
_SKELETON = {
    "joint_regressor": (np.float32, "j v"),
    "skinning": (np.float32, "v j"),
    "pose_basis": (np.float32, "p v 3"),
}
_TEXTS = ("name", "licence", "expression_names", "parents")


def save_face_model(model: FaceModel, path: str | Path) -> None:
    """Writes a model as ``.npz``; the file is there whole or not at all.

    Raises:
        UserError: the model is not consistent, or the name does not end in ``.npz``.
    """
    check_face_model(model)
    arrays = {name: np.asarray(value) for name in _ARRAYS if (value := getattr(model, name)) is not None}
    arrays |= {f"region.{name}": np.asarray(value) for name, value in model.regions.items()}
    header: dict[str, Any] = {"format": FORMAT, "name": model.name, "licence": model.licence}
    header |= {"expression_names": list(model.expression_names), "parents": None}
    if model.skeleton is not None:
        arrays |= {f"skeleton.{name}": np.asarray(getattr(model.skeleton, name)) for name in _SKELETON}
        header["parents"] = list(model.skeleton.parents)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_arrays(Path(path), arrays)


def load_face_model(path: str | Path) -> FaceModel:
    """Reads what `save_face_model` wrote; nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, no face model of ours, or not consistent.
    """
    path = Path(path)
    arrays = read_arrays(path)
    header = _header(path, arrays.pop("header", None))
    regions = {n.removeprefix("region."): arrays.pop(n) for n in list(arrays) if n.startswith("region.")}
    bones = {n.removeprefix("skeleton."): arrays.pop(n) for n in list(arrays) if n.startswith("skeleton.")}
    missing = [n for n in _ARRAYS if n not in arrays and n not in _OPTIONAL]
    missing += [f"skeleton.{n}" for n in _SKELETON if header["parents"] is not None and n not in bones]
    unknown = [n for n in arrays if n not in _ARRAYS] + [n for n in bones if n not in _SKELETON]
    if missing or unknown or (bones and header["parents"] is None):
        what = f"{missing[0]} is missing" if missing else f"{(unknown or ['skeleton'])[0]!r:.80} does not belong there"
        raise UserError(f"{path} is no face model that this version reads: {what}")
    skeleton = Skeleton(**bones, parents=tuple(header["parents"] or ())) if bones else None
    model = FaceModel(
        **arrays,
        regions=regions,
        skeleton=skeleton,
        name=header["name"],
        licence=header["licence"],
        expression_names=tuple(header["expression_names"]),
    )
    try:
        check_face_model(model)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return jax.tree.map(jnp.asarray, model)


def _header(path: Path, content: np.ndarray | None) -> dict[str, Any]:
    """The texts of a file, every one of the type that it should have."""
    if content is None or content.dtype != np.uint8 or content.ndim != 1:
        raise UserError(f"{path} is no face model; `reenax import` makes one")
    try:
        header = json.loads(content.tobytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path} is a damaged face model: its header cannot be read") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise UserError(f"{path} is no face model that this version reads: {found!r:.80} instead of {FORMAT!r}")
    names, parents = header.get("expression_names"), header.get("parents")
    good = isinstance(header.get("name"), str) and isinstance(header.get("licence"), str)
    good = good and isinstance(names, list) and all(isinstance(name, str) for name in names)
    good = good and (parents is None or (isinstance(parents, list) and all(type(p) is int for p in parents)))
    if not good:
        raise UserError(f"{path} is a damaged face model: its header lacks one of {', '.join(_TEXTS)}")
    return header


def check_face_model(model: FaceModel) -> None:
    """Dtypes, shapes that fit each other, finite numbers, indexes in range, weights that sum to 1.

    Raises:
        UserError: naming the first array that is wrong, and how.
    """
    sizes = {"68": LANDMARKS, "3": 3, "2": 2}
    for name, (dtype, form) in _ARRAYS.items():
        value = getattr(model, name)
        if value is None and name in _OPTIONAL:
            continue
        _check_array(name, value, dtype, form, sizes)
    if (model.albedo_mean is None) != (model.albedo_basis is None):
        raise UserError("of albedo_mean and albedo_basis the face model has only one")
    for name in ("faces", "landmark_vertices"):
        _check_indexes(name, getattr(model, name), sizes["v"])
    _check_weights("landmark_weights", model.landmark_weights)
    for name, mask in model.regions.items():
        _check_array(f"region {name}", mask, np.bool_, "v", sizes)
    if model.expression_names and len(model.expression_names) != sizes["e"]:
        raise UserError(f"the face model names {len(model.expression_names)} expressions and has {sizes['e']}")
    if model.skeleton is not None:
        _check_skeleton(model.skeleton, sizes)


def _check_skeleton(skeleton: Skeleton, sizes: dict[str, int]) -> None:
    joints = len(skeleton.parents)
    sizes = {**sizes, "j": joints, "p": max(joints - 1, 0) * 9}
    if not joints or skeleton.parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(skeleton.parents[1:], 1)):
        raise UserError("the parents of the joints are no tree that begins with its root")
    for name, (dtype, form) in _SKELETON.items():
        _check_array(name, getattr(skeleton, name), dtype, form, sizes)
    _check_weights("skinning", skeleton.skinning)


def _check_array(name: str, value: Any, dtype: Any, form: str, sizes: dict[str, int]) -> None:
    """One array against its dtype and shape; letters met for the first time get their size."""
    if value is None:
        raise UserError(f"the face model lacks {name}")
    shape = np.shape(value)
    letters = form.split()
    fits = len(shape) == len(letters) and all(sizes.setdefault(x, n) == n for x, n in zip(letters, shape, strict=True))
    if not fits or value.dtype != dtype:
        wanted = " ".join(str(sizes.get(x, x)) for x in letters)
        got = f"{value.dtype} [{' '.join(map(str, shape))}]"
        raise UserError(f"{name} is {got} instead of {np.dtype(dtype)} [{wanted}]")
    if name in ("mean", "faces") and not shape[0]:
        raise UserError(f"{name} is empty")
    if dtype == np.float32 and not np.isfinite(np.asarray(value)).all():
        raise UserError(f"{name} holds numbers that are not finite")


def _check_indexes(name: str, value: Any, count: int) -> None:
    low, high = int(np.min(value)), int(np.max(value))
    if low < 0 or high >= count:
        raise UserError(f"{name} points to vertex {low if low < 0 else high} of {count}")


def _check_weights(name: str, value: Any) -> None:
    error = float(np.abs(np.asarray(value).sum(1) - 1).max())
    if error > 1e-3:
        raise UserError(f"{name} has rows that do not sum to 1 (off by {error:.3g})")
