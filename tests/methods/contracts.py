"""What every method that moves one frame to another must keep; each method's tests call these."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reenax.core.errors import UserError
from reenax.core.step import create_state, due, train_step
from reenax.core.types import Player, Source, TrainState, VideoDrive
from reenax.train.engine import NONFINITE, Engine
from reenax.train.sharding import make_mesh, put_batch
from tests.compiling import compiled_well

SIZE = 32
Batch = dict[str, jax.Array]
Optimisers = dict[str, optax.GradientTransformation]


def make_batch(size: int = SIZE, count: int = 2) -> Batch:
    """Smooth pictures and the same moved by a few pixels, uint8."""
    base = jax.random.uniform(jax.random.key(1), (count, 6, 6, 3))
    picture = jax.image.resize(base, (count, size + 4, size + 4, 3), "cubic")
    picture = (255 * jnp.clip(picture, 0, 1)).astype(jnp.uint8)
    return {"source": picture[:, :size, :size], "driving": picture[:, 3 : size + 3, 2 : size + 2]}


def as_floats(batch: Mapping[str, jax.Array]) -> Batch:
    """Pictures in [-1, 1], as losses and previews see them."""
    return {k: v / 127.5 - 1.0 if v.dtype == jnp.uint8 else v for k, v in batch.items()}


class Started(NamedTuple):
    """A method ready to train."""

    method: Any
    players: tuple[Player, ...]
    state: TrainState
    step: Any
    batch: Batch


def fresh_variables(method: Any, batch: Mapping[str, jax.Array]) -> Any:
    """The method's own initial variables, by a generator that compiles several times faster than the default one."""
    with jax.default_prng_impl("rbg"):
        return jax.jit(method.init)(jax.random.key(0), as_floats(batch))


def drawn(shapes: Any) -> Any:
    """Variables of these shapes, drawn on the host, where nothing is compiled; biases are not left at zero."""
    random = np.random.default_rng(0)

    def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key in ("scale", "var"):
            return jnp.ones(x.shape)
        if x.ndim == 1:
            kind = {"bias": 0.1, "u": x.shape[0] ** -0.5, "v": x.shape[0] ** -0.5}.get(path[-1].key, 0.0)
            return jnp.asarray(kind * random.normal(size=x.shape), jnp.float32)
        return jnp.asarray(random.normal(size=x.shape) / np.sqrt(3 * np.prod(x.shape[:-1])), jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


def start(method: Any, optim: Optimisers, batch: Batch | None = None) -> Started:
    batch, players = batch or make_batch(), method.players(optim)
    # handed over as an argument: draws that nobody looks at are not compiled
    begin = jax.jit(lambda b, v: create_state(method, players, 0, b, warm_start=lambda _: v))
    state = begin(batch, fresh_variables(method, batch))
    return Started(method, players, state, step_of(method, players), batch)


def start_drawn(method: Any, optim: Optimisers, batch: Batch) -> Started:
    """Like :func:`start`, from variables that are drawn on the host: no program of random numbers is compiled."""
    players = method.players(optim)
    variables = drawn(jax.eval_shape(method.init, jax.random.key(0), as_floats(batch)))
    begin = jax.jit(lambda b, v: create_state(method, players, 0, b, warm_start=lambda _: v))
    return Started(method, players, begin(batch, variables), step_of(method, players), batch)


def step_of(method: Any, players: tuple[Player, ...]) -> Any:
    """The compiled step: (state, batch, names of the due players) to (state, metrics)."""
    return jax.jit(lambda s, b, active: train_step(method, players, s, b, active, {}), static_argnums=2)


def with_plain_steps(started: Started) -> Started:
    """The same program, as if it were of SGD at rate 1: Adam's first moment is made of the gradients.

    Optimisers are called like the one network that they move.
    """

    def step(state: Any, batch: Any, active: tuple[str, ...]) -> Any:
        after, metrics = started.step(state, batch, active)
        params = {n: jax.tree.map(lambda x, g: x - g, p, after.opt_states[n][0].mu[n]) for n, p in state.params.items()}
        return after.replace(params=params), metrics

    return started._replace(step=step)


def moved(before: Any, after: Any) -> set[str]:
    """The networks of which any leaf differs."""
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), before, after)
    return {n for n, tree in same.items() if not all(jax.tree.leaves(tree))}


def check_gradients(started: Started, active: tuple[str, ...], zero: Callable[[str], bool]) -> None:
    """Every leaf gets a finite gradient, all but biases in front of a norm and those of which theory says zero.

    Args:
        started: moved by SGD at rate 1, so that a step leaves minus the gradient in the difference.
        active: the players that are due.
        zero: whether a leaf, "network/module/.../name", has no gradient for another reason.
    """
    after, _ = started.step(started.state, started.batch, active)
    owned = {n for p in started.players if p.name in active for n in p.owns}
    gradients = jax.tree.map(lambda a, b: np.asarray(a - b), started.state.params, after.params)
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/"): gradient
        for path, gradient in jax.tree_util.tree_flatten_with_path({n: gradients[n] for n in owned})[0]
    }
    assert names
    for name, gradient in names.items():
        assert np.isfinite(gradient).all(), name
        module = name.removesuffix("/bias")
        normed = {"conv": "norm", "conv1": "norm2"}.get(module.rsplit("/", 1)[-1], "-")
        before_norm = module != name and module.rsplit("/", 1)[0] + f"/{normed}/scale" in names
        if before_norm or zero(name):
            assert np.abs(gradient).max() < 1e-3, name
        else:
            assert np.abs(gradient).max() > 0, name


def check_bfloat16(started: Started, rounded: Any, optim: Optimisers, active: tuple[str, ...]) -> None:
    """The method that computes in bfloat16 keeps its state and its metrics in float32, and its losses stay close."""
    after, metrics = step_of(rounded, rounded.players(optim))(started.state, started.batch, active)
    kinds = {x.dtype for x in jax.tree.leaves((after.params, after.collections, after.opt_states))}
    assert kinds <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert {v.dtype for v in metrics.values()} == {jnp.dtype("float32")}
    _, reference = started.step(started.state, started.batch, active)
    for player in active:
        assert float(metrics[f"{player}/loss"]) == pytest.approx(float(reference[f"{player}/loss"]), rel=0.05)


def check_one_device_equals_eight(method: Any, optim: Optimisers, batch: Mapping[str, jax.Array], steps: int) -> None:
    """The same numbers after a few steps on one device and on eight.

    Args:
        method: small.
        optim: SGD; Adam would turn the rounding noise of gradients that are zero into whole steps.
        batch: eight examples.
        steps: how many.
    """
    players, rows = method.players(optim), {k: np.asarray(v) for k, v in batch.items()}
    variables: Any = jax.device_get(fresh_variables(method, batch))  # draws are not compiled into both programs
    results = []
    for devices in (1, 8):
        mesh = make_mesh(devices, 1, jax.devices()[:devices])
        with compiled_well():
            engine = Engine.build(method, players, mesh, rows, seed=0, warm_start=lambda _: variables)
            state, metrics = engine.fresh_state(rows), {}
            for i in range(steps):
                state, metrics = engine.step(state, put_batch(rows, engine.mesh), i)
        results.append(jax.device_get((metrics, state.params, state.collections)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *results)


def check_overfits(started: Started, active: tuple[str, ...], metric: str, steps: int) -> None:
    """One batch, seen again and again, is learned: the metric falls below half."""
    state, losses = started.state, []
    for _ in range(steps):
        state, metrics = started.step(state, started.batch, active)
        losses.append(float(metrics[metric]))
    assert losses[-1] < 0.5 * losses[0], losses[:: max(1, steps // 8)]


def check_preview_and_reenactment(started: Started, columns: Collection[str]) -> None:
    """Sheets and animation have the right columns, shapes and ranges, and absolute motion is the forward pass."""
    method, state = started.method, started.state
    floats = as_floats(started.batch)
    shown = jax.jit(method.preview)(state.variables, floats)
    assert set(columns) == set(shown)
    for name, picture in shown.items():
        assert picture.shape == floats["source"].shape, name
        assert float(jnp.abs(picture).max()) <= 1 + 1e-6, name
    anchor = VideoDrive(floats["driving"][:1])
    made = method.reenactor(state.variables, Source(floats["source"][:1]), anchor=anchor, mode="absolute")(
        VideoDrive(floats["driving"])
    )
    assert made.shape == floats["driving"].shape
    assert float(jnp.abs(made).max()) <= 1 + 1e-6
    np.testing.assert_allclose(made[0], shown["prediction"][0], atol=2e-5)


def check_refusals(started: Started, optim: Optimisers) -> None:
    """Unknown modes, relative motion without a start, and missing optimisers are named."""
    source, variables = Source(as_floats(started.batch)["source"][:1]), started.state.variables
    with pytest.raises(UserError, match="anchor"):
        started.method.reenactor(variables, source, mode="relative")
    with pytest.raises(UserError, match=r"mode must be one of .*relative"):
        started.method.reenactor(variables, source, mode="relativ")
    for network in optim:
        with pytest.raises(UserError, match=rf"config\.optim\.{network} is missing"):
            started.method.players({n: tx for n, tx in optim.items() if n != network})


def check_eight_devices_equal_one(started: Started, optim: Optimisers, steps: int) -> None:
    """The same numbers after a few steps of the compiled program, on one device, and of the engine's on eight.

    Cheaper than :func:`check_one_device_equals_eight` by a program. Players move when they are due.

    Args:
        started: with a batch of eight, moved by a rule that makes nothing of the rounding noise of gradients that are
            zero: SGD, or Adam with a large epsilon.
        optim: the same rule again.
        steps: how many.
    """
    players, rows = started.method.players(optim), {k: np.asarray(v) for k, v in started.batch.items()}
    variables: Any = jax.device_get(started.state.variables)
    mesh = make_mesh(8, 1, jax.devices()[:8])
    engine = Engine.build(started.method, players, mesh, rows, seed=0, warm_start=lambda _: variables)
    sharded, metrics = engine.fresh_state(rows), {}
    state, expected = started.state.replace(rng=jax.device_get(sharded.rng)), {}
    for i in range(steps):
        state, expected = started.step(state, started.batch, due(players, i))
        sharded, metrics = engine.step(sharded, put_batch(rows, engine.mesh), i)
    terms = {k: v for k, v in metrics.items() if NONFINITE not in k}
    for ours, theirs in ((terms, expected), (sharded.params, state.params), (sharded.collections, state.collections)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *jax.device_get((ours, theirs))
        )
