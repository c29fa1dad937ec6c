"""Names of expressions and parts, and the action units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reenax.geometry.head import names
from reenax.geometry.head.action_units import ACTION_UNITS, WEIGHTS, action_units
from reenax.geometry.head.names import EXPRESSIONS, PARTS

WEIGHT = st.floats(0, 1, width=32)


def expression(**weights: float) -> np.ndarray:
    values = np.zeros(len(EXPRESSIONS), np.float32)
    for name, weight in weights.items():
        values[EXPRESSIONS.index(name)] = weight
    return values


def units(**weights: float) -> dict[str, float]:
    return dict(zip(ACTION_UNITS, action_units(expression(**weights)).tolist(), strict=True))


def test_there_are_52_expressions_and_every_side_has_its_other():
    assert len(EXPRESSIONS) == len(set(EXPRESSIONS)) == 52
    # jawLeft and mouthLeft are directions, whose other side exists as well
    for name in EXPRESSIONS:
        if name.endswith("Left"):
            assert name.removesuffix("Left") + "Right" in EXPRESSIONS
    assert EXPRESSIONS[0] == "eyeBlinkLeft"
    assert EXPRESSIONS.index("jawOpen") == 17
    assert EXPRESSIONS[-1] == "tongueOut"


def test_part_numbers_are_places_in_the_list():
    for number, name in enumerate(PARTS):
        assert getattr(names, name.upper()) == number
    assert {PARTS[number] for number in names.TWO_SIDED} == {"mouth", "eye_bag", "teeth"}


def test_units_are_those_of_openface():
    numbers = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
    assert [f"AU{number:02d}" for number in numbers] == list(ACTION_UNITS)
    assert WEIGHTS.shape == (17, 52)
    assert WEIGHTS.dtype == np.float32


@pytest.mark.parametrize(
    ("unit", "name"),
    [("AU01", "browInnerUp"), ("AU17", "mouthShrugLower")],
)
def test_a_single_shape_gives_its_unit_and_no_other(unit, name):
    assert units(**{name: 0.6}) == pytest.approx(dict.fromkeys(ACTION_UNITS, 0.0) | {unit: 3.0})


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("AU02", "browOuterUp"),
        ("AU04", "browDown"),
        ("AU05", "eyeWide"),
        ("AU06", "cheekSquint"),
        ("AU07", "eyeSquint"),
        ("AU09", "noseSneer"),
        ("AU12", "mouthSmile"),
        ("AU14", "mouthDimple"),
        ("AU15", "mouthFrown"),
        ("AU20", "mouthStretch"),
        ("AU23", "mouthPress"),
        ("AU45", "eyeBlink"),
    ],
)
def test_sides_are_averaged(unit, name):
    nothing = dict.fromkeys(ACTION_UNITS, 0.0)
    assert units(**{name + "Left": 1.0}) == pytest.approx(nothing | {unit: 2.5})
    assert units(**{name + "Right": 1.0, name + "Left": 1.0}) == pytest.approx(nothing | {unit: 5.0})


def test_an_open_jaw_parts_the_lips_until_they_are_closed_over_it():
    opened = units(jawOpen=0.3)
    assert opened["AU26"] == pytest.approx(2.5)
    assert opened["AU25"] == pytest.approx(2.5)
    closed = units(jawOpen=0.3, mouthClose=0.3)
    assert closed["AU26"] == pytest.approx(2.5)
    assert closed["AU25"] == pytest.approx(0)
    assert units(jawOpen=0.6)["AU26"] == units(jawOpen=1.0)["AU26"] == pytest.approx(5)


@given(arrays.arrays(np.float32, (3, 52), elements=WEIGHT))
@settings(max_examples=30, deadline=None)
def test_intensities_stay_in_range_and_samples_are_independent(weights):
    intensity = action_units(weights)
    assert intensity.shape == (3, 17)
    assert intensity.min() >= 0
    assert intensity.max() <= 5
    np.testing.assert_allclose(intensity[1], action_units(weights[1]), atol=1e-5)
    swapped = [EXPRESSIONS.index(mirrored(name)) for name in EXPRESSIONS]
    np.testing.assert_allclose(action_units(weights[:, swapped]), intensity, atol=1e-5)


def mirrored(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def test_arrays_of_jax_stay_arrays_of_jax():
    weights = expression(jawOpen=0.2, mouthSmileLeft=0.7)
    intensity = jax.jit(action_units)(jnp.asarray(weights)[None, None])
    assert isinstance(intensity, jax.Array)
    assert intensity.shape == (1, 1, 17)
    np.testing.assert_allclose(np.asarray(intensity)[0, 0], action_units(weights), atol=1e-6)
