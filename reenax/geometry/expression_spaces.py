"""From one set of expressions to another: ARKit's 52 are what records and labels speak."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reenax.core.errors import UserError
from reenax.geometry.head.names import EXPRESSIONS


def from_arkit(names: Sequence[str]) -> Float[np.ndarray, "52 e"]:
    """The matrix that turns ARKit's weights into those of a model whose expressions bear its names.

    ``weights [t 52] @ from_arkit(model.expression_names)`` are coefficients [t e]. Where a model parts what ARKit
    has as one (browInnerUpLeft and browInnerUpRight for browInnerUp), both sides get the same weight.

    Raises:
        UserError: a name that ARKit does not have, with or without its side.
    """
    matrix = np.zeros((len(EXPRESSIONS), len(names)), np.float32)
    for column, name in enumerate(names):
        whole = name if name in EXPRESSIONS else name.removesuffix("Left").removesuffix("Right")
        if whole not in EXPRESSIONS:
            raise UserError(f"{name!r:.80} is no expression of ARKit")
        matrix[EXPRESSIONS.index(whole), column] = 1
    return matrix
