"""Monkey-Net's ellipses and movement maps, transfer of motion, videos from one picture, and published checkpoints."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.step import train_step
from reenax.core.types import Player, Source, TrainState, VideoDrive
from reenax.interop.monkey_net import convert, module_name
from reenax.interop.published import tensor_entries
from reenax.interop.torch import to_state
from reenax.methods.monkey_net import MonkeyNet
from reenax.methods.monkey_net.embedding import Embedding, Keypoints, at_least, keypoints_of, smallest_eigenvalue
from reenax.methods.monkey_net.transfer import positive, relative_keypoints

SIZE = 32
HOURGLASS = {"block_expansion": 4, "num_blocks": 2, "max_features": 8, "scale_factor": 0.5}
SMALL: dict[str, Any] = {
    "num_kp": 4,
    "kp_detector": HOURGLASS,
    "generator": {
        "block_expansion": 4,
        "num_blocks": 3,
        "max_features": 16,
        "num_refinement_blocks": 1,
        "scale_factor": 0.5,
        "norm": 1.0,
        "dense_motion": {**HOURGLASS, "norm": 1.0},
    },
    "discriminator": {"block_expansion": 2, "num_blocks": 2, "max_features": 4},
    "predictor": {"features": 8},
}
METHOD = from_mapping(MonkeyNet, SMALL)
PREDICTING = from_mapping(MonkeyNet, {**SMALL, "stage": "prediction"})


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    """A source picture, an anchor and three driving frames, smooth enough for keypoints to spread."""
    coarse = jax.random.uniform(jax.random.key(1), (5, 6, 6, 3), minval=-1, maxval=1)
    return jax.image.resize(coarse, (5, SIZE, SIZE, 3), "cubic").clip(-1, 1)


@pytest.fixture(scope="module")
def variables() -> Any:
    """Of all networks; no statistic, scale, bias or kernel is left at its neutral start."""
    batch = {"source": jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
    windows = {"frames": jax.ShapeDtypeStruct((1, 3, SIZE, SIZE, 3), jnp.float32)}
    shapes: Any = {
        **jax.eval_shape(PREDICTING.init, jax.random.key(0), windows),
        **jax.eval_shape(METHOD.init, jax.random.key(0), batch),
    }
    random = np.random.default_rng(0)

    def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
        noise = random.normal(size=x.shape)
        if path[-1].key in ("scale", "var"):
            noise = 1 + 0.5 * np.abs(noise)
        else:
            noise = noise * (0.2 if x.ndim == 1 else 0.8 / np.sqrt(np.prod(x.shape[:-1])))
        return jnp.asarray(noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


def test_a_gaussian_s_ellipse_is_found():
    """Mean and covariance of a discrete Gaussian that lies inside the picture."""
    mean, covariance = jnp.asarray([0.2, -0.1]), jnp.asarray([[0.02, 0.008], [0.008, 0.01]])
    y, x = jnp.meshgrid(jnp.linspace(-1, 1, 64), jnp.linspace(-1, 1, 64), indexing="ij")
    offset = jnp.stack([x, y], axis=-1) - mean[None, None]
    heat = jnp.exp(-0.5 * jnp.einsum("ijm,mn,ijn->ij", offset, jnp.linalg.inv(covariance), offset))
    heat = (heat / heat.sum())[None, :, :, None]
    found = keypoints_of(heat)
    np.testing.assert_allclose(found.mean[0, 0], mean, atol=1e-3)
    np.testing.assert_allclose(found.covariance[0, 0], covariance, atol=5e-4)
    single = keypoints_of(heat, "single").covariance[0, 0]
    np.testing.assert_allclose(single, 0.015 * np.eye(2), atol=5e-4)
    np.testing.assert_allclose(keypoints_of(heat, 0.01).covariance[0, 0], 0.01 * np.eye(2), atol=1e-7)
    with pytest.raises(ValueError, match='"matrix", "single" or a number'):
        keypoints_of(heat, "both")


def test_small_ellipses_grow_as_a_whole():
    thin = jnp.asarray([[[1e-2, 0.0], [0.0, 1e-4]], [[2e-2, 0.0], [0.0, 1e-2]], [[1e-3, 1e-3], [1e-3, 1e-3]]])
    np.testing.assert_allclose(smallest_eigenvalue(thin)[:2], [1e-4, 1e-2], rtol=1e-5)
    grown = at_least(thin, 1e-3)
    np.testing.assert_allclose(grown[0], 10 * thin[0], rtol=1e-5)
    np.testing.assert_allclose(grown[1], thin[1], rtol=1e-5)
    # a line, and a circle, whose eigenvalues are equal: numbers and gradients stay finite
    circle = jnp.asarray([[[1e-4, 0.0], [0.0, 1e-4]]])
    for matrix in (thin[2:], circle):
        value, slope = jax.value_and_grad(lambda m: at_least(m, 1e-3).sum())(matrix)
        assert bool(jnp.isfinite(value))
        assert bool(jnp.isfinite(slope).all())


def test_a_movement_is_shown_keypoint_by_keypoint():
    covariance = jnp.broadcast_to(0.05 * jnp.eye(2)[None, None], (1, 2, 2, 2))
    source = Keypoints(jnp.asarray([[[0.0, 0.0], [0.5, 0.5]]]), covariance)
    driving = Keypoints(jnp.asarray([[[0.5, -0.25], [0.5, 0.5]]]), covariance)
    ramp = jnp.broadcast_to(jnp.linspace(-1, 1, 9)[None, None, :, None], (1, 9, 9, 3))
    whole = Embedding(displacement=True, deformed_source=True, background=True, norm=2.0)
    shown = np.asarray(jax.jit(whole, static_argnums=2)(source, driving, (9, 9), ramp))
    entries = shown.reshape(9, 9, 3, 6)
    background, moved, still = (entries[:, :, k] for k in range(3))
    np.testing.assert_allclose(background[..., :3], 0, atol=1e-6)
    np.testing.assert_allclose(background[..., 3:], ramp[0], atol=1e-6)
    np.testing.assert_allclose(still, background, atol=1e-6)
    assert float(moved[3, 6, 0]) == pytest.approx(0.5 * (1 - np.exp(-0.5 * 0.3125 / 0.05)), abs=1e-4)
    np.testing.assert_allclose(moved[..., 1], -0.5, atol=1e-6)
    np.testing.assert_allclose(moved[..., 2], 0.25, atol=1e-6)
    np.testing.assert_allclose(
        moved[4, 4:, 3], ramp[0, 4, 2:7, 0], atol=1e-6
    )  # the source lies two pixels to the right
    own = jax.jit(Embedding(heatmap="gaussian", norm=0.0), static_argnums=2)(source, driving, (9, 9))
    np.testing.assert_allclose(own.sum(axis=(1, 2)), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="difference"):
        Embedding(heatmap="sum")


def test_motion_is_relative_to_the_anchor():
    mean = jax.random.uniform(jax.random.key(0), (2, 1, 3, 2), minval=-0.5, maxval=0.5)
    root = jax.random.normal(jax.random.key(1), (2, 1, 3, 2, 2))
    covariance = root @ jnp.swapaxes(root, -1, -2) + 0.1 * jnp.eye(2)[None, None, None]
    source, anchor = Keypoints(mean[0], covariance[0]), Keypoints(mean[1], covariance[1])
    carried = jax.jit(relative_keypoints, static_argnames=("clip_mean", "adapt_variance"))
    still = carried(source, anchor, anchor, adapt_variance=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), still, source)
    driving = Keypoints(anchor.mean + 0.4, 2 * anchor.covariance)
    moved = carried(source, driving, anchor, 3.0, clip_mean=True)
    np.testing.assert_allclose(moved.mean, jnp.clip(source.mean + 1.2, -1, 1), atol=1e-5)
    np.testing.assert_allclose(moved.covariance, driving.covariance)
    grown = carried(source, driving, anchor, adapt_variance=True)
    np.testing.assert_allclose(grown.covariance, 2 * source.covariance, rtol=1e-3, atol=1e-4)
    repaired = positive(jnp.asarray([[1.0, 2.0], [0.0, -1.0]]))
    np.testing.assert_allclose(jnp.linalg.eigvalsh(repaired), [1e-6, 2**0.5], atol=1e-5)


def test_the_fast_path_equals_the_plain_forward(frames, variables):
    game = METHOD.game

    @jax.jit
    def plain(frames):
        found: Any = game.kp_detector.apply(variables["kp_detector"], to_unit(frames), train=False)
        source, anchor, driving = (
            jax.tree.map(lambda x, s=s: x[s], found) for s in (slice(1), slice(1, 2), slice(2, 5))
        )
        area = [_hull_area(k.mean[0]) for k in (source, anchor)]
        driving = relative_keypoints(source, driving, anchor, jnp.sqrt(area[0] / area[1]), adapt_variance=True)
        three = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), source)
        pictures = jnp.repeat(to_unit(frames[:1]), 3, axis=0)
        made: Any = game.generator.apply(variables["generator"], pictures, three, driving, train=False)
        return from_unit(made.prediction)

    animate = METHOD.reenactor(
        variables, Source(frames[:1]), anchor=VideoDrive(frames[1:2]), adapt_scale=True, adapt_variance=True
    )
    made, wanted = animate(VideoDrive(frames[2:])), plain(frames)
    assert float(np.ptp(wanted)) > 0.1, "a flat picture would prove nothing"
    assert float(jnp.abs(wanted[0] - wanted[2]).max()) > 0.005, "nor would a still one"
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-4)


def _hull_area(points):
    """The area of the hull of four points: the largest of the quadrangles and triangles that they make."""
    orders = ((0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3), (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))
    areas = []
    for order in orders:
        x, y = points[jnp.asarray(order)].T
        areas.append(0.5 * jnp.abs(jnp.sum(x * jnp.roll(y, -1) - y * jnp.roll(x, -1))))
    return jnp.max(jnp.stack(areas))


def test_options_of_relative_motion_need_it(frames):
    for options in ({"clip_mean": True}, {"adapt_variance": True}):
        chosen: dict[str, Any] = {"mode": "absolute", **options}
        with pytest.raises(UserError, match='leave them out with mode "absolute"'):
            METHOD.reenactor({}, Source(frames[:1]), **chosen)


def test_the_predictor_learns_and_nothing_else_moves(frames, variables):
    """A second training on windows; the window here is a still one, which a few steps learn."""
    batch = {"frames": jnp.repeat(jnp.uint8(127.5 * (frames[:2, None] + 1)), 4, axis=1)}
    players = PREDICTING.players({"predictor": optax.adam(2e-2)})
    mine = {n: variables[n] for n in ("generator", "kp_detector", "predictor")}
    state = _started(mine, players)
    step = jax.jit(lambda s: train_step(PREDICTING, players, s, batch, ("predictor",), {}))
    before, losses = state, []
    for _ in range(60):
        state, metrics = step(state)
        losses.append(float(metrics["predictor/loss"]))
    assert set(metrics) == {f"predictor/{k}" for k in ("mean", "covariance", "loss", "grad_norm")}
    assert losses[-1] < 0.3 * losses[0], losses[::10]
    for network in ("generator", "kp_detector"):
        jax.tree.map(np.testing.assert_array_equal, before.variables[network], state.variables[network])
    floats = {"frames": batch["frames"] / 127.5 - 1}
    shown = jax.jit(PREDICTING.preview)(state.variables, floats)
    assert set(shown) == {"source", "halfway", "halfway_target", "prediction", "target"}
    assert {x.shape for x in shown.values()} == {(2, SIZE, SIZE, 3)}
    with pytest.raises(UserError, match=r"config\.optim\.predictor is missing"):
        PREDICTING.players({"generator": optax.sgd(0.1)})


def test_a_picture_becomes_a_video(frames, variables):
    made = METHOD.imagine(variables, Source(frames[:1]), 5, batch_size=2)
    assert made.shape == (5, SIZE, SIZE, 3)
    assert float(jnp.abs(made).max()) <= 1
    # the first frame is the picture as the generator rebuilds it, whatever the predictor says of it
    still = METHOD.reenactor(variables, Source(frames[:1]), mode="absolute")(VideoDrive(frames[:1]))
    with_own_means = METHOD.imagine(variables, Source(frames[:1]), 5, mode="absolute")
    assert made.shape == with_own_means.shape
    assert float(jnp.abs(made[0] - still[0]).max()) < float(jnp.abs(with_own_means[0] - still[0]).max())
    with pytest.raises(UserError, match="has no predictor"):
        METHOD.imagine({n: v for n, v in variables.items() if n != "predictor"}, Source(frames[:1]), 5)
    with pytest.raises(UserError, match="more frames than that"):
        METHOD.imagine(variables, Source(frames[:1]), 1)
    with pytest.raises(UserError, match="mode must be"):
        METHOD.imagine(variables, Source(frames[:1]), 5, mode="relativ")


def _started(variables: Any, players: tuple[Player, ...]) -> TrainState:
    """A training state without a compiled draw of numbers that are at hand."""
    params = {n: v["params"] for n, v in variables.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key(0),
        params=params,
        collections={n: {k: c for k, c in v.items() if k != "params"} for n, v in variables.items()},
        opt_states={p.name: jax.jit(p.update.init)({n: params[n] for n in p.owns}) for p in players},
        ema_params={},
    )


@pytest.fixture(scope="module")
def checkpoint(variables) -> dict[str, Any]:
    """A checkpoint as the published code saves it, with everything that is to be left out."""
    networks = ("generator", "kp_detector", "discriminator")
    trained = {n: variables[n] for n in networks}
    content: dict[str, Any] = {name: {} for name in networks}
    for name, value in to_state(trained, tensor_entries(trained, module_name)).items():
        network, _, rest = name.partition(".")
        content[network][rest] = value[:, :, None] if value.ndim == 4 else value
    content["generator"]["dense_motion_module.group_blocks.0.norm.num_batches_tracked"] = np.array(7)
    return {**content, "optimizer_generator": {"state": {}}, "epoch": 9, "it": 99}


def test_checkpoints_there_and_back(checkpoint, variables):
    converted = convert(checkpoint, METHOD)
    jax.tree.map(np.testing.assert_array_equal, converted, {n: variables[n] for n in converted})
    assert set(converted) == {"generator", "kp_detector", "discriminator"}
    shapes = {
        "generator": {
            "dense_motion_module.group_blocks.1.conv.weight": (20, 4, 1, 1, 1),
            "dense_motion_module.hourglass.decoder.conv.bias": (7,),
            "appearance_encoder.down_blocks.2.norm.running_var": (16,),
            "video_decoder.up_blocks.0.conv.weight": (16, 20, 1, 3, 3),
            "refinement_module.r0.conv2.bias": (11,),
            "refinement_module.conv-last.weight": (3, 11, 1, 1, 1),
        },
        "kp_detector": {"predictor.decoder.conv.weight": (4, 7, 1, 3, 3)},
        "discriminator": {"down_blocks.1.conv.weight": (4, 4, 1, 4, 4), "conv.bias": (1,)},
    }
    for network, tensors in shapes.items():
        for name, shape in tensors.items():
            assert checkpoint[network][name].shape == shape, name


def test_misfits_of_checkpoints_are_named(checkpoint):
    deep = {**checkpoint, "discriminator": dict(checkpoint["discriminator"])}
    deep["discriminator"]["conv.weight"] = np.zeros((1, 4, 3, 1, 1), np.float32)
    with pytest.raises(UserError, match=r"discriminator\.conv\.weight sees 3 frames"):
        convert(deep, METHOD)
    with pytest.raises(UserError, match="it has no kp_detector"):
        convert({n: v for n, v in checkpoint.items() if n != "kp_detector"}, METHOD)
    with pytest.raises(UserError, match="have no predictor"):
        convert(checkpoint, PREDICTING)
