"""StarGAN as a method: what every method must keep, its two players, its labels, and animation by them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import stargan as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import due
from reenax.core.types import ActionUnitDrive, LabelDrive, Source, VideoDrive, param_count
from reenax.methods.stargan import StarGAN
from reenax.methods.stargan.labels import Labels
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

NAMES = ("AU12", "AU25", "AU45")
SMALL: dict[str, Any] = {
    "label_names": NAMES,
    "label_field": "action_units",
    "label_groups": (),
    "generator": {"features": 4, "blocks": 1},
    "critic": {"image_size": SIZE, "features": 8, "layers": 2},
    "critic_steps": 2,
}
PLAYERS = ("critic", "generator")
RULE = optax.adam(5e-3, b1=0.5, eps=1e-3)  # with an epsilon that lets rounding noise move nothing


def method_of(**changes: Any) -> StarGAN:
    return dataclasses.replace(from_mapping(StarGAN, SMALL), **changes)


def optimisers() -> dict[str, optax.GradientTransformation]:
    return {"critic": RULE, "generator": RULE}


def labelled(count: int = 8) -> dict[str, jax.Array]:
    units = np.random.default_rng(0).uniform(0, 5, (count, 17))
    return make_batch(count=count) | {"action_units": jnp.asarray(units, jnp.float32)}


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
    if name == "celeba128":
        assert counts == {"generator": 8_430_528, "critic": 44_762_048}
        assert method == StarGAN(), "the defaults are the published ones"
    elif name == "rafd128":
        assert counts == {"generator": 8_439_936, "critic": 44_786_624}
    else:
        assert sum(counts.values()) < 700_000


def test_published_settings() -> None:
    config = configs.get_config("celeba128")
    assert (config.lr, config.batch_size, config.steps, config.data.flip) == (1e-4, 16, 200_000, True)
    for network in PLAYERS:
        settings = config.optim[network].to_dict()

        def rate_at(step: int, settings: Any = settings) -> float:
            return float(np.asarray(make_schedule(settings, 200_000, 1, "config.optim")(step)))

        assert rate_at(100_999) == pytest.approx(1e-4)
        assert rate_at(150_000) == pytest.approx(0.5e-4)
        assert rate_at(199_999) == pytest.approx(1e-6, rel=1e-4)
        published = {**settings, "decay": 100_000}  # a thousandth of itself in all
        assert rate_at(199_999, published) == pytest.approx(1e-4 * (1 - 99 / 100_000), rel=1e-6)


def test_the_generator_moves_on_every_fifth_step() -> None:
    players = StarGAN().players(optimisers())
    assert [len(due(players, i)) for i in range(10)] == [1, 1, 1, 1, 2] * 2


def test_each_player_moves_only_what_it_owns(small: Started) -> None:
    """The generator's running statistics move with every pass: once for the critic, twice for itself."""
    after, metrics = small.step(small.state, small.batch, ("critic",))
    assert moved(small.state.params, after.params) == {"critic"}
    assert moved(small.state.collections, after.collections) == {"generator"}
    assert {"critic/real", "critic/fake", "critic/classification", "critic/penalty"} < set(metrics)
    old = small.state.collections["generator"]["batch_stats"]["trunk"]["first_norm"]["var"]
    once = after.collections["generator"]["batch_stats"]["trunk"]["first_norm"]["var"]
    after, metrics = small.step(small.state, small.batch, PLAYERS)
    assert moved(small.state.params, after.params) == {"critic", "generator"}
    thrice = after.collections["generator"]["batch_stats"]["trunk"]["first_norm"]["var"]
    assert (old == 1).all()
    assert (np.asarray(once) >= 0.9).all()
    assert (np.asarray(thrice) >= 0.9**3).all()
    assert (np.asarray(thrice) != np.asarray(once)).all()
    terms = ("fake", "classification", "cycle")
    whole = sum(float(metrics[f"generator/{n}"]) for n in terms)
    assert float(metrics["generator/loss"]) == pytest.approx(whole, rel=1e-5)


def test_every_leaf_has_a_gradient(small: Started) -> None:
    check_gradients(with_plain_steps(small), PLAYERS, zero=lambda name: False)


def test_target_labels_are_those_of_the_batch_in_another_order(small: Started) -> None:
    game = small.method.game
    given = game.labels.of(small.batch)
    target = np.asarray(game.targets(given, jax.random.key(3)))
    assert not np.array_equal(given, target)
    assert sorted(map(tuple, np.asarray(given))) == sorted(map(tuple, target))


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    rounded = method_of(dtype="bfloat16")
    step = step_of(rounded, rounded.players(optimisers()))
    after, metrics = jax.eval_shape(lambda s, b: step(s, b, PLAYERS), small.state, small.batch)
    kept = jax.tree.leaves((after.params, after.collections, metrics))
    assert {x.dtype for x in kept} == {jnp.dtype("float32")}


def test_overfits_one_batch(small: Started) -> None:
    check_overfits(small, PLAYERS, "critic/classification", steps=60)


def test_eight_devices_equal_one(small: Started) -> None:
    """On the first step the critic alone is due, with a pass of the generator and the labels in another order."""
    check_eight_devices_equal_one(small, optimisers(), steps=1)


def test_preview(small: Started) -> None:
    floats = as_floats(small.batch)
    shown = jax.jit(small.method.preview)(small.state.variables, floats)
    assert set(shown) == {"source", *NAMES, "prediction", "target"}
    for name, picture in shown.items():
        assert picture.shape == floats["source"].shape, name
        assert float(jnp.abs(picture).max()) <= 1 + 1e-6, name


def test_labels_drive(small: Started) -> None:
    """What is left open is the source's own, as the critic reads it."""
    method, variables = small.method, small.state.variables
    floats = as_floats(small.batch)
    source, given = floats["source"][:1], method.game.labels.of(floats)[:1]
    asked = jnp.concatenate([given.at[0, 1].set(1 - given[0, 1]), jnp.ones((1, 3))])
    animate = method.reenactor(variables, Source(source))
    made = animate(LabelDrive(asked))
    assert made.shape == (2, SIZE, SIZE, 3)
    shown = jax.jit(method.preview)(variables, floats)
    np.testing.assert_allclose(made[0], shown["AU25"][0], atol=1e-5)
    own = method.game.labels.read(jax.jit(method.game.read)(variables, source).label)
    filled = animate(LabelDrive(asked.at[:, 1].set(jnp.nan)))
    np.testing.assert_allclose(filled, animate(LabelDrive(asked.at[:, 1].set(own[0, 1]))), atol=1e-5)
    units = jnp.zeros((2, 17)).at[:, 8].set(jnp.asarray([0.1, 0.9])).at[:, 14].set(0.5).at[:, 16].set(0.3)
    by_units = animate(ActionUnitDrive(units))
    np.testing.assert_allclose(by_units, animate(LabelDrive(jnp.asarray([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))))


def test_refusals(small: Started) -> None:
    method, variables = small.method, small.state.variables
    source = Source(as_floats(small.batch)["source"][:1])
    with pytest.raises(UserError, match="stargan is driven by action_units or labels, not by video"):
        method.reenactor(variables, source)(VideoDrive(source.frames))
    with pytest.raises(UserError, match="has 2 labels; this model has 3: AU12, AU25, AU45"):
        method.reenactor(variables, source)(LabelDrive(jnp.zeros((1, 2))))
    critic = {**variables["critic"]["params"], "label": {"kernel": jnp.zeros((8, 8, 16, 3))}}
    alone = method.reenactor({**variables, "critic": {"params": critic}}, source)
    with pytest.raises(UserError, match="needs the critic"):
        alone(LabelDrive(jnp.full((1, 3), jnp.nan)))
    for network in PLAYERS:
        with pytest.raises(UserError, match=rf"config\.optim\.{network} is missing"):
            method.players({n: tx for n, tx in optimisers().items() if n != network})
    with pytest.raises(UserError, match=r"config\.model\.critic_steps=0: it must be at least 1"):
        method_of(critic_steps=0)
    assert StarGAN().drives == {"labels"}
    assert method.fields == {"frames", "action_units"}


def test_labels_that_exclude_each_other_are_asked_for_one_at_a_time(small: Started) -> None:
    variables = small.state.variables
    source, nan = Source(as_floats(small.batch)["source"][:1]), jnp.nan
    grouped = method_of(label_groups=(("AU12", "AU25"),)).reenactor(variables, source)
    with pytest.raises(UserError, match="AU12, AU25 exclude each other; ask for one"):
        grouped(LabelDrive(jnp.asarray([[0.0, 1.0, 1.0], [1.0, 1.0, nan]])))
    grouped(LabelDrive(jnp.asarray([[0.0, 0.0, 1.0]])))
    critic = {**variables["critic"]["params"], "label": {"kernel": jnp.zeros((8, 8, 16, 3))}}
    classes = method_of(exclusive_labels=True).reenactor({**variables, "critic": {"params": critic}}, source)
    made = classes(LabelDrive(jnp.asarray([[nan, 1.0, nan]])))
    np.testing.assert_array_equal(made, classes(LabelDrive(jnp.asarray([[0.0, 1.0, 0.0]]))))
    with pytest.raises(UserError, match="one of the labels AU12, AU25, AU45 is always 1"):
        classes(LabelDrive(jnp.asarray([[0.0, nan, nan]])))


def test_labels_come_from_three_fields() -> None:
    attributes = jnp.asarray([[1.0, 0.0]])
    np.testing.assert_array_equal(Labels(("a", "b")).of({"attributes": attributes}), attributes)
    with pytest.raises(UserError, match="the dataset has 2 attributes, and config.model.label_names has 1"):
        Labels(("a",)).of({"attributes": attributes})
    acted = {"acted": jnp.asarray([[2, 1, 0], [0, 0, 0]])}
    classes = Labels(("neutral", "happy", "sad"), "acted", exclusive=True)
    np.testing.assert_array_equal(classes.of(acted), [[0, 0, 1], [1, 0, 0]])
    units = jnp.zeros((1, 17)).at[0, 8].set(1.5).at[0, 2].set(jnp.nan)
    chosen = Labels(("AU12", "AU45", "AU04"), "action_units")
    np.testing.assert_array_equal(chosen.of({"action_units": units}), [[1, 0, np.nan]])


def test_scores_of_labels() -> None:
    """Summed over labels that do not exclude each other, averaged over pictures."""
    logits = jnp.asarray([[0.0, 2.0], [-1.0, 1.0]])
    labels = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    of_each = np.log1p(np.exp([[-0.0, 2.0], [-1.0, -1.0]]))
    assert float(Labels(("a", "b")).loss(logits, labels)) == pytest.approx(of_each.sum() / 2, rel=1e-6)
    of_both = np.log(np.exp(logits).sum(1)) - np.asarray(logits * labels).sum(1)
    assert float(Labels(("a", "b"), exclusive=True).loss(logits, labels)) == pytest.approx(
        float(of_both.mean()), rel=1e-6
    )
    np.testing.assert_array_equal(Labels(("a", "b")).read(logits), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(Labels(("a", "b"), exclusive=True).read(logits[:1]), [[0, 1]])


def test_labels_exclude_each_other() -> None:
    hair = Labels(("black", "blond", "male"), groups=(("black", "blond"),))
    own, nan = jnp.asarray([[1.0, 0.0, 1.0]]), jnp.nan
    asked = jnp.asarray([[nan, 1.0, nan], [nan, 0.0, nan], [nan, nan, 0.0], [nan, nan, nan]])
    expected = [[0, 1, 1], [1, 0, 1], [1, 0, 0], [1, 0, 1]]
    np.testing.assert_array_equal(hair.resolved(asked, own), expected)
    part = hair.resolved(asked, own, jnp.asarray([0.4, 1.0, 0.5, 0.0]))
    np.testing.assert_array_equal(part, [[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 1]])
    varied = hair.variations(own)
    np.testing.assert_array_equal(np.concatenate([varied[n] for n in hair.names]), [[0, 0, 1], [0, 1, 1], [1, 0, 0]])
    classes = Labels(("happy", "sad"), exclusive=True).variations(jnp.asarray([[1.0, 0.0]]))
    np.testing.assert_array_equal(np.concatenate(list(classes.values())), [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": (), "field": "attributes"}, "label_names is empty"),
        ({"names": ("a",), "field": "hair"}, "label_field='hair' is unknown; use attributes, acted, action_units"),
        ({"names": ("AU99",), "field": "action_units"}, "'AU99' is unknown; known are AU01"),
        ({"names": ("a",), "groups": (("a", "b"),)}, "'b' is unknown; known are a"),
    ],
)
def test_labels_that_do_not_fit_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Labels(**values)
