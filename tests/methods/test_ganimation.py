"""GANimation as a method: what every method must keep, its three players, and animation by action units and frames."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import ganimation as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import due
from reenax.core.types import ActionUnitDrive, PoseDrive, Source, VideoDrive, param_count
from reenax.methods.ganimation import GANimation
from reenax.methods.ganimation.game import condition_loss, total_variation
from reenax.methods.ganimation.reenact import asked_units
from reenax.train.optim import make_schedule
from reenax.train.runs import make_method
from tests.methods.contracts import (
    SIZE,
    Started,
    as_floats,
    check_eight_devices_equal_one,
    check_gradients,
    check_overfits,
    make_batch,
    moved,
    start_drawn,
    step_of,
    with_plain_steps,
)

SMALL: dict[str, Any] = {
    "generator": {"features": 4, "blocks": 1},
    "critic": {"image_size": SIZE, "features": 8, "layers": 2, "deviation": 0.1},
    "losses": {"condition": 10.0, "cond_loss_divides_by_batch": False},
    "critic_steps": 2,
}
CRITICS, PLAYERS = ("critic", "penalty"), ("critic", "penalty", "generator")
PICTURE_AND_UNITS = (jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, 17)))
RULE = optax.adam(5e-3, b1=0.5, eps=1e-3)  # with an epsilon that lets rounding noise move nothing


def method_of(**changes: Any) -> GANimation:
    return dataclasses.replace(from_mapping(GANimation, SMALL), **changes)


def optimisers(rule: optax.GradientTransformation = RULE) -> dict[str, optax.GradientTransformation]:
    return {"critic": rule, "generator": rule}


def labelled(count: int = 8) -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    units = {n: jnp.asarray(random.uniform(0, 5, (count, 17)), jnp.float32) for n in ("", "target_")}
    return make_batch(count=count) | {f"{n}action_units": v for n, v in units.items()}


@pytest.fixture(scope="module")
def small() -> Started:
    return start_drawn(method_of(), optimisers(), labelled())


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name: str) -> None:
    config = configs.get_config(name)
    method = make_method(config)
    players = method.players({n: optax.sgd(0.1) for n in config.optim})
    assert tuple(p.name for p in players) == PLAYERS
    assert config.log_every % config.model.critic_steps == 0, "a logged step shows the generator"
    picture = jnp.zeros((1, config.data.size, config.data.size, 3))
    shapes = jax.eval_shape(method.init, jax.random.key(0), {"source": picture})
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    if name == "emotionet128":
        assert counts == {"generator": 8_471_296, "critic": 44_860_352}
    else:
        assert sum(counts.values()) < 700_000


def test_published_settings() -> None:
    config = configs.get_config("emotionet128")
    method = make_method(config)
    assert method == GANimation(), "the defaults are the published ones"
    assert (config.lr, config.batch_size, config.epochs, config.data.flip, config.data.targets) == (
        1e-4,
        25,
        30,
        True,
        True,
    )
    for network in ("critic", "generator"):
        rate = make_schedule(config.optim[network].to_dict(), 240_000, 8000, "config.optim")
        at = {epoch: np.asarray(rate((epoch - 1) * 8000)) for epoch in (1, 21, 22, 30)}
        assert at == {1: pytest.approx(1e-4), 21: pytest.approx(1e-4), 22: pytest.approx(9e-5), 30: pytest.approx(1e-5)}


def test_the_generator_moves_on_every_fifth_step() -> None:
    players = method_of(critic_steps=5).players(optimisers())
    assert [due(players, i) == PLAYERS for i in range(10)] == [False] * 4 + [True] + [False] * 4 + [True]
    assert due(players, 0) == CRITICS


def test_each_player_moves_only_what_it_owns(small: Started) -> None:
    after, metrics = small.step(small.state, small.batch, CRITICS)
    assert moved(small.state.params, after.params) == {"critic"}
    assert set(after.opt_states) == {"critic", "generator"}
    assert int(after.opt_states["critic"][0].count) == 2, "the penalty is a step of the critic's optimiser"
    assert {"critic/real", "critic/fake", "critic/condition", "critic/action_unit_error", "penalty/loss"} < set(metrics)
    after, metrics = small.step(small.state, small.batch, PLAYERS)
    assert moved(small.state.params, after.params) == {"critic", "generator"}
    terms = ("fake", "condition", "cycle", "attention_mean", "attention_smoothness")
    whole = sum(float(metrics[f"generator/{n}"]) for n in terms)
    assert float(metrics["generator/loss"]) == pytest.approx(whole, rel=1e-5)
    assert 0 < float(metrics["generator/attention"]) < 1


def test_every_leaf_has_a_gradient(small: Started) -> None:
    check_gradients(with_plain_steps(small), PLAYERS, zero=lambda name: False)


def test_the_penalty_has_no_gradient_in_biases_and_in_the_layer_of_action_units(small: Started) -> None:
    game, floats = small.method.game, as_floats(small.batch)

    def penalty(critic: Any) -> jax.Array:
        variables = {"critic": {"params": critic}}
        return game.penalty(variables, floats["source"], floats["driving"], jnp.linspace(0, 1, 8))

    gradients = jax.jit(jax.grad(penalty))(small.state.params["critic"])
    for module, leaves in gradients.items():
        for leaf, values in leaves.items():
            assert bool((values == 0).all()) == (leaf == "bias" or module == "label"), (module, leaf)


def test_microbatches_count_as_one_batch() -> None:
    """Two terms are sums over the batch or divided by its size; pieces of a batch know the whole one."""
    units = jnp.asarray([[0.0, 1.0], [1.0, 1.0]])
    assert float(condition_loss(units, jnp.zeros((2, 2)))) == 0.75
    assert float(condition_loss(units, jnp.zeros((2, 2)), 2)) == 0.375
    picture = jnp.asarray([[0.0, 1.0], [3.0, 3.0]])[None, :, :, None]
    assert float(total_variation(picture)) == 1 + 0 + 3 + 2
    game = method_of().game
    game = dataclasses.replace(
        game, losses=dataclasses.replace(game.losses, condition=1.0, cond_loss_divides_by_batch=True)
    )
    assert float(game._condition(units, jnp.zeros((2, 2)), 3)) == 0.125


def test_asked_action_units_carry_noise(small: Started) -> None:
    batch = {"target_action_units": jnp.full((64, 17), 5.0)}
    asked = small.method.game.targets(batch, jax.random.key(0))
    assert 0.9 <= float(asked.min()) < 0.91
    assert 1.09 < float(asked.max()) <= 1.1


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    rounded = method_of(dtype="bfloat16")
    step = step_of(rounded, rounded.players(optimisers()))
    after, metrics = jax.eval_shape(lambda s, b: step(s, b, PLAYERS), small.state, small.batch)
    assert {x.dtype for x in jax.tree.leaves((after.params, metrics))} == {jnp.dtype("float32")}
    made: Any = jax.eval_shape(rounded.game.generator.apply, after.variables["generator"], *PICTURE_AND_UNITS)
    assert {x.dtype for x in made} == {jnp.dtype("float32")}


def test_overfits_one_batch(small: Started) -> None:
    check_overfits(small, PLAYERS, "critic/condition", steps=60)
    check_overfits(small, PLAYERS, "generator/cycle", steps=60)


def test_eight_devices_equal_one(small: Started) -> None:
    """On the first step the critic and its penalty are due, with a pass of the generator."""
    check_eight_devices_equal_one(small, optimisers(), steps=1)


def test_preview(small: Started) -> None:
    floats = as_floats(small.batch)
    shown = jax.jit(small.method.preview)(small.state.variables, floats)
    assert set(shown) == {"source", "edited", "attention", "colour", "prediction", "target"}
    for name, picture in shown.items():
        assert picture.shape == floats["source"].shape, name
        assert float(jnp.abs(picture).max()) <= 1 + 1e-6, name
    blended = (1 + shown["attention"]) / 2
    np.testing.assert_allclose(shown["edited"], blended * floats["source"] + (1 - blended) * shown["colour"], atol=1e-5)


def test_action_units_drive(small: Started) -> None:
    """Numbers are taken as they are; NaN and the rest of the amount are the source's, as the critic reads it."""
    method, variables = small.method, small.state.variables
    floats = as_floats(small.batch)
    source = floats["source"][:1]
    asked = jnp.linspace(0, 1, 3 * 17).reshape(3, 17)
    animate = method.reenactor(variables, Source(source))
    made = animate(ActionUnitDrive(asked))
    assert made.shape == (3, SIZE, SIZE, 3)
    shown = jax.jit(method.preview)(variables, {**floats, "target_action_units": 5 * asked[jnp.zeros(8, int)]})
    np.testing.assert_allclose(made[0], shown["edited"][0], atol=1e-5)
    own = jax.jit(method.game.read)(variables, source).label
    assert not bool(((own >= 0) & (own <= 1)).all()), "what is read has to be clipped"
    own = jnp.clip(own, 0, 1)
    gaps = asked.at[:, 4].set(jnp.nan)
    filled = animate(ActionUnitDrive(gaps, jnp.asarray([0.0, 0.5, 1.0])))
    goal = asked.at[:, 4].set(own[0, 4])
    wanted = jnp.stack([own[0], (goal[1] + own[0]) / 2, goal[2]])
    np.testing.assert_allclose(filled, animate(ActionUnitDrive(wanted)), atol=1e-5)
    np.testing.assert_allclose(asked_units(gaps, None, own), goal, atol=1e-6)


def test_frames_drive_by_the_action_units_that_the_critic_reads(small: Started) -> None:
    method, variables, floats = small.method, small.state.variables, as_floats(small.batch)
    source, frames = floats["source"][:1], floats["driving"]
    look: Any = jax.jit(method.game.read)
    read, own = look(variables, frames).label, look(variables, source).label
    read, own = jnp.clip(read, 0, 1), jnp.clip(own, 0, 1)
    animate = method.reenactor(variables, Source(source))
    by_numbers = ActionUnitDrive(read)
    np.testing.assert_allclose(animate(VideoDrive(frames)), animate(by_numbers), atol=1e-5)
    anchored = method.reenactor(variables, Source(source), anchor=VideoDrive(frames[:1]), mode="relative")
    by_numbers = ActionUnitDrive(jnp.clip(own + read - read[:1], 0, 1))
    np.testing.assert_allclose(anchored(VideoDrive(frames)), animate(by_numbers), atol=1e-5)
    one = VideoDrive(frames[:1])
    np.testing.assert_allclose(anchored(one), animate(ActionUnitDrive(own)), atol=1e-5)
    assert method.options["mode"].default == "absolute", "so that one picture drives too"
    assert float(jnp.abs(animate(one) - anchored(one)).max()) > 1e-3


def test_refusals(small: Started) -> None:
    variables, source = small.state.variables, Source(as_floats(small.batch)["source"][:1])
    frames = VideoDrive(as_floats(small.batch)["driving"])
    with pytest.raises(UserError, match=r"mode must be one of relative, absolute, got 'relativ'"):
        small.method.reenactor(variables, source, mode="relativ")
    with pytest.raises(UserError, match="needs an anchor"):
        small.method.reenactor(variables, source, mode="relative")(frames)
    with pytest.raises(UserError, match="ganimation is driven by video or action_units, not by pose"):
        small.method.reenactor(variables, source)(PoseDrive(jnp.zeros((1, 3))))
    for network in ("critic", "generator"):
        with pytest.raises(UserError, match=rf"config\.optim\.{network} is missing"):
            small.method.players({n: tx for n, tx in optimisers().items() if n != network})
    with pytest.raises(UserError, match=r"config\.model\.critic_steps=0: it must be at least 1"):
        method_of(critic_steps=0)


def test_a_generator_without_its_critic_takes_numbers_alone(small: Started) -> None:
    variables = dict(small.state.variables)
    critic = {**variables["critic"]["params"], "label": {"kernel": jnp.zeros((8, 8, 16, 17))}}
    variables["critic"] = {"params": critic}
    source = Source(as_floats(small.batch)["source"][:1])
    animate = small.method.reenactor(variables, source, mode="absolute")
    assert animate(ActionUnitDrive(jnp.zeros((2, 17)))).shape == (2, SIZE, SIZE, 3)
    for drive in (
        ActionUnitDrive(jnp.full((1, 17), jnp.nan)),
        ActionUnitDrive(jnp.zeros((1, 17)), jnp.ones(1)),
        VideoDrive(source.frames),
    ):
        with pytest.raises(UserError, match="needs the critic"):
            animate(drive)


def test_the_known_collapse_is_named() -> None:
    method = method_of()
    assert method.remarks({"critic/loss": 1.0}) == method.remarks({"generator/attention": 0.6}) == ()
    assert "raise config.model.losses.attention" in method.remarks({"generator/attention": 0.99})[0]
    assert "lower config.model.losses.attention" in method.remarks({"generator/attention": 0.01})[0]
