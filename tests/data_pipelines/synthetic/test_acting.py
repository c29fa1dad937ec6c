"""What is acted: the intensities that were meant, all units over their whole range, the same for everybody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.synthetic import acting
from data_pipelines.synthetic.people import person
from reenax.geometry.head.action_units import ACTION_UNITS, action_units
from reenax.geometry.head.names import EXPRESSIONS


def meant(units: dict[str, float]) -> list[float]:
    return [units.get(name, 0.0) for name in ACTION_UNITS]


@pytest.mark.parametrize("emotion", acting.EMOTIONS, ids=lambda emotion: emotion.name)
def test_emotions_have_the_intensities_of_their_prototypes(emotion: acting.Emotion) -> None:
    weights = acting.expression_of(emotion.units, emotion.side)
    np.testing.assert_allclose(action_units(weights), meant(dict(emotion.units)), atol=1e-5)
    left, right = (
        np.array([weights[k] for k, name in enumerate(EXPRESSIONS) if name.endswith(side)])
        for side in ("Left", "Right")
    )
    if emotion.side:
        assert not left.any()
        assert right.any()
    else:
        np.testing.assert_array_equal(left, right)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(ACTION_UNITS), st.floats(0, 5)),
    st.floats(0, 1),
)
def test_any_intensities_that_a_mouth_can_have_are_met(units: dict[str, float], place: float) -> None:
    jaw, upper = units.get("AU26", 0.0), 0.4 * units.get("AU10", 0.0)
    units["AU25"] = upper + place * (min(jaw + upper + 4, 5.0) - upper)  # from lips that touch over the jaw
    np.testing.assert_allclose(action_units(acting.expression_of(units)), meant(units), atol=1e-4)


@pytest.mark.parametrize(
    ("units", "side"),
    [({"AU25": 5.0}, ""), ({"AU10": 5.0, "AU25": 1.0}, ""), ({"AU12": 3.0}, "Left"), ({"AU01": 6.0}, "")],
)
def test_what_no_face_can_show_is_refused(units: dict[str, float], side: str) -> None:
    with pytest.raises(ValueError, match="no face shows"):
        acting.expression_of(units, side)


def test_series_begin_alike_and_use_every_unit_over_its_range() -> None:
    long = acting.acted_expressions(0, 1000)
    assert long.shape == (1000, 52)
    assert long.dtype == np.float32
    for count in (2, 8, 40):
        np.testing.assert_array_equal(acting.acted_expressions(0, count), long[:count])
    assert not long[0].any()
    assert (acting.acted_expressions(1, 40)[8:] != long[8:40]).any()
    intensities = action_units(long[8:])
    for name, column in zip(ACTION_UNITS, intensities.T, strict=True):
        there = column[column > 0]
        assert len(there) > 100, name
        bins, _ = np.histogram(there, 5, (0, 5))
        assert bins.min() > 5, name
        assert column.max() <= 5
    alone = intensities[[number - 8 for number in range(9, 1000, 3)]] > 0
    assert (alone[:, ACTION_UNITS.index("AU12")].sum()) > 10
    assert (alone.sum(1) <= 2).all()  # jaw and upper lip part the lips
    assert (action_units(long[:40]) > 0).any(0).all()


def test_frames_go_through_the_views_of_every_expression() -> None:
    shown, numbers = acting.act(0, 9, 5), acting.acted_numbers(9, 5)
    assert shown.expression.shape == (45, 52)
    assert numbers.dtype == np.int32
    expressions = acting.acted_expressions(0, 9)
    for k, (expression, view, gaze) in enumerate(numbers):
        np.testing.assert_array_equal(shown.expression[k], expressions[expression])
        assert np.rad2deg(shown.rotation[k, 1]) == pytest.approx([0, 15, -15, 30, -30][view])
        assert gaze == 0
    assert (numbers[:6, 1] == [0, 1, 2, 3, 4, 0]).all()
    assert not shown.rotation[:, [0, 2]].any()
    assert not shown.translation.any()
    np.testing.assert_allclose(shown.gaze.mean(1), 0, atol=1e-7)
    assert not len(shown.audio)


def test_attributes_tell_hair_and_face() -> None:
    intensities = action_units(acting.acted_expressions(0, 8))
    happy, surprised, angry = 5, 7, 1
    hair = set()
    for index in range(12):
        rows = acting.attributes(person(0, index), intensities)
        assert rows.shape == (8, len(acting.ATTRIBUTES))
        assert rows.dtype == np.float32
        assert (rows[:, :3] == rows[:1, :3]).all()
        assert rows[0, :3].sum() <= 1
        hair.add(tuple(rows[0, :3]))
        face = {name: rows[:, k].astype(bool) for k, name in enumerate(acting.ATTRIBUTES)}
        assert not rows[0, 3:].any()
        assert face["smile"][happy]
        assert not face["smile"][surprised]
        assert face["open mouth"][surprised]
        assert face["raised brows"][surprised]
        assert face["frown"][angry]
        assert not face["closed eyes"].any()
    assert len(hair) > 2
