"""The synthetic head as arrays for JAX: a `FaceModel` and what posing and painting need beyond it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import PyTree

from reenax.geometry.face_model import FaceModel
from reenax.geometry.head.expressions import expression_fields, lid_weights
from reenax.geometry.head.identity import identity_fields
from reenax.geometry.head.landmarks import landmark_corners
from reenax.geometry.head.names import EAR, EXPRESSIONS, EYE_BAG, EYEBALL, MOUTH, TEETH, TONGUE, TWO_SIDED
from reenax.geometry.head.surface import Detail
from reenax.geometry.head.template import Template, build_template, eye_centre

NAME = "synthetic head"
LICENCE = "made of formulas, free to use under the licence of this library"


class SyntheticHead(struct.PyTreeNode):
    """The head's arrays: v vertices, f faces, i identities.

    Attributes:
        model: mean shape with hair, 80 identity and 52 expression fields, landmarks, texture coordinates, regions.
        canonical: float32 [v 3], centimetres on the head without hair; never deformed, where the texture is read.
        local: float32 [v 3], coordinates of each part's own (see `template` and `parts`), never deformed.
        part: int32 [f], number in `names.PARTS`.
        head_weight: float32 [v], 1 moves with the head, 0 stays with the torso.
        jaw_weight: float32 [v], 1 moves with the jaw.
        eye: int32 [v], 0 no eyeball, 1 the left one (x > 0), 2 the right one.
        eye_centre: float32 [2 3], centimetres, of the mean head, left first.
        eye_identity: float32 [i 2 3], how far the centres move per identity coefficient.
        two_sided: bool [f], faces that are seen from behind, too.
    """

    model: FaceModel
    canonical: PyTree  # a tree of the same form may hold shapes or shardings, hence no array types
    local: PyTree
    part: PyTree
    head_weight: PyTree
    jaw_weight: PyTree
    eye: PyTree
    eye_centre: PyTree
    eye_identity: PyTree
    two_sided: PyTree


def _regions(template: Template, lids: np.ndarray) -> dict[str, np.ndarray]:
    """Sets of vertices. "face" is skin without hair in front, down to the chin, with all that its openings show."""
    part = template.vertex_part
    hair, theta, v = template.local.T
    x, y, _ = template.canonical.T
    skin = template.on_skin & (hair < 0.5)
    inside = np.isin(part, [MOUTH, EYE_BAG, EYEBALL, TEETH, TONGUE])
    front = skin & (np.abs(np.rad2deg(theta)) <= 72) & (v <= 12)
    lips = front & (np.abs(x) <= 3.0) & (y < -5.9) & (y > -8.4)
    return {
        "face": front | inside,
        "skin": skin | (part == EAR),
        "hair": template.on_skin & (hair >= 0.5),
        "eyes": (lids.max(axis=0) > 0) | np.isin(part, [EYEBALL, EYE_BAG]),
        "mouth": lips | np.isin(part, [MOUTH, TEETH, TONGUE]),
    }


def _model(template: Template, identity: np.ndarray, lids: np.ndarray) -> FaceModel:
    corners, weights = landmark_corners(template)
    return FaceModel(
        mean=template.vertices.astype(np.float32),
        identity_basis=identity,
        expression_basis=expression_fields(template),
        faces=template.faces.astype(np.int32),
        landmark_vertices=corners,
        landmark_weights=weights,
        uv=template.uv.astype(np.float32),
        regions=_regions(template, lids),
        name=NAME,
        licence=LICENCE,
        expression_names=EXPRESSIONS,
    )


@functools.cache
def synthetic_head(detail: Detail = "full") -> SyntheticHead:
    """The head, made once per process; "half" has about half the rows and columns, for quick tests."""
    template = build_template(detail)
    identity, lids = identity_fields(template), lid_weights(template)
    eye = np.zeros(len(template.vertices), np.int32)
    for number, (first, end) in enumerate(template.eyes, 1):
        eye[first:end] = number
    head: Any = SyntheticHead(
        model=_model(template, identity, lids),
        canonical=template.canonical.astype(np.float32),
        local=template.local.astype(np.float32),
        part=template.face_part.astype(np.int32),
        head_weight=template.head.astype(np.float32),
        jaw_weight=template.jaw.astype(np.float32),
        eye=eye,
        eye_centre=np.stack([eye_centre(1), eye_centre(-1)]).astype(np.float32),
        eye_identity=np.stack([identity[:, first] for first, _ in template.eyes], axis=1),
        two_sided=np.isin(template.face_part, TWO_SIDED),
    )
    with jax.ensure_compile_time_eval():  # the first call may come from inside a traced function
        return jax.tree.map(jnp.asarray, head)
