"""face vid2vid as a method: what every method must keep, and what this paper's game asks."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import face_vid2vid as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import create_state, train_step
from reenax.core.types import param_count
from reenax.methods.face_vid2vid import FaceVid2Vid
from reenax.methods.face_vid2vid.game import expression_prior, keypoint_prior
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
    drawn,
    make_batch,
    moved,
    start,
)

MOTION = {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "compress": 2, "kernel_size": 3}
GENERATOR = {
    "block_expansion": 4,
    "max_features": 8,
    "num_down_blocks": 1,
    "channels": 3,
    "depth": 2,
    "num_resblocks": 0,
    "dense_motion": MOTION,
}
SMALL: dict[str, Any] = {
    "num_kp": 3,
    "kp_detector": {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "depth": 2, "kernel_size": 3},
    "he_estimator": {"block_expansion": 4, "max_features": 16, "blocks": (0,), "num_bins": 66},
    "generator": {**GENERATOR, "blend": True},
    "discriminator": {"block_expansion": 4, "num_blocks": 2, "max_features": 8, "scales": ()},
    "losses": {
        "scales": (1.0,),
        "perceptual": (),
        "generator_gan": 0.0,
        "headpose": 0.0,
        "expression": 0.1,
        "keypoint": 1.0,
        "l1": 10.0,
        "deformed": 0.5,
    },
    "rotate_flow": False,
}
# the other form of everything: turning flows, SPADE, two discriminators that see keypoints
ADVERSARIAL: dict[str, Any] = {
    **SMALL,
    "he_estimator": {**SMALL["he_estimator"], "blocks": (0, 0)},
    "generator": {
        **GENERATOR,
        "num_resblocks": 1,
        "spade": True,
        "spade_width": 4,
        "spade_blocks": 0,
        "spade_hidden": 4,
        "dense_motion": {**MOTION, "last": True},
    },
    "discriminator": {**SMALL["discriminator"], "scales": (1.0, 0.5), "sn": True, "use_kp": True},
    "losses": {**SMALL["losses"], "generator_gan": 1.0, "feature_matching": (10.0, 10.0), "deformed": 0.0},
    "rotate_flow": True,
}
NETWORKS = ("generator", "kp_detector", "he_estimator", "discriminator")
BOTH = ("generator", "discriminator")


@dataclasses.dataclass(frozen=True)
class Drawn(FaceVid2Vid):
    """Its variables are drawn on the host: compiling the method's own draws takes longer than most tests here."""

    def init(self, rng: Any, batch: Any) -> Any:
        return drawn(jax.eval_shape(super().init, rng, batch))


def method_of(values: dict[str, Any], **changes: Any) -> FaceVid2Vid:
    return dataclasses.replace(from_mapping(Drawn, values), **changes)


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(NETWORKS, rule)


@pytest.fixture(scope="module")
def small() -> Started:
    return start(method_of(SMALL), optimisers(optax.adam(5e-3, b1=0.5)))


@pytest.fixture(scope="module")
def adversarial() -> Started:
    """Moved by SGD at rate 1: a step leaves minus the gradient in the difference."""
    return start(method_of(ADVERSARIAL), optimisers(optax.sgd(1.0)))


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name):
    config = configs.get_config(name)
    method: Any = make_method(config)
    batch = {k: jnp.zeros((1, config.data.size, config.data.size, 3)) for k in ("source", "driving")}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    with_gan = method.losses.generator_gan > 0
    optim = {n: optax.sgd(0.1) for n in config.optim}
    assert [p.name for p in method.players(optim)] == (["generator", "discriminator"] if with_gan else ["generator"])
    wanted = {"vgg19", "hopenet", "vggface"} if name in ("paper256", "vox512") else {"vgg19", "hopenet"}
    assert set(config.frozen) == wanted  # keys to name the weights, whether or not the losses need them
    assert set(method.frozen) == (set(config.frozen) if name.endswith(("256", "512", "spade")) else set())
    if name.startswith("vox256"):
        assert counts == {
            "generator": 100_988_176 if "spade" in name else 53_101_392,
            "kp_detector": 41_940_047,
            "he_estimator": 30_254_838,
            "discriminator": 2_758_849,
        }
    elif name in ("smoke", "synth64"):
        assert sum(counts.values()) < 3_000_000


def test_published_settings():
    """Sections 3 and 4 of the paper and of the published code: what differs between them."""
    paper, code = (configs.get_config(n).model for n in ("paper256", "vox256"))
    assert (paper.num_kp, code.num_kp) == (20, 15)
    assert (paper.rotate_flow, code.rotate_flow) == (True, False)
    assert (paper.align_corners, code.align_corners) == (True, False)
    assert (paper.losses.equivariance_value, code.losses.equivariance_value) == (20, 10)
    assert (paper.kp_detector.kernel_size, code.kp_detector.kernel_size) == (7, 3)
    assert "half_turn" not in paper.rotation
    assert code.rotation.half_turn == 3.14
    for model in (paper, code):
        w = model.losses
        assert (w.generator_gan, w.keypoint, w.headpose, w.expression, w.gan) == (1, 10, 20, 5, "hinge")
    config = configs.get_config("vox256")
    assert (config.batch_size, config.epochs, config.repeats) == (32, 300, 75)
    assert all(config.optim[n].milestones == (180,) and config.optim[n].b1 == 0.5 for n in NETWORKS)


def test_each_player_moves_only_what_it_owns(small, adversarial):
    _, _, state, step, batch = small
    after, metrics = step(state, batch, ("generator",))
    assert moved(state.params, after.params) == {"generator", "kp_detector", "he_estimator"}
    assert {k.split("/")[1] for k in metrics} >= {"l1", "equivariance_value", "keypoint", "expression"}
    _, players, state, step, batch = adversarial
    assert [p.owns for p in players] == [("generator", "kp_detector", "he_estimator"), ("discriminator",)]
    # judging for the generator also iterates the discriminator's spectral vectors
    assert set(players[0].persists or ()) == set(NETWORKS)
    after, metrics = step(state, batch, BOTH)
    assert moved(state.params, after.params) == set(NETWORKS)
    assert moved(state.collections, after.collections) == set(NETWORKS)
    assert {k.split("/")[1] for k in metrics} >= {"l1", "gen_gan", "feature_matching", "disc_gan"}
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_every_owned_leaf_gets_a_gradient(adversarial):
    def zero(name: str) -> bool:
        # biases in front of norms that are not called as in other networks; the bias under the spatial softmax
        in_front = "/conv" in name or "/skip/" in name if name.startswith("he_estimator") else "/compress/" in name
        return name == "kp_detector/kp/bias" or (in_front and name.endswith("/bias"))

    check_gradients(adversarial, BOTH, zero)


def test_statistics_move_once_per_picture_that_a_network_sees(small):
    """The estimator sees source, driving and transformed frame, the detector the source alone."""
    after, _ = small.step(small.state, small.batch, ("generator",))

    def means(variables: Any, *path: str) -> Any:
        tree = variables["batch_stats"]
        for name in path:
            tree = tree[name]
        return tree["norm1" if path == () else "norm"]["mean"]

    @functools.partial(jax.jit, static_argnums=0)
    def seen(network: str, variables: Any, picture: jax.Array) -> Any:
        module = getattr(small.method.game, network)
        return {**variables, **module.apply(variables, picture / 255.0, train=True, mutable=["batch_stats"])[1]}

    before, now = small.state.variables, after.variables
    source, driving = small.batch["source"], small.batch["driving"]
    once = seen("kp_detector", before["kp_detector"], source)
    path = ("predictor", "down_blocks_down0")
    np.testing.assert_allclose(means(now["kp_detector"], *path), means(once, *path), rtol=1e-4, atol=1e-6)
    twice = seen("he_estimator", seen("he_estimator", before["he_estimator"], source), driving)
    third = (means(now["he_estimator"]) - 0.9 * means(twice)) / 0.1
    alone = (means(seen("he_estimator", before["he_estimator"], driving)) - 0.9 * means(before["he_estimator"])) / 0.1
    np.testing.assert_allclose(third, alone, atol=0.05)  # the statistics of a slightly warped driving frame


def test_bfloat16_keeps_float32_state(small):
    """Also where activations are computed again in the backward pass."""
    rounded = method_of(SMALL, dtype="bfloat16", remat=True)
    check_bfloat16(small, rounded, optimisers(optax.adam(5e-3, b1=0.5)), ("generator",))


def test_pretrained_networks_are_asked_for(small):
    weights = {**SMALL["losses"], "perceptual": (10.0,) * 5, "face": (1.0,) * 5, "headpose": 20.0}
    method = method_of({**SMALL, "losses": weights})
    assert {n: f.kind for n, f in method.frozen.items()} == {n: n for n in ("vgg19", "vggface", "hopenet")}
    players, batch = method.players(optimisers(optax.sgd(1.0))), make_batch()
    shapes = {n: jax.eval_shape(f.init, jax.random.key(0)) for n, f in method.frozen.items()}
    state = jax.eval_shape(lambda b: create_state(method, players, 0, b), batch)
    _, metrics = jax.eval_shape(
        lambda s, b, f: train_step(method, players, s, b, ("generator",), f), state, batch, shapes
    )
    assert {"generator/perceptual", "generator/face", "generator/headpose"} <= set(metrics)
    assert not small.method.frozen


def test_overfits_one_batch(small):
    check_overfits(small, ("generator",), "generator/l1", steps=80)


def test_one_device_equals_eight():
    method = method_of(SMALL)
    check_one_device_equals_eight(method, optimisers(optax.sgd(1e-3)), make_batch(count=8), steps=2)


def test_preview_and_reenactment(small, adversarial):
    columns = {"source", "driving", "warped", "occlusion", "prediction", "target"}
    for started in (small, adversarial):
        check_preview_and_reenactment(started, columns)


def test_refusals(adversarial):
    check_refusals(adversarial, optimisers(optax.sgd(0.1)))
    with pytest.raises(UserError, match=r"losses\.gan must be one of ls, hinge"):
        method_of({**SMALL, "losses": {"gan": "wgan"}})


def test_unknown_keys_are_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"config\.model\.generator\.dense_motion\.blocks .*compress"):
        from_mapping(FaceVid2Vid, {"generator": {"dense_motion": {"blocks": 1}}})


def test_labels_tie_pose_and_keypoints(small):
    """Angles and translation against the exact pose, the first keypoints against landmarks, of both frames."""
    weights = {**SMALL["losses"], "landmarks": 4.0, "landmark_points": (30, 8), "pose": 2.0, "translation": 3.0}
    method = method_of({**SMALL, "losses": weights})
    labels = {f"{n}_landmarks": jnp.full((2, 68, 2), 0.5) for n in ("source", "driving")}
    labels |= {f"{n}_pose": jnp.zeros((2, 6)) for n in ("source", "driving")}
    batch = {**as_floats(small.batch), **labels}

    @jax.jit
    def losses(variables: Any) -> Any:
        arguments = (variables, batch, jax.random.key(0))
        out = method.game.generator_loss(*arguments, step=jnp.int32(0), shared=None)
        plain = small.method.game.generator_loss(*arguments, step=jnp.int32(0), shared=None)
        unit = {n: (batch[n] + 1) / 2 for n in ("source", "driving")}
        canonical, _ = method.game.kp_detector.apply(
            variables["kp_detector"], unit["source"], train=True, mutable=["batch_stats"]
        )
        read = [
            method.game.he_estimator.apply(variables["he_estimator"], x, train=True, mutable=["batch_stats"])[0]
            for x in unit.values()
        ]
        return out, plain.loss, canonical, read

    out, plain, canonical, read = losses(small.state.variables)
    poses: Any = read
    angles = sum(float(jnp.abs(getattr(p, n)).mean()) for p in poses for n in ("yaw", "pitch", "roll"))
    assert float(out.metrics["pose"]) == pytest.approx(2.0 * angles / 2, rel=1e-3)
    shifts = np.mean([float(jnp.abs(p.translation[:, :2]).mean()) for p in poses])
    assert float(out.metrics["translation"]) == pytest.approx(3.0 * shifts, rel=1e-3)
    assert float(out.metrics["landmarks"]) > 0
    added = sum(out.metrics[n] for n in ("pose", "translation", "landmarks"))
    assert float(out.loss) == pytest.approx(float(plain + added), rel=1e-5)


def test_priors_are_their_formulas():
    points = np.random.default_rng(0).uniform(-0.3, 0.3, size=(2, 4, 3))
    wanted = 0.0
    for i in range(4):
        for j in range(4):
            square = ((points[:, i] - points[:, j] + 1e-6) ** 2).sum(axis=-1)
            wanted += np.maximum(0, 0.1 - square).mean()
    wanted += np.abs(points[..., 2].mean(axis=1) - 0.33).mean()
    assert float(keypoint_prior(jnp.asarray(points, jnp.float32))) == pytest.approx(wanted, rel=1e-5)
    far = jnp.asarray([[[1.0, 0.0, 0.33], [-1.0, 0.0, 0.33]]])
    assert float(keypoint_prior(far)) == pytest.approx(0.2, abs=1e-5)  # each keypoint with itself
    assert float(expression_prior(jnp.full((2, 4, 3), -0.5))) == pytest.approx(6.0)
