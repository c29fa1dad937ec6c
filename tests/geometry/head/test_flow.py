"""Optical flow: against projections, by warping, and by what is hidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.camera import Camera, pixels_to_unit
from reenax.geometry.head.flow import flow
from reenax.geometry.head.names import HEAD, TORSO
from reenax.geometry.raster import pixel_centres
from reenax.geometry.sampling import grid_sample

from .conftest import FIRST_RANDOM, FRAMES, LEFT_PROFILE, MOVED, NEUTRAL, SIZE


@pytest.fixture(scope="module")
def between(half, frames):
    """Flow between two of the frames by their numbers, as numpy arrays."""
    return lambda a, b: jax.tree.map(np.asarray, flow(half, frames[a], frames[b], Camera(), size=SIZE))


def warped(field, displacement):
    """A field of the second frame, brought back to the first."""
    places = pixel_centres(SIZE) + jnp.asarray(displacement)
    grid = pixels_to_unit(places, SIZE)
    return np.asarray(grid_sample(jnp.asarray(field)[None], grid[None], padding="border"))[0]


def test_nothing_moves_to_the_same_frame(between, shots):
    still = between(NEUTRAL, NEUTRAL)
    assert np.abs(still.displacement).max() < 1e-3
    np.testing.assert_array_equal(still.mask, shots.mask[NEUTRAL])
    np.testing.assert_array_equal(still.visible, still.mask)
    assert not still.overflow


def test_a_translation_moves_pixels_by_their_depth(between, shots):
    moved = between(NEUTRAL, MOVED)
    rigid = (shots.part[NEUTRAL] == HEAD) & (shots.canonical[NEUTRAL][..., 1] > -9)
    focal = SIZE / 2 * 75 / 15.5
    expected = focal * np.array([2.0, -1.0]) / shots.depth[NEUTRAL][rigid][:, None]
    np.testing.assert_allclose(moved.displacement[rigid], expected, atol=1e-3)
    assert rigid.sum() > 300
    torso = shots.part[NEUTRAL] == TORSO
    assert np.abs(moved.displacement[torso]).max() < 1e-3
    assert (moved.displacement[~moved.mask] == 0).all()


@pytest.mark.parametrize("first", range(FIRST_RANDOM, FRAMES - 1))
def test_warping_by_it_brings_the_first_frame_back(between, shots, first):
    """Every place of the skin that is visible is found again, whoever the two people are."""
    second = first + 1
    found = between(first, second)
    canonical = warped(shots.canonical[second], found.displacement)
    apart = np.linalg.norm(canonical - shots.canonical[first], axis=-1)
    whole = warped(shots.mask[second][..., None].astype(np.float32), found.displacement)[..., 0] > 0.999
    assert np.median(apart[found.visible]) < 0.05  # centimetres; a pixel covers 0.5
    assert np.quantile(apart[found.visible & whole], 0.9) < 0.5
    assert 0.3 < found.visible.sum() / found.mask.sum() < 1
    assert not (found.visible & ~found.mask).any()


def test_colours_come_back_too(between, shots):
    found = between(NEUTRAL, MOVED)
    unlit = warped(shots.unlit[MOVED], found.displacement)
    off = np.abs(unlit - shots.unlit[NEUTRAL])[found.visible]
    assert np.median(off) < 0.01
    assert off.mean() < 0.06  # of a range of 2


def test_what_turns_away_is_not_visible(between, shots):
    turned = between(NEUTRAL, LEFT_PROFILE)
    canonical = shots.canonical[NEUTRAL]
    face = (shots.part[NEUTRAL] == HEAD) & (canonical[..., 1] > -6)
    far, near = face & (canonical[..., 0] > 6), face & (canonical[..., 0] < -6)
    assert turned.visible[far].mean() < 0.2
    assert turned.visible[near].mean() > 0.8
    # and where it says hidden, the second frame shows something else
    there = np.floor(np.asarray(pixel_centres(SIZE)) + turned.displacement).astype(int)
    inside = ((there >= 0) & (there < SIZE)).all(axis=-1)
    x, y = np.moveaxis(np.clip(there, 0, SIZE - 1), -1, 0)
    apart = np.linalg.norm(shots.canonical[LEFT_PROFILE][y, x] - canonical, axis=-1)
    hidden = turned.mask & ~turned.visible & inside
    assert np.median(apart[hidden]) > 1.0
    assert np.median(apart[turned.visible]) < 0.4


def test_there_and_back_is_nowhere(between):
    there, back = between(NEUTRAL, LEFT_PROFILE), between(LEFT_PROFILE, NEUTRAL)
    again = there.displacement + warped(back.displacement, there.displacement)
    off = np.linalg.norm(again, axis=-1)[there.visible]
    assert np.median(off) < 0.02  # pixels
    assert np.quantile(off, 0.8) < 0.5
