"""Frames of the synthetic head, rendered once for all tests of its pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.geometry.camera import Camera
from reenax.geometry.head.head import synthetic_head
from reenax.geometry.head.names import EXPRESSIONS
from reenax.geometry.head.parameters import neutral_parameters
from reenax.geometry.head.render import render

SIZE = 64
QUICKLY = {"xla_backend_optimization_level": 0}  # to compile, for programs that run once or twice
# the first frames of the batch, before the random ones
NEUTRAL, PLAIN_LIGHT, FROM_BEHIND, LEFT_PROFILE, MOVED = range(5)
SHUT, WIDE = (5, 6, 7), (8, 9, 10)  # three people with closed eyes, the same with open ones
FIRST_RANDOM, FRAMES = 11, 18


def weights(**given):
    """Expression weights by name; "eyeBlink" means both sides."""
    vector = np.zeros(len(EXPRESSIONS), np.float32)
    for name, weight in given.items():
        for full in (name, name + "Left", name + "Right"):
            if full in EXPRESSIONS:
                vector[EXPRESSIONS.index(full)] = weight
    return jnp.asarray(vector)


def any_frame(seed, extreme=1.0):
    """A person, a pose and an expression drawn over the ranges that the head is made for."""
    rng = np.random.default_rng(seed)

    def draw(low, high, *shape):
        return jnp.asarray(rng.uniform(low, high, shape), jnp.float32)

    chosen = rng.random(len(EXPRESSIONS)) < 0.3
    return neutral_parameters().replace(
        identity=jnp.asarray(rng.normal(size=80), jnp.float32),
        expression=draw(0, 1, len(EXPRESSIONS)) * chosen,
        rotation=draw(-1, 1, 3) * jnp.asarray([0.4, 0.9, 0.4]) * extreme,
        translation=draw(-3, 3, 3) * extreme,
        gaze=draw(-0.5, 0.5, 2, 2),
    )


def stacked(frames):
    """Frames as one batch."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *frames)


@pytest.fixture(scope="session")
def half():
    return synthetic_head("half")


@pytest.fixture(scope="session")
def frames():
    """Frames with something to know about each of the first, then random ones."""
    neutral = neutral_parameters()
    plain = neutral.replace(  # shows every albedo as it is
        light=jnp.zeros((9, 3)).at[0].set(1 / 0.886227), key_light=jnp.asarray([0.0, 0.0, -1.0])
    )
    behind = neutral.replace(rotation=jnp.asarray([0.0, np.pi, 0.0]))
    profile = neutral.replace(rotation=jnp.asarray([0.0, 0.8, 0.0]))
    moved = neutral.replace(translation=jnp.asarray([2.0, 1.0, 0.0]))
    people = [neutral, any_frame(20), any_frame(21)]
    shut = [frame.replace(expression=weights(eyeBlink=1.0)) for frame in people]
    wide = [frame.replace(expression=weights(eyeWide=1.0)) for frame in people]
    drawn = [any_frame(seed) for seed in range(FRAMES - FIRST_RANDOM)]
    return [neutral, plain, behind, profile, moved, *shut, *wide, *drawn]


@pytest.fixture(scope="session")
def shots(half, frames):
    """What `render` makes of the frames, as numpy arrays with a leading axis."""
    each = jax.vmap(lambda head, frame: render(head, frame, Camera(), size=SIZE), in_axes=(None, 0))
    batch = jax.jit(each, compiler_options=QUICKLY)
    return jax.tree.map(np.asarray, batch(half, stacked(frames)))
