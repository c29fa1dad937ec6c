"""Weights of ARKit find their way to models that bear its names."""

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.expression_spaces import from_arkit
from reenax.geometry.head.names import EXPRESSIONS


def test_the_same_names_keep_their_weights():
    np.testing.assert_array_equal(from_arkit(EXPRESSIONS), np.eye(52))


def test_order_and_sides():
    names = ("jawOpen", "browInnerUpLeft", "browInnerUpRight", "mouthLeft", "eyeBlinkRight")
    weights = np.random.default_rng(0).random((7, 52)).astype(np.float32)
    found = weights @ from_arkit(names)
    for column, name in enumerate(("jawOpen", "browInnerUp", "browInnerUp", "mouthLeft", "eyeBlinkRight")):
        np.testing.assert_array_equal(found[:, column], weights[:, EXPRESSIONS.index(name)])


def test_other_names_are_refused():
    with pytest.raises(UserError, match="'smirk' is no expression of ARKit"):
        from_arkit(("jawOpen", "smirk"))
