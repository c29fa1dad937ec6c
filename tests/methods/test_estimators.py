"""Estimators as a method: what every method must keep, and what these networks read."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import estimators as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import create_state, train_step
from reenax.core.types import Player, Source
from reenax.methods.estimators import (
    LABELS,
    NETWORKS,
    Disturbance,
    Estimators,
    HourglassParams,
    LandmarkReader,
    blurred,
    disturbed,
    face_frame,
    marked,
    to_frame,
    upright,
)
from reenax.train.engine import NONFINITE, Engine
from reenax.train.runs import make_method
from reenax.train.sharding import make_mesh, put_batch

SIZE = 16
TRUNK = {"crop": 8, "width": 4, "num_blocks": 1, "max_features": 8, "code": 8, "hidden": 16}
SMALL: dict[str, Any] = {
    "expressions": 5,
    "identities": 7,
    "landmarks": {"width": 4, "num_blocks": 1, "max_features": 8},
    "motion": TRUNK,
    "identity": TRUNK,
}


def small_method(**changes: Any) -> Estimators:
    return dataclasses.replace(from_mapping(Estimators, SMALL), **changes)


@functools.cache
def make_batch(count: int = 8, size: int = SIZE, expressions: int = 5, identities: int = 7) -> dict[str, jax.Array]:
    """Smooth pictures, uint8, with random labels."""
    keys = jax.random.split(jax.random.key(1), 5)
    picture = jax.image.resize(jax.random.uniform(keys[0], (count, 6, 6, 3)), (count, size, size, 3), "cubic")
    return {
        "source": (255 * jnp.clip(picture, 0, 1)).astype(jnp.uint8),
        "landmarks": jax.random.uniform(keys[1], (count, 68, 2), minval=-0.7, maxval=0.7),
        "pose": jax.random.uniform(keys[2], (count, 6), minval=-0.3, maxval=0.3),
        "expression": jax.random.uniform(keys[3], (count, expressions)),
        "identity_coefficients": jax.random.normal(keys[4], (count, identities)),
    }


def small_players(method: Estimators) -> tuple[Player, ...]:
    """Adam with an epsilon that leaves gradients of rounding noise what they are."""
    return method.players(dict.fromkeys(NETWORKS, optax.adam(5e-3, eps=1e-3)))


def step_of(method: Estimators) -> Any:
    players = small_players(method)
    return jax.jit(lambda s, b, active: train_step(method, players, s, b, active, {}), static_argnums=2)


@pytest.fixture(scope="module")
def started() -> tuple[Estimators, Any, Any]:
    """The method, its fresh state and its step."""
    method = small_method()
    state = jax.jit(lambda b: create_state(method, small_players(method), 0, b))(make_batch())
    return method, state, step_of(method)


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name):
    config = configs.get_config(name)
    method: Any = make_method(config)
    size = config.data.size
    assert config.data.labels == configs.LABELS == LABELS
    assert method.fields == {"frames", *LABELS}
    batch = {"source": jnp.zeros((2, size, size, 3))}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    assert set(shapes) == set(NETWORKS) == {p.name for p in method.players({n: optax.sgd(0.1) for n in config.optim})}
    read = jax.eval_shape(method.read, shapes, batch["source"])
    assert [x.shape for x in read] == [(2, 68, 2), (2, 6), (2, 52), (2, 80)]
    assert not method.drives


@pytest.mark.parametrize("active", [("landmarks",), ("motion",), NETWORKS])  # "identity" is built as "motion" is
def test_each_player_moves_only_what_it_owns(started, active):
    _, state, step = started
    after, metrics = step(state, make_batch(), active)
    for before, now in ((state.params, after.params), (state.collections, after.collections)):
        same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), before, now)
        assert {n for n, tree in same.items() if not all(jax.tree.leaves(tree))} == set(active)
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())
    assert {f"{name}/loss" for name in active} <= set(metrics)


def test_every_owned_leaf_gets_a_gradient(started):
    """All but those of which theory says zero: biases in front of a norm, and the bias under the spatial softmax."""
    _, state, step = started
    after, _ = step(state, make_batch(), NETWORKS)
    gradients = {n: jax.tree.map(lambda m: 10 * np.asarray(m), after.opt_states[n][0].mu[n]) for n in NETWORKS}
    assert jax.tree.structure(gradients) == jax.tree.structure(jax.device_get(state.params))
    for path, gradient in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.isfinite(gradient).all(), name
        if name.endswith("conv/bias") or name == "landmarks/points/bias":
            assert np.abs(gradient).max() < 1e-3, name
        else:
            assert np.abs(gradient).max() > 0, name


def test_one_device_equals_eight(started):
    """Losses, statistics and Adam's first moments, which are the gradients; its steps would magnify rounding noise."""
    method, state, step = started
    batch = {k: np.asarray(v) for k, v in make_batch().items()}
    engine = Engine.build(method, small_players(method), make_mesh(8, 1, jax.devices()[:8]), batch, seed=0)
    spread = jax.device_put(jax.device_get(state), jax.tree.map(lambda x: x.sharding, engine.abstract))
    results = step(state, batch, NETWORKS), engine.step(spread, put_batch(batch, engine.mesh), 0)
    seen = [
        jax.device_get((terms, after.collections, [after.opt_states[n][0].mu for n in NETWORKS]))
        for after, metrics in results
        for terms in [{k: v for k, v in metrics.items() if NONFINITE not in k}]
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *seen)


def test_bfloat16_and_remat_keep_the_losses_and_a_float32_state(started):
    _, state, step = started
    _, expected = step(state, make_batch(), NETWORKS)
    after, metrics = step_of(small_method(dtype="bfloat16", remat=True))(state, make_batch(), NETWORKS)
    assert {x.dtype for x in jax.tree.leaves((after.params, after.collections))} == {jnp.dtype("float32")}
    for name in NETWORKS:
        assert float(metrics[f"{name}/loss"]) == pytest.approx(float(expected[f"{name}/loss"]), rel=0.05)


def test_overfits_one_batch(started):
    _, state, step = started
    losses = []
    for _ in range(200):
        state, metrics = step(state, make_batch(), NETWORKS)
        losses.append([float(metrics[f"{n}/loss"]) for n in NETWORKS])
    first, last = losses[0], losses[-1]
    assert last[1] < 0.1 * first[1]
    assert last[2] < 0.1 * first[2]
    assert last[0] < 0.9 * first[0]  # random points of a smooth picture: four channels cannot place them all


@pytest.mark.parametrize("border", [0, 2])
def test_a_reader_of_landmarks_says_where_a_peak_is(border):
    """Coordinates are those of the whole picture's pixels, whatever the heatmap's size is."""
    reader = LandmarkReader(HourglassParams(downs=1, border=border, width=4, num_blocks=1, max_features=8))
    picture = jnp.zeros((1, 16, 16, 3))
    shapes = jax.eval_shape(lambda key: reader.init(key, picture, train=False), jax.random.key(0))
    variables: Any = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full(x.shape, float(path[-1].key == "var")), shapes
    )
    # nothing but the coordinates' scale is left when all heatmaps are flat: the middle
    read = jax.jit(lambda v, x: reader.apply(v, x, train=False))
    np.testing.assert_allclose(read(variables, picture), 0, atol=1e-6)
    # the only bright cell of the halved picture has the pixels 12 and 13: centre 12.5 of 0..15
    params = variables["params"]
    params["down_0"]["conv"]["kernel"] = params["down_0"]["conv"]["kernel"].at[1, 1, 0, 0].set(1.0)
    params["down_0"]["norm"]["scale"] = jnp.ones(4)
    # the hourglass keeps its input behind what it makes of it
    params["points"]["kernel"] = params["points"]["kernel"].at[0, 0, -4].set(100.0)
    points = read(variables, picture.at[0, 12:14, 12:14].set(1.0))
    np.testing.assert_allclose(points, 2 * 12.5 / 15 - 1, atol=1e-5)


def test_a_face_is_cut_out_upright():
    """A face that is moved, turned and scaled is cut out the same, and its points are the same in its frame."""
    rng = np.random.default_rng(0)
    points = jnp.asarray(0.2 * rng.normal(size=(1, 68, 2)), jnp.float32)
    points = points.at[:, 36:42].add(jnp.array([-0.3, 0.0])[None, None])
    points = points.at[:, 42:48].add(jnp.array([0.3, 0.0])[None, None])
    angle, scale, shift = 0.4, 0.7, np.array([0.15, -0.1])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    moved = points @ jnp.asarray(turn.T) + jnp.asarray(shift, jnp.float32)[None, None]
    first, second = face_frame(points), face_frame(moved)
    np.testing.assert_allclose(to_frame(moved, second), to_frame(points, first), atol=1e-5)
    inside = to_frame(points, first)[:, 17:]
    np.testing.assert_allclose(inside.mean(axis=1), 0, atol=1e-6)
    assert float((inside**2).sum(axis=-1).mean()) == pytest.approx(1, rel=1e-5)

    def painted(turn, shift):
        """A smooth pattern that moves with the face, at every pixel's centre."""
        x = (np.stack(np.meshgrid(*[np.linspace(-1, 1, 257)] * 2), axis=-1) - shift) @ np.linalg.inv(turn).T
        return jnp.asarray(np.sin(3 * x[..., :1] + 2 * x[..., 1:])[None], jnp.float32)

    small = [upright(painted(t, s), f, 9) for t, s, f in ((np.eye(2), 0, first), (turn, shift, second))]
    np.testing.assert_allclose(small[0][0, 2:7, 2:7], small[1][0, 2:7, 2:7], atol=5e-3)


def test_disturbed_pictures_stay_pictures():
    picture = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3), minval=-1)
    same = disturbed(picture, jax.random.key(1), Disturbance(0.0, 0.0, 0.0, 0.0))
    np.testing.assert_allclose(same, picture, atol=1e-6)
    other = disturbed(picture, jax.random.key(1), Disturbance())
    assert float(jnp.abs(other).max()) <= 1
    assert float(jnp.abs(other - picture).mean()) > 0.02
    constant = jnp.full((1, 8, 8, 3), 0.3)
    np.testing.assert_allclose(blurred(constant), constant, atol=1e-6)
    dot = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
    np.testing.assert_allclose(blurred(dot)[0, 4, :, 0], np.array([0, 0, 1, 4, 6, 4, 1, 0, 0]) * 6 / 256, atol=1e-7)


def test_preview_marks_the_points(started):
    method, state, _ = started
    batch: Any = {**make_batch(2), "source": make_batch(2)["source"] / 127.5 - 1.0}
    columns = jax.jit(method.preview)(state.variables, batch)
    assert {"source", "prediction", "target"} <= set(columns)
    green = jnp.asarray((-1.0, 1.0, -1.0))
    point = jnp.zeros((2, 1, 2)) + 1 / (SIZE - 1)  # the centre of pixel 8
    dotted = marked(batch["source"], point)
    np.testing.assert_array_equal(dotted[0, 8, 8], green)
    np.testing.assert_array_equal(dotted[0, 11, 11], batch["source"][0, 11, 11])
    changed = (columns["target"] == green[None, None, None]).all(axis=-1).sum(axis=(1, 2))
    assert (changed >= 40).all()


def test_what_is_wrong_is_said():
    method = small_method()
    with pytest.raises(UserError, match="estimators read faces and make none"):
        method.reenactor({}, Source(jnp.zeros((1, SIZE, SIZE, 3))))
    with pytest.raises(UserError, match=r"config\.optim\.identity is missing"):
        method.players({"landmarks": optax.sgd(0.1), "motion": optax.sgd(0.1)})
    floats: Any = {k: v.astype(jnp.float32) for k, v in make_batch(expressions=9).items()}
    with pytest.raises(UserError, match=r"config\.model\.expressions=5, but .* pass --config\.model\.expressions=9"):
        method.init(jax.random.key(0), floats)
