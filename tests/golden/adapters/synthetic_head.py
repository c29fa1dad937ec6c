"""The synthetic head: its mean, 52 expressions and 16 named identity directions, landmarks and eyes."""

import numpy as np

from reenax.geometry.head.head import synthetic_head
from reenax.geometry.head.identity import SEMANTIC
from reenax.geometry.head.names import EXPRESSIONS

from ..golden import Golden

Arrays = dict[str, np.ndarray]


def compute(g: Golden, case: str) -> Arrays:
    """The full head. Displacements are stored in half precision, expressions by name."""
    head = synthetic_head("full")
    names = [EXPRESSIONS.index(name) for name in g.case(case)["blendshape_names"].tolist()]
    eyes = [np.flatnonzero(np.asarray(head.eye) == number) for number in (1, 2)]
    left, right = (np.array([eye[0], eye[-1] + 1]) for eye in eyes)
    return {
        "vertices": np.asarray(head.model.mean),
        "canonical": np.asarray(head.canonical),
        "local": np.asarray(head.local),
        "faces": np.asarray(head.model.faces),
        "part": np.asarray(head.part),
        "jaw_weight": np.asarray(head.jaw_weight),
        "head_weight": np.asarray(head.head_weight),
        "landmarks68": np.asarray(head.model.landmark_vertices)[:, 0],
        "blendshapes": np.asarray(head.model.expression_basis)[names].astype(np.float16),
        "identity_semantic": np.asarray(head.model.identity_basis)[: len(SEMANTIC)].astype(np.float16),
        "eye_left_range": left,
        "eye_right_range": right,
    }
