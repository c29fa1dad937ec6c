"""ReenactGAN as a method: what every method must keep, and its three stages."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import reenactgan as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import create_state, due, train_step
from reenax.core.types import PoseDrive, Source, VideoDrive, param_count
from reenax.methods.reenactgan import ReenactGAN
from reenax.methods.reenactgan.boundaries import boundary_maps, picture_of, to_pixels
from reenax.methods.reenactgan.encoder_game import landmarks_of
from reenax.methods.reenactgan.shape import fresh_shape
from reenax.methods.reenactgan.transformer import BoundaryTransformer, TransformerParams
from reenax.train.engine import Engine
from reenax.train.runs import make_method
from reenax.train.sharding import make_mesh, put_batch
from tests.methods.contracts import (
    SIZE,
    Started,
    as_floats,
    check_gradients,
    drawn,
    make_batch,
    moved,
    step_of,
)

SMALL: dict[str, Any] = {
    "people": ("her", "him", "them"),
    "size": SIZE,
    "encoder": {"stacks": 1, "depth": 1, "features": 4},
    "aligner": {"widths": (4, 4), "hidden": 8},
    "transformer": {"features": 4, "blocks": 1, "kernel_size": 3},
    "decoder": {"features": 4, "levels": 2, "dropout": (2,)},
    "discriminators": {"features": 4, "layers": 1, "map_features": 4, "map_layers": 1},
    "losses": {"perceptual": 0.0},
    "affine": {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "mirror": 0.0},
    "stages": {"encoder_stop": None},  # everybody on every step
}
ENCODING, CYCLING, PAINTING = ("encoder",), ("map_discriminators", "transformers"), ("discriminator", "decoder")
PLAYERS = ENCODING + CYCLING + PAINTING
OWNED = {
    "encoder": {"encoder", "aligner"},
    "map_discriminators": {"target_discriminator", "other_discriminators"},
    "transformers": {"transformer", "inverse_transformers"},
    "discriminator": {"discriminator"},
    "decoder": {"decoder"},
}


def method_of(**changes: Any) -> ReenactGAN:
    return from_mapping(ReenactGAN, {**SMALL, **changes})


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(PLAYERS, rule)


# the rate is part of the state, so that one program serves rates of 0 and others
RULE = optax.inject_hyperparams(optax.adam)(learning_rate=3e-3, b1=0.5)


def people(count: int = 2, others: int = 2) -> dict[str, jax.Array]:
    """Pictures of three people, and landmarks that are spread over the middle of each."""
    pictures = make_batch(count=count * (1 + others))["source"].reshape(count, 1 + others, SIZE, SIZE, 3)
    landmarks = jax.random.uniform(jax.random.key(3), (count, 1 + others, 68, 2), minval=-0.6, maxval=0.6)
    return {"frames": pictures, "landmarks": landmarks}


def fresh(method: ReenactGAN, batch: dict[str, jax.Array]) -> Any:
    """Variables that are drawn on the host: to compile a hundred draws takes long. The shape begins as it does."""
    variables = drawn(jax.eval_shape(method.init, jax.random.key(0), as_floats(batch)))
    variables["aligner"]["shape"] = dict(fresh_shape(method.aligner))
    return variables


@pytest.fixture(scope="module")
def small() -> Started:
    method, batch = method_of(), people()
    players = method.players(optimisers(RULE))
    begin = jax.jit(lambda b, v: create_state(method, players, 0, b, warm_start=lambda _: v))
    state = with_rates(begin(batch, fresh(method, batch)), dict.fromkeys(PLAYERS, 3e-3))
    return Started(method, players, state, step_of(method, players), batch)


def with_rates(state: Any, rates: dict[str, float]) -> Any:
    def changed(player: str, opt_state: Any) -> Any:
        rate = jnp.full((), rates.get(player, 0.0), jnp.float32)
        hyper = {**opt_state.hyperparams, "learning_rate": rate}
        return opt_state._replace(hyperparams=hyper)

    return state.replace(opt_states={p: changed(p, s) for p, s in state.opt_states.items()})


def with_plain_steps(started: Started) -> Started:
    """The same program, as if it were of SGD at rate 1: Adam's first moment holds the first gradient."""

    def step(state: Any, batch: Any, active: tuple[str, ...]) -> Any:
        after, metrics = started.step(state, batch, active)
        first = {n: g for p in active for n, g in after.opt_states[p].inner_state[0].mu.items()}
        params = {n: jax.tree.map(lambda x, g: x - 2 * g, v, first[n]) for n, v in state.params.items()}
        return after.replace(params=params), metrics

    return started._replace(step=step)


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name: str) -> None:
    config = configs.get_config(name)
    method: Any = make_method(config)
    playing = [p.name for p in method.players({n: optax.sgd(0.1) for n in config.optim})]
    stages = {"encoder256": ENCODING, "transformer256": CYCLING, "decoder256": PAINTING, "published256": PAINTING}
    assert playing == list(stages.get(name, PLAYERS))
    assert method.fields == ({"frames", "landmarks"} if "encoder" in playing else {"frames"})
    assert set(method.frozen) == ({"vgg16"} if playing == list(PAINTING) else set())
    assert method.size == config.data.size
    assert method.people == tuple(config.data.people)


def test_published_settings() -> None:
    """The table of the published training, and the sizes of the networks."""
    maps, target = configs.get_config("transformer256"), configs.get_config("decoder256")
    assert (maps.batch_size, maps.steps, maps.optim.transformers.lr) == (4, 500_002, 5e-5)
    judge = maps.optim.map_discriminators
    assert (judge.lr, judge.b1, judge.b2, judge.l2) == (2.5e-5, 0.5, 0.999, 1e-4)
    assert (target.batch_size, target.epochs, target.lr) == (16, 150, 2e-4)
    assert 40_000 // 128 * target.repeats // target.batch_size == 2496  # steps of an epoch of 40,000 frames in clips
    assert (maps.model.transformer.norm, maps.model.discriminators.norm) == ("sample", "sample")
    assert target.model.discriminators.norm == "batch"
    assert (target.optim.decoder.hold, target.optim.decoder.decay, target.optim.decoder.period) == (98, 51, 0)
    shapes = jax.eval_shape(ReenactGAN().init, jax.random.key(0), {"frames": jnp.zeros((1, 5, 8, 8, 3))})
    assert {n: param_count(v["params"]) for n, v in shapes.items() if n != "aligner"} == {
        "encoder": 6_730_142,
        "transformer": 11_458_703,
        "inverse_transformers": 4 * 11_458_703,
        "target_discriminator": 2_777_921,
        "other_discriminators": 4 * 2_777_921,
        "decoder": 54_433_488,
        "discriminator": 2_780_993,
    }


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_hyper_parameter_can_be_set_from_the_command_line(name: str) -> None:
    def keys(value: Any) -> Any:
        nested = value.to_dict() if hasattr(value, "to_dict") else value
        if dataclasses.is_dataclass(nested):
            return {f.name: keys(getattr(nested, f.name)) for f in dataclasses.fields(nested)}
        return {k: keys(v) for k, v in nested.items()} if isinstance(nested, dict) else None

    assert {**keys(configs.get_config(name).model), "dtype": None, "remat": None} == keys(ReenactGAN())


def test_a_decoder_alone_learns_one_person() -> None:
    stages = {"encoder_stop": 0, "transformer_start": None}
    rules = optimisers(optax.sgd(0.1))
    for people in ((), ("her", "him")):
        with pytest.raises(
            UserError, match=rf"config\.data\.people=.* names {len(people)} people.*target's name alone"
        ):
            method_of(stages=stages, people=people).players(rules)
    assert [p.name for p in method_of(stages=stages, people=("her",)).players(rules)] == list(PAINTING)
    assert [p.name for p in method_of(stages={}).players(rules)] == list(CYCLING + PAINTING)


def test_the_people_name_the_target() -> None:
    config = configs.get_config("synth64")
    config.data.people = ("a", "b")
    assert make_method(config).portrays == "a"
    assert not method_of(people=()).portrays


def test_stages_say_who_moves_when() -> None:
    def names(steps: range, **stages: int | None) -> list[tuple[str, ...]]:
        players = method_of(stages=stages, people=("her",)).players(optimisers(optax.sgd(0.1)))
        return [due(players, step) for step in steps]

    assert names(range(2), encoder_stop=1, transformer_start=1, decoder_start=1) == [ENCODING, CYCLING + PAINTING]
    assert names(range(1), transformer_start=None, decoder_start=None, encoder_stop=None) == [ENCODING]
    assert names(range(1), transformer_start=None) == [PAINTING]
    with pytest.raises(UserError, match="leaves nothing to train"):
        names(range(1), transformer_start=None, decoder_start=None)


def test_stages_need_no_networks_of_each_other() -> None:
    def networks(**stages: int | None) -> set[str]:
        batch = {"source": jnp.zeros((1, SIZE, SIZE, 3))}
        return set(jax.eval_shape(method_of(stages=stages).init, jax.random.key(0), batch))

    always = {"encoder", "aligner", "transformer", "decoder"}
    assert networks(transformer_start=None, decoder_start=None, encoder_stop=None) == always
    assert networks(transformer_start=None) == always | {"discriminator"}
    assert networks(decoder_start=None) == always | OWNED["map_discriminators"] | OWNED["transformers"]


def test_each_player_moves_only_what_it_owns(small: Started) -> None:
    assert {p.name: set(p.owns) for p in small.players} == OWNED
    for player in PLAYERS:
        state = with_rates(small.state, {player: 1e-2})
        after, metrics = small.step(state, small.batch, PLAYERS)
        assert moved(state.params, after.params) == OWNED[player], player
    judges = {n for n in set().union(*OWNED.values()) if n.endswith(("discriminator", "discriminators"))}
    assert moved(small.state.collections, after.collections) == set().union(*OWNED.values()) - judges
    assert {"encoder/maps_0", "encoder/align", "transformers/cycle", "transformers/shape", "decoder/l1"} < set(metrics)
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_every_owned_leaf_gets_a_gradient(small: Started) -> None:
    """All but biases in front of a norm."""

    def zero(name: str) -> bool:
        *_, layer, leaf = name.split("/")
        inside = layer in ("conv1", "conv2", "fc_0", "fc_1") and name.startswith("encoder")
        return leaf == "bias" and inside

    check_gradients(with_plain_steps(small), PLAYERS, zero)


def test_losses_are_weighted_sums_of_their_terms(small: Started) -> None:
    _, metrics = small.step(small.state, small.batch, PLAYERS)
    for player in PLAYERS:
        own = {k.split("/")[1]: float(v) for k, v in metrics.items() if k.startswith(player + "/")}
        terms = [v for k, v in own.items() if k not in ("loss", "grad_norm")]
        assert own["loss"] == pytest.approx(sum(terms), rel=1e-4), player


def test_the_shape_runs_along(small: Started) -> None:
    after, _ = small.step(small.state, small.batch, PLAYERS)
    before, shape = (s.collections["aligner"]["shape"] for s in (small.state, after))
    assert float(jnp.abs(shape["mean"] - before["mean"]).max()) > 0
    np.testing.assert_allclose(shape["bias"], -shape["mean"] @ shape["weight"], rtol=1e-4, atol=1e-4)


def test_a_residual_transformer_starts_from_the_maps_as_they_are() -> None:
    transformer = BoundaryTransformer(TransformerParams(features=4, blocks=1, kernel_size=3, residual=True))
    maps = jax.random.uniform(jax.random.key(2), (2, 8, 8, 15), minval=-0.1, maxval=1.1)
    variables = transformer.init(jax.random.key(0), maps, train=False)
    made: Any = transformer.apply(variables, maps, train=False)
    np.testing.assert_array_equal(made, maps)
    learned: Any = transformer.apply(jax.tree.map(lambda x: x + 0.01, variables), maps, train=False)
    assert float(jnp.abs(learned - made).max()) > 1e-3


def test_scales_of_all_norms_begin_near_one() -> None:
    """N(1, 0.02), whoever they normalise."""
    method = method_of(transformer={**SMALL["transformer"], "norm": "sample"}, discriminators={"norm": "sample"})
    maps = jnp.zeros((1, 32, 32, 15))
    for network in (method.game.transforming.transformer, method.game.transforming.discriminator):
        params = network.init(jax.random.key(0), maps, train=False)["params"]
        scales = [
            np.asarray(v) for path, v in jax.tree.leaves_with_path(params) if "scale" in jax.tree_util.keystr(path)
        ]
        found = np.concatenate(scales)
        assert 0.001 < found.std() < 0.06
        assert abs(found.mean() - 1) < 0.03


def test_overfits_one_batch(small: Started) -> None:
    """The maps, the landmarks in them, the maps that come back and the picture."""
    state, learned = with_rates(small.state, dict.fromkeys(PLAYERS, 1e-2)), []
    for _ in range(60):
        state, metrics = small.step(state, small.batch, PLAYERS)
        learned.append({k: float(metrics[k]) for k in ("encoder/align", "transformers/cycle", "decoder/l1")})
    for name, first in learned[0].items():
        least = min(values[name] for values in learned)
        assert least < 0.9 * first, (name, first, least)


def test_one_device_equals_eight() -> None:
    """The game of pictures, with its warps and dropped units."""
    method = method_of(stages={"encoder_stop": 0, "transformer_start": None}, affine={}, people=("her",))
    players = method.players(optimisers(optax.sgd(1e-3)))
    rows = {k: np.asarray(v) for k, v in people(8, 1).items()}
    variables, results = fresh(method, people(8, 1)), []
    for devices in (1, 8):
        mesh = make_mesh(devices, 1, jax.devices()[:devices])
        engine = Engine.build(method, players, mesh, rows, seed=0, warm_start=lambda _: variables)
        state, metrics = engine.step(engine.fresh_state(rows), put_batch(rows, engine.mesh), 0)
        results.append(jax.device_get((metrics, state.params, state.collections)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *results)


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    """Looked at without compiling: types of the state and of the metrics."""
    rounded = method_of(dtype="bfloat16")
    players = rounded.players(optimisers(RULE))
    step = functools.partial(train_step, rounded, players, active=PLAYERS, frozen={})
    after, metrics = jax.eval_shape(step, small.state, small.batch)
    kinds = {x.dtype for x in jax.tree.leaves((after.params, after.collections, after.opt_states))}
    assert kinds <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert {v.dtype for v in metrics.values()} == {jnp.dtype("float32")}
    assert "bf16" in str(jax.make_jaxpr(step)(small.state, small.batch))


def test_preview_and_reenactment(small: Started) -> None:
    variables, floats = small.state.variables, as_floats(small.batch)
    shown = jax.jit(small.method.preview)(variables, floats)
    theirs = {"other", "their_boundaries", "turned_boundaries", "driven"}
    assert set(shown) == {"boundaries", "prediction", "target", *theirs}
    for name, picture in shown.items():
        assert picture.shape == floats["frames"][:, 0].shape, name
        assert float(jnp.abs(picture).max()) <= 1 + 1e-6, name
    alone = jax.eval_shape(small.method.preview, variables, {"source": floats["frames"][:, 0]})
    assert set(alone) == {"boundaries", "prediction", "target"}
    anybody = Source(jnp.zeros((1, SIZE, SIZE, 3)))
    drive = VideoDrive(floats["frames"][:, 1])
    made = small.method.reenactor(variables, anybody)(drive)
    np.testing.assert_allclose(made, shown["driven"], atol=2e-5)
    target = small.method.reenactor(variables, anybody, transform=False)(VideoDrive(floats["frames"][:, 0]))
    np.testing.assert_allclose(target, shown["prediction"], atol=2e-5)


def test_a_stage_alone_is_measured_by_its_own_networks(small: Started) -> None:
    """Of the encoder's and of the transformers' stage: the other networks change nothing."""
    variables, floats = small.state.variables, as_floats(small.batch)

    def shown(moved: str, scale: float = 1.0, **stages: int | None) -> dict[str, np.ndarray]:
        changed = {**variables, moved: jax.tree.map(lambda x: scale * x, variables[moved])}
        made = method_of(stages=stages).preview(changed, floats)
        return {name: np.asarray(picture) for name, picture in made.items()}

    encoding: Any = {"encoder_stop": None, "transformer_start": None, "decoder_start": None}
    cycling: Any = {"encoder_stop": 0, "decoder_start": None}
    for stages, own, other in ((encoding, "encoder", "transformer"), (cycling, "transformer", "decoder")):
        first = shown(own, **stages)
        assert all(p.shape == floats["frames"][:, 0].shape and abs(p).max() <= 1 for p in first.values())
        for scale, network, same in ((3.0, own, False), (3.0, other, True)):
            then = shown(network, scale, **stages)
            assert np.array_equal(then["prediction"], first["prediction"]) == same, network
            np.testing.assert_array_equal(then["target"], first["target"])
    points = to_pixels(floats["landmarks"][:, 0], SIZE, SIZE // 4)
    expected = picture_of(boundary_maps(points, SIZE // 4), SIZE)
    np.testing.assert_allclose(shown("encoder", **encoding)["target"], expected, atol=0.2)


def test_each_picture_may_be_normalised_by_itself(small: Started) -> None:
    """With the option no other frame of the batch changes a picture; dropping units changes it."""
    variables, frames = small.state.variables, as_floats(small.batch)["frames"][0]
    run = small.method.reenactor(variables, Source(frames[:1]), batch_statistics=True)
    alone = [run(VideoDrive(frames[i : i + 1]))[0] for i in range(2)]
    np.testing.assert_allclose(run(VideoDrive(frames[:2])), jnp.stack(alone), atol=2e-5)
    plain = small.method.reenactor(variables, Source(frames[:1]))(VideoDrive(frames[:1]))
    dropped = small.method.reenactor(variables, Source(frames[:1]), dropout=True)(VideoDrive(frames[:1]))
    assert float(jnp.abs(plain - dropped).max()) > 1e-3
    assert float(jnp.abs(plain[0] - alone[0]).max()) > 1e-3


def test_refusals(small: Started) -> None:
    variables, source = small.state.variables, Source(jnp.zeros((1, SIZE, SIZE, 3)))
    with pytest.raises(UserError, match="driven by video, not by pose"):
        small.method.reenactor(variables, source)(PoseDrive(jnp.zeros((1, 3))))
    for player in PLAYERS:
        with pytest.raises(UserError, match=rf"config\.optim\.{player} is missing"):
            small.method.players({n: RULE for n in PLAYERS if n != player})
    one = {"source": small.batch["frames"][:, 0], "landmarks": small.batch["landmarks"][:, 0]}
    with pytest.raises(UserError, match="at least one other person"):
        jax.eval_shape(lambda s, b: step_of(small.method, small.players)(s, b, CYCLING), small.state, one)
    with pytest.raises(UserError, match=r"learns from landmarks: set config\.data\.labels"):
        landmarks_of({"source": one["source"]})
    with pytest.raises(UserError, match=r"config\.model\.stages\.encoder_stops is no key"):
        method_of(stages={"encoder_stops": 1})
