"""Lip sync scores of embeddings that are in step or not, and the windows of a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.metrics.sync import SyncNet, embed, frozen_syncnet, lse
from reenax.metrics.weights import draw

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("early", [0, 4, -7])
def test_offset_is_by_how_much_the_sound_is_early(early):
    lips = RNG.normal(size=(60, 8)).astype(np.float32)
    sound = np.roll(lips, -early, axis=0)
    score = lse(jnp.asarray(lips), jnp.asarray(sound))
    assert int(score.offset) == early
    assert score.distances.shape == (31,)
    assert float(score.distance) == float(score.distances.min())
    assert float(score.confidence) > 1


def test_distances_by_hand():
    lips, sound = np.array([[0.0], [3.0], [5.0]]), np.array([[1.0], [3.0], [9.0]])
    score = lse(jnp.asarray(lips, jnp.float32), jnp.asarray(sound, jnp.float32), max_shift=1)
    # against (0, 1, 3), (1, 3, 9) and (3, 9, 0)
    np.testing.assert_allclose(score.distances, [4 / 3, 5 / 3, 14 / 3], rtol=1e-5)
    np.testing.assert_allclose([score.distance, score.confidence, score.offset], [4 / 3, 1 / 3, 1], rtol=1e-4)


@pytest.fixture(scope="module")
def variables():
    return draw(frozen_syncnet())


def test_windows_of_a_clip(variables):
    frames = jnp.asarray(RNG.uniform(-1, 1, (8, 224, 224, 3)), jnp.float32)
    mfcc = jnp.asarray(RNG.normal(size=(31, 13)), jnp.float32)
    lips, sound = embed(variables, frames, mfcc, batch_size=2)
    # four windows of frames, but three of sound
    assert lips.shape == sound.shape == (3, 1024)
    seen, heard = jax.jit(SyncNet().apply)(variables, frames[2:7][None], mfcc[8:28].T[None])
    np.testing.assert_allclose(lips[2], seen[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(sound[2], heard[0], rtol=1e-3, atol=1e-3)
    assert float(jnp.abs(lips[0] - lips[2]).max()) > 0.01


def test_clips_that_are_too_short(variables):
    with pytest.raises(UserError, match="5 frames and 20 columns of MFCC at least, got 4 and 100"):
        embed(variables, jnp.zeros((4, 224, 224, 3)), jnp.zeros((100, 13)))
    with pytest.raises(UserError, match="got 25 and 19"):
        embed(variables, jnp.zeros((25, 224, 224, 3)), jnp.zeros((19, 13)))
