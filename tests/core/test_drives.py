from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.drives import expect, kind_of, length_of, part_of
from reenax.core.errors import UserError
from reenax.core.reenact import parts
from reenax.core.types import ActionUnitDrive, AudioDrive, PoseDrive, VideoDrive


def test_a_driver_is_cut_into_parts_of_one_size():
    units = ActionUnitDrive(jnp.arange(5 * 17.0).reshape(5, 17), jnp.linspace(0, 1, 5))
    cut: list[Any] = list(parts(units, 3))
    assert [count for _, count in cut] == [3, 2]
    assert all(part.intensities.shape == (3, 17) and part.amount.shape == (3,) for part, _ in cut)
    np.testing.assert_array_equal(cut[1][0].intensities, units.intensities[jnp.array([3, 4, 4])])
    np.testing.assert_allclose(cut[1][0].amount, [0.75, 1, 1])


def test_speech_keeps_its_sound_while_its_times_are_cut():
    sound = AudioDrive(jnp.zeros(160), jnp.arange(4.0))
    part = part_of(sound, 1, 3)
    assert part.waveform.shape == (160,)
    np.testing.assert_array_equal(part.times, [1, 2])
    assert length_of(sound) == 4


def test_what_is_absent_stays_absent():
    video = VideoDrive(jnp.zeros((3, 4, 4, 3)))
    assert part_of(video, 0, 2, 4).landmarks is None
    assert part_of(video, 0, 2, 4).frames.shape == (4, 4, 4, 3)
    assert kind_of(video) == "video"


def test_a_driver_of_another_kind_is_refused_by_name():
    pose = PoseDrive(jnp.zeros((1, 3)))
    assert expect(pose, VideoDrive, PoseDrive, method="x2face") is pose
    with pytest.raises(UserError, match=r"ganimation is driven by video or action_units, not by pose"):
        expect(pose, VideoDrive, ActionUnitDrive, method="ganimation")
    with pytest.raises(UserError, match="not by nothing"):
        expect(None, VideoDrive, method="fomm")
