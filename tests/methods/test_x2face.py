"""X2Face as a method: what every method must keep, its two stages, its maps, and driving by anything."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import x2face as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import due, train_step
from reenax.core.types import AudioDrive, LabelDrive, PoseDrive, Source, VideoDrive, param_count
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.sampling import grid_sample
from reenax.methods.x2face import X2Face, game
from reenax.methods.x2face.networks import OF_CODE, Embedded
from reenax.train.config import override
from reenax.train.runs import make_method
from tests.methods.contracts import (
    Started,
    as_floats,
    check_bfloat16,
    check_gradients,
    check_one_device_equals_eight,
    check_overfits,
    check_preview_and_reenactment,
    check_refusals,
    make_batch,
    moved,
    start,
)

SMALL: dict[str, Any] = {
    "size": {"features": 4, "levels": 3, "vector": 8, "scale_init": "normal", "last_gain": 0.3},
    "content": {"same": ("a", "b"), "other": ("b",)},
    "sound": {"frame": 1600, "hop": 800, "bands": 4},
    "stages": {"maps_start": 0},
    "losses": {
        "canonical": 0.01,
        "canonical_points": (0.0, 0.1, -0.2, 0.3),
        "landmarks": 0.01,
        "landmark_points": (30, 8),
    },
}
SIDE = 8
MAPS = ("pose_from_vector", "vector_from_pose", "vector_from_audio")
LARGE = {"embedder", "driver", "landmark_head"}
RULE = optax.adam(5e-3, b1=0.5)


def method_of(values: dict[str, Any] = SMALL, **changes: Any) -> X2Face:
    return dataclasses.replace(from_mapping(X2Face, values), **changes)


def optimisers(rule: optax.GradientTransformation = RULE) -> dict[str, optax.GradientTransformation]:
    return {"photometric": rule}


def labelled(count: int = 2) -> dict[str, jax.Array]:
    """Pictures with landmarks of the mean head, poses and sound of both frames."""
    random, labels = np.random.default_rng(0), {}
    for name in ("source", "driving"):
        labels[f"{name}_landmarks_mean"] = jnp.asarray(random.uniform(-0.5, 0.5, (count, 68, 2)), jnp.float32)
        labels[f"{name}_pose"] = jnp.asarray(random.normal(size=(count, 6)), jnp.float32)
        labels[f"{name}_audio"] = jnp.asarray(random.integers(-9000, 9000, (count, 3200)), jnp.int16)
    return make_batch(SIDE, count) | labels


def two_layers(kind: str, variables: Any, taps: tuple[str, ...], dtype: Any = None) -> Any:
    """In place of a network of faces: pictures at half and at a quarter of the size."""

    def features(x: jax.Array) -> dict[str, jax.Array]:
        sides = {"a": x.shape[1] // 2, "b": x.shape[1] // 4}
        return {n: jax.image.resize(x, (x.shape[0], sides[n], sides[n], 3), "linear") for n in taps}

    return features


@pytest.fixture(scope="module", autouse=True)
def _no_network_of_faces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(game, "face_features", two_layers)
        yield


@pytest.fixture(scope="module")
def small() -> Started:
    return start(method_of(), optimisers(), labelled())


@pytest.fixture(scope="module")
def fitted(small: Started) -> Any:
    """Variables with maps, after one step of their players, and its metrics."""
    after, metrics = small.step(small.state, small.batch, MAPS)
    return after, metrics


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name: str) -> None:
    config = configs.get_config(name)
    method: Any = make_method(config)
    batch = {k: jnp.zeros((1, config.data.size, config.data.size, 3)) for k in ("source", "driving")}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    players = [p.name for p in method.players({n: optax.sgd(0.1) for n in config.optim})]
    wanted = {"vox256_content": ["photometric", "content"]}.get(name, ["photometric"])
    wanted = ["photometric", *MAPS] if name == "synth64" else wanted
    assert players == (list(MAPS) if name.endswith("maps") else wanted)
    assert set(method.frozen) == ({"vggface11"} if name == "vox256_content" else set())
    assert method.fields == ({"frames", "pose", "audio"} if MAPS[0] in players else {"frames"})
    assert method.fields - {"frames"} <= set(config.data.labels)
    if name.startswith("vox"):
        assert (counts["embedder"], counts["driver"]) == (39_157_760, 25_614_080)
        assert {n: counts[n] for n in MAPS} == {
            "pose_from_vector": 128 * 3 + 3,
            "vector_from_pose": 128 * 3 + 2 * 128,
            "vector_from_audio": 256 * 128 + 128,
        }
        assert (config.batch_size, config.data.size) == (16, 256)
    else:
        assert sum(counts.values()) < 6_000_000


def test_published_settings() -> None:
    for name in ("vox256", "vox256_content"):
        settings = configs.get_config(name).optim.photometric
        assert (settings.kind, settings.lr, settings.momentum, settings.schedule) == ("sgd", 1e-3, 0.9, "constant")
    config = configs.get_config("vox256_content")
    assert config.optim.content.lr == 1e-4
    content = make_method(config).content  # pyright: ignore[reportAttributeAccessIssue]
    assert (content.same_share, content.other_share) == (1.0, 0.1)
    assert not any(config.data.jitter.values())


def test_stages_say_who_moves_when() -> None:
    def names(steps: range, **stages: int | None) -> list[tuple[str, ...]]:
        optim = {**optimisers(), "content": RULE}
        return [due(method_of({**SMALL, "stages": stages}).players(optim), step) for step in steps]

    assert names(range(2)) == [("photometric",)] * 2
    both = names(range(4), photometric_stop=2, content_start=2)
    assert both == [("photometric",), ("photometric",), ("content",), ("content",)]
    assert names(range(1), photometric_stop=0, maps_start=0) == [MAPS]
    with pytest.raises(UserError, match="leaves nothing to train"):
        names(range(1), photometric_stop=0)


def test_each_player_moves_only_what_it_owns(small: Started, fitted: Any) -> None:
    after, metrics = fitted
    assert moved(small.state.params, after.params) == set(MAPS)
    assert not moved(small.state.collections, after.collections)
    assert set(metrics) == {f"{name}/{term}" for name in MAPS for term in ("loss", "deviation")}
    after, metrics = small.step(small.state, small.batch, ("photometric",))
    assert moved(small.state.params, after.params) == LARGE
    assert moved(small.state.collections, after.collections) == {"embedder", "driver"}
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())
    second = method_of({**SMALL, "stages": {"content_start": 0}}).players({"photometric": RULE, "content": RULE})[1]
    assert set(second.owns) == LARGE


def content_of(small: Started, **content: Any) -> tuple[dict[str, float], float]:
    """The second stage's metrics, and the slope of its loss where the driving network's last kernel grows."""
    method = method_of({**SMALL, "content": {**SMALL["content"], **content}})
    variables, batch = {**small.state.variables, "vggface11": {}}, as_floats(small.batch)
    driver = variables["driver"]
    kernel = driver["params"]["up_1"]["kernel"]

    @jax.jit
    def run(kernel: jax.Array) -> Any:
        def loss(scale: jax.Array) -> Any:
            params = {**driver["params"], "up_1": {"kernel": scale * kernel}}
            given = {**variables, "driver": {**driver, "params": params}}
            out = method.game.content_loss(given, batch, jax.random.key(0), step=jnp.zeros((), int), shared=None)
            return out.loss, out.metrics

        return jax.value_and_grad(loss, has_aux=True)(jnp.ones(()))

    (loss, metrics), slope = run(kernel)
    return {"loss": float(loss), **{n: float(v) for n, v in metrics.items()}}, float(slope)


def test_content_terms_are_as_large_as_the_photometric_one(small: Started) -> None:
    """Each of two layers as large for the same person, a tenth for another; the layers' own distances are logged.

    Nothing flows through a ratio: constants that equal the ratios give the same slope.
    """
    m, slope = content_of(small)
    assert m["same_content"] == pytest.approx(2 * m["photometric"], rel=1e-4)
    assert m["other_content"] == pytest.approx(0.1 * m["photometric"], rel=1e-4)
    others = m["canonical"] + m["landmarks"]
    assert m["loss"] == pytest.approx(3.1 * m["photometric"] + others, rel=1e-4)
    ratio = {n: m["photometric"] / m[n] for n in ("same_a", "same_b", "other_b")}
    weights = {"same_weights": (ratio["same_a"], ratio["same_b"]), "other_weights": (0.1 * ratio["other_b"],)}
    fixed, same_slope = content_of(small, **weights)
    assert fixed["loss"] == pytest.approx(m["loss"], rel=1e-4)
    assert same_slope == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 1e-6


def test_the_other_driver_is_that_of_the_next_example(small: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one's is that of the first; what is compared with is the source."""
    batch, seen = as_floats(labelled(3)), []

    def spied(kind: str, variables: Any, taps: tuple[str, ...], dtype: Any = None) -> Any:
        features = two_layers(kind, variables, taps)
        return lambda x: seen.append(x) or features(x)

    monkeypatch.setattr(game, "face_features", spied)
    method, variables = small.method, {**small.state.variables, "vggface11": {}}
    method.game.content_loss(variables, batch, jax.random.key(0), step=jnp.zeros((), int), shared=None)
    sources, driving = game.frames_of(batch)
    forward = method.game.forward(variables, sources, driving)
    wanted = grid_sample(forward.embedded.face, forward.grid[jnp.asarray([1, 2, 0])])
    np.testing.assert_allclose(seen[2], wanted, atol=1e-5)
    np.testing.assert_array_equal(seen[3], sources[:, 0])


def test_weights_are_one_per_layer_and_batches_two_at_least(small: Started) -> None:
    with pytest.raises(UserError, match="same_weights has 1 numbers for 2 layers"):
        method_of({**SMALL, "content": {**SMALL["content"], "same_weights": (1.0,)}})
    one = {n: x[:1] for n, x in small.batch.items()}
    with pytest.raises(UserError, match="it needs batches of 2 or more"):
        content_of(small._replace(batch=one))


def test_networks_of_faces_and_their_layers_are_chosen_by_name() -> None:
    def frozen(**content: Any) -> Any:
        return method_of({"content": content, "stages": {"content_start": 5}}).frozen

    assert set(frozen()) == {"vggface11"}
    chosen = {"network": "vggmface", "same": ("relu2",), "other": ("relu5",)}
    assert frozen(**chosen)["vggmface"].kind == "vggmface"
    with pytest.raises(
        UserError, match=r"content\.network='vgg19' is unknown; use one of vggface, vggface11, vggmface"
    ):
        frozen(network="vgg19")
    with pytest.raises(UserError, match="vggface has no layer 'relu6'; it has conv1_1, relu1_1"):
        frozen(network="vggface", same=("relu6",))


def test_every_owned_leaf_gets_a_gradient(small: Started) -> None:
    def step(state: Any, batch: Any, active: tuple[str, ...]) -> Any:
        """Adam's first moment holds the first gradient: as if moved by SGD at rate 1."""
        after, metrics = small.step(state, batch, active)
        first = after.opt_states["photometric"][0].mu
        params = {
            n: jax.tree.map(lambda x, g: x - 2 * g, v, first[n]) if n in first else v for n, v in state.params.items()
        }
        return after.replace(params=params), metrics

    check_gradients(small._replace(step=step), ("photometric",), lambda name: False)


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    check_bfloat16(small, method_of(dtype="bfloat16"), optimisers(), ("photometric",))


def test_remat_computes_both_networks_again(small: Started) -> None:
    def program(method: X2Face) -> str:
        step = functools.partial(train_step, method, method.players(optimisers()), active=("photometric",), frozen={})
        return str(jax.make_jaxpr(step)(small.state, small.batch))

    assert program(method_of(remat=True)).count("remat") >= 2
    assert "remat" not in program(method_of())


def test_overfits_one_batch(small: Started) -> None:
    check_overfits(small, ("photometric",), "photometric/photometric", steps=80)


def test_one_device_equals_eight() -> None:
    with jax.default_prng_impl("rbg"):  # its draws compile several times faster
        check_one_device_equals_eight(method_of(), optimisers(optax.sgd(1e-3)), labelled(8), steps=2)


def test_preview_and_reenactment(small: Started) -> None:
    columns = {"source", "driving", "embedded", "embedding_grid", "driving_grid", "prediction", "target"}
    check_preview_and_reenactment(small, columns)


def test_refusals(small: Started) -> None:
    check_refusals(small, optimisers())
    variables, source = small.state.variables, Source(as_floats(small.batch)["source"][:1])
    run = small.method.reenactor(variables, source)
    with pytest.raises(UserError, match="no map pose_from_vector yet: fit the maps with"):
        run(PoseDrive(jnp.zeros((1, 3))))
    other = {**variables["pose_from_vector"], "params": {"kernel": jnp.ones((8, 3)), "bias": jnp.zeros(3)}}
    half = small.method.reenactor({**variables, "pose_from_vector": other}, source)
    with pytest.raises(UserError, match="no map vector_from_pose yet"):
        half(PoseDrive(jnp.zeros((1, 3))))
    with pytest.raises(UserError, match="no map vector_from_pose yet"):
        half(AudioDrive(jnp.zeros(3200), jnp.zeros(1)))
    with pytest.raises(UserError, match="x2face is driven by video or pose or audio, not by labels"):
        run(LabelDrive(jnp.zeros((1, 3))))
    with pytest.raises(UserError, match=r"overlay is \[4, 4, 4\]; RGBA pictures of \[8, 8, 4\]"):
        small.method.reenactor(variables, source, overlay=jnp.zeros((4, 4, 4)))
    with pytest.raises(UserError, match="view must be one of result, embedded"):
        small.method.reenactor(variables, source, view="face")
    with pytest.raises(UserError, match="levels=3 is for pictures of 8x8, not of 64x64"):
        jax.eval_shape(small.method.init, jax.random.key(0), as_floats(make_batch(64)))


def test_the_source_in_its_own_pose_and_at_its_own_sound_is_itself(small: Started, fitted: Any) -> None:
    """Driven by the source frame, by the pose that P reads from it, and by the sound that it is seen with."""
    variables, networks = fitted[0].variables, small.method.game.networks
    frames = as_floats(small.batch)["source"][:1]
    waveform = jnp.asarray(np.random.default_rng(1).uniform(-0.3, 0.3, 8000), jnp.float32)
    sound = AudioDrive(waveform, jnp.asarray([0.25]))
    run = small.method.reenactor(variables, Source(frames), anchor=sound)
    own = run(sound)
    plain = small.method.reenactor(variables, Source(frames))
    still = plain(VideoDrive(frames))
    np.testing.assert_allclose(own, still, atol=2e-4)
    code = networks.codes(variables, networks.vectors(variables, (frames + 1) / 2))
    angles = jnp.zeros((1, 3)).at[:, jnp.asarray(OF_CODE)].set(code)
    np.testing.assert_allclose(plain(PoseDrive(angles)), still, atol=2e-4)
    np.testing.assert_allclose(plain(PoseDrive(angles.at[:, 0].set(jnp.nan))), still, atol=2e-4)
    # other poses and sounds are other pictures; relative poses begin with the source's own
    assert float(jnp.abs(plain(PoseDrive(angles + 3.0)) - still).max()) > 1e-3
    assert float(jnp.abs(run(AudioDrive(waveform, jnp.asarray([0.4]))) - still).max()) > 1e-5
    drive = PoseDrive(angles + 1.0)
    relative = small.method.reenactor(variables, Source(frames), anchor=drive, mode="relative")
    np.testing.assert_allclose(relative(drive), still, atol=2e-4)
    with pytest.raises(UserError, match="driven by audio, not by pose"):
        small.method.reenactor(variables, Source(frames), anchor=drive)(sound)


def test_what_is_laid_on_the_embedded_face_is_seen(small: Started) -> None:
    frames, variables = as_floats(small.batch)["source"], small.state.variables
    red = jnp.zeros((SIDE, SIDE, 4)).at[..., 0].set(1.0).at[..., 3].set(1.0)
    shown = small.method.reenactor(variables, Source(frames[:1]), overlay=red, view="embedded")(VideoDrive(frames))
    assert shown.shape == frames.shape
    np.testing.assert_allclose(shown, jnp.broadcast_to(2 * red[None, ..., :3] - 1, shown.shape), atol=1e-6)
    made = small.method.reenactor(variables, Source(frames[:1]), overlay=red)(VideoDrive(frames))
    assert float(made[..., 1:].max()) == -1  # nothing else is sampled
    assert float(made[:, 2:6, 2:6, 0].min()) > 0.9
    clear = small.method.reenactor(variables, Source(frames[:1]), overlay=red.at[..., 3].set(0.0))
    plain = small.method.reenactor(variables, Source(frames[:1]))
    np.testing.assert_array_equal(clear(VideoDrive(frames)), plain(VideoDrive(frames)))


def test_landmarks_belong_to_canonical_places(small: Started) -> None:
    """With grids that move nothing both distances are known; a landmark head that is zero is off by the landmarks."""
    method, batch = small.method, as_floats(small.batch)
    grid = jnp.broadcast_to(coordinate_grid(SIDE, SIDE)[None], (2, SIDE, SIDE, 2))
    face = jnp.zeros((2, SIDE, SIDE, 3))
    still = game.Forward(Embedded(face, grid[:, None], face[:, None, ..., :1]), jnp.zeros((2, 8)), grid, face, {})
    terms = method.game.picture_terms(small.state.variables, still, face, batch)
    places = jnp.asarray([[0.0, 0.1], [-0.2, 0.3]])[None]
    marks = [batch[f"{n}_landmarks_mean"][:, jnp.asarray([30, 8])] for n in ("source", "driving")]
    away = jnp.mean(jnp.stack([jnp.abs(m - places) for m in marks]))
    assert float(terms["canonical"]) == pytest.approx(0.01 * float(away), rel=1e-4)
    assert float(terms["landmarks"]) == pytest.approx(0.01 * float(jnp.abs(marks[1]).mean()), rel=1e-4)


def test_sources_are_weighed_as_in_training(small: Started) -> None:
    """Unless another bias is asked for; biases below 0 are refused."""
    frames, variables, large = as_floats(small.batch)["source"], small.state.variables, 1e3
    method = method_of(confidence_bias=large)

    def embedded(method: X2Face, **options: Any) -> jax.Array:
        return method.reenactor(variables, Source(frames), view="embedded", **options)(VideoDrive(frames[:1]))

    as_trained = embedded(method)
    np.testing.assert_array_equal(as_trained, embedded(method_of(), confidence_bias=large))
    assert float(jnp.abs(as_trained - embedded(method, confidence_bias=0.0)).max()) > 1e-4
    with pytest.raises(UserError, match=r"confidence_bias must be 0 or more, got -0\.1"):
        embedded(method, confidence_bias=-0.1)
    with pytest.raises(UserError, match=r"config\.model\.confidence_bias=-0\.1: give 0 or more"):
        method_of(confidence_bias=-0.1)


def test_what_examples_lack_is_named(small: Started) -> None:
    """Of a window, or of pairs without labels."""
    game_of, batch, variables = small.method.game, as_floats(small.batch), small.state.variables
    how: dict[str, Any] = {"step": jnp.zeros((), int), "shared": None}
    window = {"frames": jnp.stack([batch["source"], batch["driving"]], axis=1)}
    pictures = {name: batch[name] for name in ("source", "driving")}
    with pytest.raises(UserError, match=r"'source_landmarks_mean', .*sampler='pair' with 'landmarks_mean' among"):
        jax.eval_shape(lambda b: game_of.photometric_loss(variables, b, jax.random.key(0), **how), window)
    with pytest.raises(UserError, match=r"reads 'source_landmarks_mean', which the examples lack: use config\.data"):
        jax.eval_shape(lambda b: game_of.photometric_loss(variables, b, jax.random.key(0), **how), pictures)
    boxes = method_of({**SMALL, "losses": {"mouth": 1.0}}).game
    with pytest.raises(UserError, match="reads 'driving_landmarks'"):
        jax.eval_shape(lambda b: boxes.photometric_loss(variables, b, jax.random.key(0), **how), pictures)
    head = method_of({**SMALL, "losses": {"landmarks": 1.0, "landmark_points": (30, 8)}}).game
    with pytest.raises(UserError, match="reads 'driving_landmarks_mean'"):
        jax.eval_shape(lambda b: head.photometric_loss(variables, b, jax.random.key(0), **how), pictures)
    with pytest.raises(UserError, match="x2face reads 'source', which .*sampler='pair'$"):
        game_of.labelled_vectors(variables, window, "pose")
    with pytest.raises(UserError, match="reads 'source_audio'.* with 'audio' among"):
        game_of.labelled_vectors(variables, pictures, "audio")
    with pytest.raises(UserError, match="reads 'driving'"):
        game.frames_of({"source": batch["source"]})
    short = {**batch, **{f"{name}_audio": batch[f"{name}_audio"][:, :1600] for name in ("source", "driving")}}
    (sound,) = (player for player in small.players if player.name == "vector_from_audio")
    with pytest.raises(UserError, match=r"1600 samples of sound, .*window=0\.2 s are 3200: set config\.data\.audio_w"):
        sound.update.examples(variables, short)  # pyright: ignore[reportAttributeAccessIssue]


def test_maps_are_fitted_to_the_labels_that_there_are() -> None:
    def made(*labels: str) -> X2Face:
        return method_of({**SMALL, "stages": {"photometric_stop": 0, "maps_start": 0}, "maps": {"labels": labels}})

    assert made("pose").fields == {"frames", "pose"}
    assert tuple(p.name for p in made("pose").players({})) == MAPS[:2]
    assert made("audio").fields == {"frames", "audio"}
    assert tuple(p.name for p in made("audio").players({})) == MAPS[2:]
    with pytest.raises(UserError, match="maps are fitted to 'pose', 'audio' or both"):
        made("landmarks")
    config = override(configs.get_config("vox256_maps"), ["--config.data.labels=pose"])
    assert make_method(config).fields == {"frames", "pose"}


def test_several_sources_are_embedded_one_by_one(small: Started) -> None:
    """A window's last frame is the driving one; with several sources the reenactor averages them too."""
    picture = make_batch(SIDE)["source"]
    batch = {"frames": jnp.stack([picture] * 3, axis=1) / 127.5 - 1}
    sources, driving = game.frames_of(batch)
    assert (sources.shape, driving.shape) == ((2, 2, SIDE, SIDE, 3), (2, SIDE, SIDE, 3))
    forward = jax.eval_shape(small.method.game.forward, small.state.variables, sources, driving)
    assert forward.embedded.grid.shape == (2, 2, SIDE, SIDE, 2)
    assert forward.generated.shape == (2, SIDE, SIDE, 3)
    assert small.method.max_sources == 8
