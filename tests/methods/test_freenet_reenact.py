"""FReeNet's modes: what is drawn, whose neutral face it is put on, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.core.types import Source, VideoDrive
from reenax.methods.freenet import FReeNet
from reenax.methods.freenet.landmark_map import placement, to_pixels
from reenax.methods.freenet.networks import LandmarkConverter
from reenax.methods.freenet.reenact import Animator, Prepared, reenactor
from tests.methods.contracts import drawn
from tests.methods.test_freenet import SMALL, method_of

UNIT = SMALL["unit"]


@pytest.fixture(scope="module")
def method() -> FReeNet:
    return method_of()


@pytest.fixture(scope="module")
def variables(method: FReeNet) -> Any:
    return drawn(jax.eval_shape(method.init, jax.random.key(0), {}))


def landmarks(seed: int, count: int = 1) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), (count, 68, 2), minval=-0.7, maxval=0.7)


def animator(method: FReeNet, mode: str, crop: str = "frame") -> Animator:
    game = method.game
    return Animator(game.converter, game.generator, game.unit, game.canvas, mode, "source", crop)


def prepared(own: jax.Array, neutral: jax.Array, crop: str = "frame") -> Prepared:
    """A source without its features."""
    square = None if crop == "frame" else placement(neutral)
    inside = neutral if square is None else square.enter(neutral)
    return Prepared(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 2, 2, 1)), own, inside, square)


def converted(variables: Any, driving: jax.Array, neutral: jax.Array) -> jax.Array:
    made: Any = LandmarkConverter(method_of().converter).apply(
        variables["converter"], driving / UNIT, jnp.broadcast_to(neutral, driving.shape) / UNIT
    )
    return made.landmarks * UNIT


def test_relative_motion_begins_with_the_source(method: FReeNet, variables: Any) -> None:
    """At the anchor the source's own landmarks are drawn, whatever the converter does; then the change is added."""
    own, neutral, driving = to_pixels(landmarks(0)), to_pixels(landmarks(1)), to_pixels(landmarks(2, 3))
    start = driving[:1]
    found = animator(method, "relative").landmarks(variables, prepared(own, neutral), start, driving)
    np.testing.assert_allclose(found[0], own[0], atol=1e-3)
    change = converted(variables, driving, neutral) - converted(variables, start, neutral)
    np.testing.assert_allclose(found, own + change, atol=1e-3)
    absolute = animator(method, "absolute").landmarks(variables, prepared(own, neutral), None, driving)
    np.testing.assert_allclose(absolute, converted(variables, driving, neutral), atol=1e-3)
    direct = animator(method, "direct").landmarks(variables, prepared(own, neutral), None, driving)
    np.testing.assert_array_equal(direct, driving)


def test_a_face_in_its_own_crop_may_be_anywhere(method: FReeNet, variables: Any) -> None:
    """With crop "face" the place and size of the driver do not matter, and the source keeps its own."""
    own, driving = to_pixels(landmarks(0)), to_pixels(landmarks(2, 2))
    ready, network = prepared(own, own, "face"), animator(method, "absolute", "face")
    found = network.landmarks(variables, ready, None, driving)
    elsewhere = network.landmarks(variables, ready, None, 0.5 * driving + 70)
    np.testing.assert_allclose(found, elsewhere, atol=1e-2)
    larger = network.landmarks(variables, prepared(2 * own - 9, 2 * own - 9, "face"), None, driving)
    np.testing.assert_allclose(larger, 2 * found - 9, atol=2e-2)


def test_the_last_picture_may_be_the_neutral_one(method: FReeNet, variables: Any) -> None:
    """Its landmarks count, and its pixels do not."""
    pictures = jax.random.uniform(jax.random.key(3), (2, 32, 32, 3), minval=-1, maxval=1)
    points, drive = jnp.concatenate([landmarks(0), landmarks(1)]), VideoDrive(pictures, landmarks(2, 2))

    def made(source: Source, **options: Any) -> np.ndarray:
        return np.asarray(method.reenactor(variables, source, mode="absolute", **options)(drive))

    two = made(Source(pictures, points), neutral="last")
    swapped = made(Source(pictures[:1].repeat(2, axis=0), points), neutral="last")
    np.testing.assert_array_equal(two, swapped)
    assert np.abs(two - made(Source(pictures, points))).max() > 1e-4
    np.testing.assert_array_equal(made(Source(pictures, points)), made(Source(pictures[:1], points[:1])))


def test_a_neutral_face_is_solved_for(method: FReeNet, variables: Any) -> None:
    """With an offset that does not depend on the neutral face it is found at once, and conversions start from it."""
    params = variables["converter"]["params"]
    still = {**params, "neutral": jax.tree.map(jnp.zeros_like, params["neutral"])}
    fixed = {**variables, "converter": {**variables["converter"], "params": still}}
    own = to_pixels(landmarks(0))
    network = animator(method, "absolute")._replace(neutral="estimated")
    ready = network.prepare(fixed, jnp.zeros((1, 32, 32, 3)), own, own)
    np.testing.assert_allclose(ready.landmarks, own)
    assert float(jnp.abs(ready.neutral - own).max()) > 0.1
    np.testing.assert_allclose(network.landmarks(fixed, ready, None, own), own, atol=1e-2)


def test_what_is_missing_is_told(method: FReeNet, variables: Any) -> None:
    picture = jnp.zeros((1, 32, 32, 3))
    source, drive = Source(picture, landmarks(0)), VideoDrive(picture, landmarks(1))

    def begin(given: Source = source, **options: Any) -> Any:
        return method.reenactor(variables, given, **options)

    options: dict[str, Any] = {"mode": "absolute", "neutral": "source", "crop": "frame"}

    with pytest.raises(UserError, match="anchor"):
        begin()
    for option in options:
        with pytest.raises(UserError, match=f"{option} must be one of"):
            method.reenactor(variables, source, **{**options, option: "none"})
    with pytest.raises(UserError, match="two pictures"):
        begin(mode="absolute", neutral="last")
    with pytest.raises(UserError, match="the source has none"):
        begin(Source(picture), mode="absolute")
    with pytest.raises(UserError, match="the anchor frame has none"):
        begin(anchor=VideoDrive(picture))
    with pytest.raises(UserError, match="the driver has none"):
        begin(anchor=drive)(VideoDrive(picture))
    with pytest.raises(UserError, match="reads 106 landmarks, and the source has 68"):
        reenactor(method.game, variables, source, points=106, anchor=drive)
