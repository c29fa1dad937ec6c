"""FReeNet as a method: what every method must keep, its two stages, and its players' losses."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import freenet as configs
from configs.freenet import CONVERTING, GENERATING
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import create_state, due, train_step
from reenax.core.types import Source, VideoDrive, param_count
from reenax.methods.freenet import FReeNet
from reenax.methods.freenet.game import Stages, triplet_distances, triplet_loss
from reenax.methods.freenet.generator import DiscriminatorParams, patch_discriminator
from reenax.methods.freenet.networks import Perceptron
from reenax.train.config import override
from reenax.train.engine import Engine
from reenax.train.runs import make_method
from reenax.train.sharding import make_mesh
from reenax.train.validate import Validator
from reenax.train.writers import Writers
from tests.methods.contracts import (
    Started,
    as_floats,
    check_bfloat16,
    check_gradients,
    check_one_device_equals_eight,
    check_overfits,
    drawn,
    make_batch,
    moved,
    step_of,
)

SMALL: dict[str, Any] = {
    "points": 68,
    "unit": 512.0,
    "canvas": 128,
    "converter": {"width": 16, "depth": 2, "centred": True},
    "generator": {
        "features": 4,
        "down_blocks": 1,
        "blocks": 2,
        "landmark_every": 2,
        "landmark_features": 4,
        "dropout": 0.0,
        "residual": True,
    },
    "discriminator": {"features": 4, "layers": 1},
    "losses": {"triplet": 0.0},
    "stages": {"generator_start": 0},
}
FIRST = ("converter", "landmark_discriminators")
SECOND = ("discriminator", "generator")
NETWORKS = ("converter", "realism_discriminator", "identity_discriminator", "discriminator", "generator")
ROLES = (
    *("driving", "driving_neutral", "source_neutral"),
    *("other", "other_neutral", "neutral", "truth", "random"),
)
RULE = optax.adam(2e-3)


def method_of(values: dict[str, Any] = SMALL, **changes: Any) -> FReeNet:
    return dataclasses.replace(from_mapping(FReeNet, values), **changes)


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(NETWORKS, rule)


def faces(count: int) -> dict[str, np.ndarray]:
    """Landmarks of two people, an expression apart."""
    random = np.random.default_rng(0)
    people = random.uniform(-0.6, 0.6, (2, count, 68, 2))
    change = random.uniform(-0.1, 0.1, (2, count, 68, 2))
    of = {role: people[int(role in ROLES[3:])] for role in ROLES}
    of |= {"driving": people[0] + change[0], "truth": people[1] + change[0], "other": people[1] + change[1]}
    return {f"landmarks_{role}": rows.astype(np.float32) for role, rows in of.items()}


def acted(count: int = 2) -> dict[str, jax.Array]:
    """Three pictures and landmarks, as the sampler "acted" draws them."""
    pictures = make_batch(count=count)
    landmarks = {name: jnp.asarray(rows) for name, rows in faces(count).items()}
    return {**pictures, "other": pictures["source"][:, ::-1], **landmarks}


@pytest.fixture(scope="module")
def small() -> Started:
    """Drawn on the host, and with kernels as large as usual: N(0, 0.02) takes long to leave."""
    method, batch = method_of(), acted()
    players = method.players(optimisers(RULE))
    variables: Any = drawn(jax.eval_shape(method.init, jax.random.key(0), {}))
    begin = jax.jit(lambda b, v: create_state(method, players, 0, b, warm_start=lambda _: v))
    return Started(method, players, begin(batch, variables), step_of(method, players), batch)


def with_plain_steps(started: Started) -> Started:
    """The same program, as if it were of SGD at rate 1: Adam's first moment holds the first gradient."""

    def step(state: Any, batch: Any, active: tuple[str, ...]) -> Any:
        after, metrics = started.step(state, batch, active)
        params = dict(state.params)
        for player in started.players:
            if player.name in active:
                inner = after.opt_states[player.name].inner_states
                for n in player.owns:
                    first = inner[n].inner_state[0].mu[n]
                    params[n] = jax.tree.map(lambda x, g: x - 10 * g, state.params[n], first)
        return after.replace(params=params), metrics

    return started._replace(step=step)


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name: str) -> None:
    config = configs.get_config(name)
    method = make_method(config)
    shapes = jax.eval_shape(method.init, jax.random.key(0), {})
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    players = tuple(p.name for p in method.players({n: optax.sgd(0.1) for n in config.optim}))
    assert set(config.frozen) == {"vgg16"}
    assert config.data.sampler == "acted"
    if name in ("synth64", "smoke"):
        assert players == FIRST + SECOND
        assert not method.frozen
        assert sum(counts.values()) < 800_000
        assert method.fields == {"frames", "acted", "landmarks"}
        return
    assert method.fields == {"frames", "acted", "landmarks_106"}
    assert config.data.size == 256
    if name == "rafd256":
        assert players == SECOND
        assert set(method.frozen) == {"vgg16"}
        assert counts == {"converter": 4_527_828, "generator": 16_913_795, "discriminator": 2_767_809}
    else:
        assert players == FIRST
        assert not method.frozen
        assert counts == {
            "converter": 4_527_828,
            "identity_discriminator": 829_761,
            "realism_discriminator": 929_921,
        }


def test_biases_start_at_nothing() -> None:
    """Those of the discriminator, as published; PyTorch's default would draw them."""
    judge = patch_discriminator(DiscriminatorParams(4, 1))
    variables: Any = judge.init(jax.random.key(0), jnp.zeros((1, 16, 16, 6)), train=False)
    biases = [layer["bias"] for layer in variables["params"].values()]
    assert len(biases) == 3
    assert all(float(jnp.abs(x).max()) == 0 for x in biases)


def test_published_settings() -> None:
    """Section 4 of the published code."""
    for name, epochs, milestones, repeats in (
        ("rafd256_ulc", 200, (60, 120, 180), 72),
        ("multipie_ulc", 2000, (600, 1200, 1800), 1),
    ):
        config = configs.get_config(name)
        assert (config.epochs, config.repeats, config.batch_size) == (epochs, repeats, 16)
        for optim in config.optim.values():
            assert (optim.lr, optim.b1, optim.b2, optim.milestones, optim.factor) == (
                3e-4,
                0.99,
                0.999,
                milestones,
                0.1,
            )
    config = configs.get_config("rafd256")
    assert (config.epochs, config.batch_size, config.model.generator.dropout) == (109, 3, 0.5)
    for optim in config.optim.values():
        assert (optim.lr, optim.b1, optim.schedule, optim.hold, optim.decay) == (2e-4, 0.5, "linear", 39, 71)


def test_rates_of_the_small_model() -> None:
    """One rate for all, which the generator and its judge keep until the last steps."""
    config = configs.get_config("synth64")
    assert {name: (optim.lr, optim.schedule) for name, optim in config.optim.items()} == {
        **dict.fromkeys(CONVERTING, (5e-4, "cosine")),
        **dict.fromkeys(GENERATING, (5e-4, "linear")),
    }
    optim = config.optim.generator
    assert (optim.hold, optim.decay, optim.period) == (2200, 800, 1)
    assert optim.hold + optim.decay == config.steps
    changed = override(config, ["--config.lr=1e-3", "--config.model.stages.converter_stop=5"])
    assert {optim.lr for optim in changed.optim.values()} == {1e-3}
    assert make_method(changed).stages == Stages(5, 800)  # pyright: ignore[reportAttributeAccessIssue]


def test_each_player_moves_only_what_it_owns(small: Started) -> None:
    _, players, state, step, batch = small
    assert tuple(p.name for p in players) == FIRST + SECOND
    assert {n for p in players for n in p.owns} == set(NETWORKS)
    after, metrics = step(state, batch, FIRST)
    assert moved(state.params, after.params) == set(NETWORKS[:3])
    assert {f"converter/{k}" for k in ("pixel", "cycle", "identity", "fool_identity", "error")} < set(metrics)
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())
    after, metrics = step(state, batch, SECOND)
    assert moved(state.params, after.params) == set(NETWORKS[3:])
    assert {f"generator/{k}" for k in ("l1", "gan", "converter_error")} < set(metrics)
    assert {"discriminator/real", "discriminator/fake"} < set(metrics)
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_stages_say_who_moves_when() -> None:
    def names(steps: range, **stages: int | None) -> list[tuple[str, ...]]:
        players = method_of({**SMALL, "stages": stages}).players(optimisers(optax.sgd(0.1)))
        return [due(players, step) for step in steps]

    assert names(range(2)) == [FIRST, FIRST]
    assert names(range(4), converter_stop=2, generator_start=2) == [FIRST, FIRST, SECOND, SECOND]
    assert names(range(2), converter_stop=0, generator_start=1) == [(), SECOND]
    with pytest.raises(UserError, match="leaves nothing to train"):
        names(range(1), converter_stop=0)


def test_a_stage_alone_has_its_networks_alone() -> None:
    def networks(**stages: int | None) -> set[str]:
        method = method_of({**SMALL, "stages": stages})
        return set(jax.eval_shape(method.init, jax.random.key(0), {}))

    assert networks() == set(NETWORKS[:3])
    assert networks(converter_stop=0, generator_start=0) == {"converter", "discriminator", "generator"}
    quiet = {**SMALL, "losses": {"triplet": 0.0, "gan": 0.0}, "stages": {"converter_stop": 0, "generator_start": 0}}
    assert "discriminator" not in jax.eval_shape(method_of(quiet).init, jax.random.key(0), {})
    assert [p.name for p in method_of(quiet).players(optimisers(RULE))] == ["generator"]
    triplet = {**SMALL, "losses": {"triplet": 0.1}}
    assert set(method_of(triplet).frozen) == {"vgg16"}
    assert not method_of({**triplet, "stages": {}}).frozen


def test_a_mean_face_is_that_of_the_first_batch(small: Started) -> None:
    """It is no parameter; where it is taken off, moving all faces by one face changes nothing."""
    method, batch = method_of(), acted()

    @jax.jit
    def statistics(b: Any) -> Any:  # without the draws of params, which take long to compile
        return {n: {k: c for k, c in v.items() if k != "params"} for n, v in method.init(jax.random.key(0), b).items()}

    made = statistics(batch)
    mean = method.game.row(batch, "neutral").mean(axis=0)
    for network in NETWORKS[:3]:
        assert set(made[network]) == {"statistics"}
        np.testing.assert_allclose(made[network]["statistics"]["flat"]["mean"], mean, rtol=1e-5)
    plain = method_of({**SMALL, "converter": {"width": 16, "depth": 2}})
    params = small.state.variables["converter"]["params"]
    driving, neutral = (method.game.row(batch, role) for role in ("driving", "neutral"))
    found = method.game.convert({"converter": {"params": params, **made["converter"]}}, driving, neutral)
    wanted = plain.game.convert({"converter": {"params": params}}, driving - mean[None], neutral - mean[None])
    np.testing.assert_allclose(found.offset, wanted.offset, atol=1e-5)


def test_missing_optimisers_are_named() -> None:
    for network in NETWORKS:
        optim = {n: RULE for n in NETWORKS if n != network}
        with pytest.raises(UserError, match=rf"config\.optim\.{network} is missing"):
            method_of().players(optim)


def test_every_owned_leaf_gets_a_gradient(small: Started) -> None:
    """All but biases that an instance norm takes out again."""
    assert method_of().generator.bias_with_norm

    def zero(name: str) -> bool:
        network, *_, layer, leaf = name.split("/")
        if leaf != "bias" or network not in ("generator", "discriminator"):
            return False
        free = {"generator": ("last",), "discriminator": ("conv_0", "conv_2")}
        return layer not in free[network]

    for active in (FIRST, SECOND):
        check_gradients(with_plain_steps(small), active, zero)


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    check_bfloat16(small, method_of(dtype="bfloat16"), optimisers(RULE), SECOND)


def test_remat_computes_every_block_again(small: Started) -> None:
    def program(method: FReeNet) -> str:
        players = method.players(optimisers(RULE))
        step = functools.partial(train_step, method, players, active=SECOND, frozen={})
        return str(jax.make_jaxpr(step)(small.state, small.batch))

    assert program(method_of(remat=True)).count("remat") >= SMALL["generator"]["blocks"]
    assert "remat" not in program(method_of())


def test_overfits_one_batch(small: Started) -> None:
    check_overfits(small, FIRST, "converter/pixel", steps=60)
    check_overfits(small, SECOND, "generator/l1", steps=60)


def test_one_device_equals_eight() -> None:
    generator = {**SMALL["generator"], "blocks": 1, "landmark_every": 1, "residual": False}
    stages = {"converter_stop": 0, "generator_start": 0}
    values = {**SMALL, "converter": {"width": 16, "depth": 1}, "generator": generator, "stages": stages}
    with jax.default_prng_impl("rbg"):  # whose draws compile several times faster
        check_one_device_equals_eight(method_of(values), optimisers(optax.sgd(1e-4)), acted(8), steps=2)


def test_discriminators_judge_what_the_converter_made_before_its_move(small: Started) -> None:
    """Its landmarks come through the step, and the discriminators' move does not change what it was told."""
    _, _, state, step, batch = small
    _, both = step(state, batch, FIRST)
    game = small.method.game
    made = game.convert(state.variables, game.row(batch, "driving"), game.row(batch, "neutral")).landmarks
    scores = [
        game.realism_discriminator.apply(state.variables["realism_discriminator"], x)
        for x in (game.row(batch, "truth"), made)
    ]
    wanted = (jnp.mean((scores[0] - 1) ** 2) + jnp.mean(scores[1] ** 2)) / 2
    assert float(both["landmark_discriminators/realism"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(both["converter/fool_realism"]) == pytest.approx(0.1 * float(jnp.mean((scores[1] - 1) ** 2)), rel=1e-5)


def test_triplets_compare_expressions_of_one_person() -> None:
    features = {"relu1_2": jnp.stack([jnp.full((2, 2, 1), v) for v in (0.0, 1.0, 1.0, 3.0, 3.0, 3.0)])}
    near, far = triplet_distances(features, 2)
    assert float(near["relu1_2"]) == pytest.approx((1 + 4) / 2)
    assert float(far["relu1_2"]) == pytest.approx((9 + 4) / 2)
    assert float(triplet_loss(jnp.array(1.0), jnp.array(1.2), 0.3)) == pytest.approx(-0.2)
    assert float(triplet_loss(jnp.array(1.0), jnp.array(1.4), 0.3)) == 0
    gradient = jax.grad(lambda x: triplet_loss(x, jnp.array(1.4), 0.3))(jnp.array(1.0))
    assert float(gradient) == 0


def test_terms_of_small_models() -> None:
    """All are zero for a perfect picture and weigh what the config says; boxes are those of the driving landmarks."""
    weights = {"gradient": 2.0, "ssim": 1.0, "mouth": 4.0, "eyes": 1.0}
    game = method_of({**SMALL, "losses": {"triplet": 0.0, **weights}}).game
    batch = acted()
    wanted = as_floats(batch)["driving"] / 2 + 0.5
    terms = jax.jit(game._small_terms)
    assert set(terms(wanted, wanted, batch)) == set(weights)
    assert all(abs(float(v)) < 1e-5 for v in terms(wanted, wanted, batch).values())
    assert float(terms(wanted + 0.1, wanted, batch)["mouth"]) == pytest.approx(0.4, rel=1e-4)
    assert float(terms(wanted + 0.1, wanted, batch)["gradient"]) == pytest.approx(0, abs=1e-5)


def test_an_untrained_converter_is_remarked_on() -> None:
    method = method_of()
    assert method.remarks({"generator/converter_error": 3.0}) == ()
    assert method.remarks({"generator/converter_error": 90.0, "converter/error": 80.0}) == ()
    (remark,) = method.remarks({"generator/converter_error": 90.0})
    assert "--warm-start" in remark


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": 98}, r"config\.model\.points=98: there are 68 and 106"),
        ({"points": 106, "losses": {"mouth": 1.0}}, r"mouth and eyes need config\.model\.points=68"),
        ({"generator": {"block": 1}}, r"config\.model\.generator\.block is no key .*landmark_every"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_mapping(FReeNet, values)


def test_preview_and_reenactment(small: Started) -> None:
    """Sheets and animation have the right columns, shapes and ranges; direct motion is the forward pass."""
    method, state = small.method, small.state
    floats = as_floats(small.batch)
    shown = jax.jit(method.preview)(state.variables, floats)
    columns = {"source", "driving", "other", "landmarks", "prediction", "target", "converted", "reenacted"}
    assert set(shown) == columns
    for name, picture in shown.items():
        assert picture.shape == floats["source"].shape, name
        assert float(jnp.abs(picture).max()) <= 1 + 1e-6, name

    drive = VideoDrive(floats["driving"], floats["landmarks_driving"])
    own = Source(floats["source"][:1], floats["landmarks_source_neutral"][:1])
    made = method.reenactor(state.variables, own, mode="direct")(drive)
    assert made.shape == floats["driving"].shape
    np.testing.assert_allclose(made[0], shown["prediction"][0], atol=2e-5)
    other = Source(floats["other"][:1], floats["landmarks_other_neutral"][:1])
    made = method.reenactor(state.variables, other, mode="absolute")(drive)
    np.testing.assert_allclose(made[0], shown["reenacted"][0], atol=2e-5)


def test_a_converter_alone_shows_landmarks(tmp_path: Path) -> None:
    """It is driven by nothing, so that a training draws its sheet and no clip."""
    method = method_of({**SMALL, "stages": {}})
    assert not method.drives
    assert method_of().drives == {"video"}
    batch = as_floats(acted())
    variables: Any = drawn(jax.eval_shape(method.init, jax.random.key(0), {}))
    shown = jax.jit(method.preview)(variables, batch)
    assert set(shown) == {"source", "driving", "other", "neutral", "prediction", "target"}
    assert {x.shape for x in shown.values()} == {batch["source"].shape}
    assert float(jnp.abs(shown["target"] - shown["neutral"]).max()) > 0
    source = Source(batch["source"][:1], batch["landmarks_driving"][:1])
    with pytest.raises(UserError, match="second stage"):
        method.reenactor(variables, source, mode="absolute")
    host = {name: np.asarray(rows) for name, rows in acted().items()}
    engine = Engine.build(method, method.players(optimisers(RULE)), make_mesh(1, 1), host, seed=0)
    state = create_state(method, (), 0, batch, warm_start=lambda _: variables)
    writers = Writers(tmp_path, {"wandb": {"mode": "disabled"}}, 0)
    Validator(engine, [host], host["source"], 25.0, host["landmarks_driving"]).draw(state, 1, writers)
    writers.close()
    assert {path.suffix for path in (tmp_path / "samples").iterdir()} == {".png", ".txt"}


def test_dense_layers_compute_with_all_digits() -> None:
    """On every device; their kernels are drawn from a whole normal distribution."""
    network, x = Perceptron((400, 400)), jnp.zeros((1, 400))
    variables: Any = network.init(jax.random.key(0), x)
    program = str(jax.make_jaxpr(network.apply)(variables, x))
    assert program.count("dot_general") == 2
    assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == 2
    kernel = variables["params"]["dense_0"]["kernel"] * 20  # of deviation 1
    assert float(kernel.std()) == pytest.approx(1, rel=0.01)
    assert float(jnp.abs(kernel).max()) > 3  # a normal that is cut ends at 2.3 deviations
