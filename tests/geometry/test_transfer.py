"""Keypoints moved relative to where the driver began."""

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.geometry.transfer import movement_scale, relative_points

SQUARE = jnp.asarray([[0.0, 0.0], [0.2, 0.0], [0.2, 0.2], [0.0, 0.2]])


def test_movement_scale_is_a_ratio_of_lengths_in_the_plane() -> None:
    assert movement_scale(3 * SQUARE, SQUARE) == pytest.approx(3)
    line = jnp.asarray([[0.0, 0.0], [0.1, 0.1], [0.2, 0.2], [0.3, 0.3]])
    with pytest.raises(UserError, match="adapt_scale"):
        movement_scale(SQUARE, line)


def test_movement_scale_is_the_root_of_volumes_in_space() -> None:
    cube = jnp.concatenate([jnp.pad(SQUARE, ((0, 0), (0, 1)), constant_values=z) for z in (0.0, 0.2)])
    assert movement_scale(2 * cube, cube) == pytest.approx(8**0.5)
    with pytest.raises(UserError, match="span none"):
        movement_scale(cube, jnp.concatenate([cube[:4], cube[:4]]))  # all in one plane


def test_motion_is_added_to_the_source() -> None:
    source, anchor = SQUARE[None], 2 * SQUARE[None]
    np.testing.assert_array_equal(relative_points(source, anchor, anchor), source)
    driving = jnp.stack([2 * SQUARE, 2 * SQUARE + 0.1])
    moved = relative_points(source, driving, anchor, 0.5)
    np.testing.assert_allclose(moved[1], SQUARE + 0.05, atol=1e-7)
