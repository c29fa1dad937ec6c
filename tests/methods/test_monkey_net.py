"""Monkey-Net as a method: what every method must keep, its configs, and what this paper's game asks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import monkey_net as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.types import param_count
from reenax.methods.monkey_net import MonkeyNet
from reenax.methods.monkey_net.embedding import Keypoints
from reenax.train.runs import make_method

from . import contracts

HOURGLASS = {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "scale_factor": 0.5}
SMALL: dict[str, Any] = {
    "num_kp": 3,
    "kp_detector": HOURGLASS,
    "generator": {
        "block_expansion": 4,
        "num_blocks": 1,
        "max_features": 8,
        "num_refinement_blocks": 1,
        "scale_factor": 0.5,
        "norm": 1.0,
        "blend": True,
        "dense_motion": {**HOURGLASS, "norm": 1.0, "num_group_blocks": 1},
    },
    "losses": {"reconstruction": (10.0,), "generator_gan": 0.0, "scales": (1.0, 0.5), "gradient": 5.0, "deformed": 0.5},
}
ADVERSARIAL: dict[str, Any] = {
    **SMALL,
    "generator": {**SMALL["generator"], "blend": False},
    "discriminator": {"block_expansion": 4, "num_blocks": 2, "max_features": 8, "norm": 1.0},
    "losses": {"reconstruction": (10.0, 10.0, 1.0), "reconstruction_deformed": 10.0},
}
BOTH = ("generator", "discriminator")


@dataclasses.dataclass(frozen=True)
class Drawn(MonkeyNet):
    """Its variables are drawn on the host: compiling the method's own draws takes longer than most tests here."""

    def init(self, rng: Any, batch: Any) -> Any:
        return contracts.drawn(jax.eval_shape(super().init, rng, batch))


def method_of(values: dict[str, Any], **changes: Any) -> MonkeyNet:
    return dataclasses.replace(from_mapping(Drawn, values), **changes)


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(configs.NETWORKS, rule)


@pytest.fixture(scope="module")
def small() -> contracts.Started:
    return contracts.start(method_of(SMALL), optimisers(optax.adam(5e-3, b1=0.5)))


@pytest.fixture(scope="module")
def adversarial() -> contracts.Started:
    """Moved by SGD at rate 1: a step leaves minus the gradient in the difference."""
    return contracts.start(method_of(ADVERSARIAL), optimisers(optax.sgd(1.0)))


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name):
    config = configs.get_config(name)
    method: Any = make_method(config)
    size, rows = config.data.size, (1, config.data.get("frames", 2))
    batch = {k: jnp.zeros((1, size, size, 3)) for k in ("source", "driving")}
    if config.data.sampler == "window":
        batch = {"frames": jnp.zeros((*rows, size, size, 3))}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    optim = {n: optax.sgd(0.1) for n in config.optim}
    names = [p.name for p in method.players(optim)]
    assert not method.frozen
    if config.data.sampler == "window":
        assert names == ["predictor"]
        assert set(counts) == {"generator", "kp_detector", "predictor"}
    elif method.losses.adversarial:
        assert names == ["generator", "discriminator"]
        assert size == {"mgif": 128, "shapes": 64}.get(name) or name.endswith(str(size))
    else:
        assert names == ["generator"]
        assert sum(counts.values()) < 1_600_000
    published = {
        "vox256": {"generator": 80_629_691, "kp_detector": 14_132_728, "discriminator": 1_719_489},
        "nemo64": {"generator": 19_088_315, "kp_detector": 9_412_600, "discriminator": 1_719_489},
    }
    assert counts == published.get(name, counts)


def test_published_settings():
    """Section 4 of the published code, config by config: size, batch, epochs, milestone, and what sets them apart."""
    table = {
        "vox256": (20, 20, (), 0.25, 0.25, "bilinear", 100, 2),
        "vox_full256": (20, 20, (), 1, 0.25, "bilinear", 100, 2),
        "nemo64": (32, 750, (500,), 1, 1, "nearest", 100, 2),
        "taichi64": (32, 750, (500,), 1, 1, "nearest", 100, 2),
        "bair64": (32, 15, (10,), 1, 1, "nearest", 0, 2),
        "mgif": (64, 750, (500,), 0.5, 0.5, "nearest", 100, 2),
        "shapes": (16, 8, (4,), 1, 1, "nearest", 10, 0),
    }
    for name, (batch, epochs, milestones, scale, embedding, interpolation, norm, groups) in table.items():
        c = configs.get_config(name)
        g = c.model.generator
        assert (c.batch_size, c.epochs, c.optim.generator.milestones) == (batch, epochs, milestones)
        assert (c.model.kp_detector.scale_factor, g.dense_motion.scale_factor) == (scale, scale)
        assert (g.scale_factor, g.interpolation, g.norm, g.dense_motion.num_group_blocks) == (
            embedding,
            interpolation,
            norm,
            groups,
        )
        assert {o.b1 for o in c.optim.values()} == {0.5}
        assert c.lr == 2e-4
    # 11 groups of heat, displacement and colours
    mgif = jax.eval_shape(
        make_method(configs.get_config("mgif")).init,
        jax.random.key(0),
        {k: jnp.zeros((1, 128, 128, 3)) for k in ("source", "driving")},
    )
    assert mgif["generator"]["params"]["dense_motion_module"]["group_blocks_0"]["conv"]["kernel"].shape == (1, 1, 6, 66)


def test_each_player_moves_only_what_it_owns(small, adversarial):
    _, _, state, step, batch = small
    after, metrics = step(state, batch, ("generator",))
    assert contracts.moved(state.params, after.params) == {"generator", "kp_detector"}
    assert {k.split("/")[1] for k in metrics} == {"layer-0_rec", "gradient", "loss", "grad_norm"}
    _, players, state, step, batch = adversarial
    assert [p.owns for p in players] == [("generator", "kp_detector"), ("discriminator",)]
    after, metrics = step(state, batch, BOTH)
    assert contracts.moved(state.params, after.params) == {"generator", "kp_detector", "discriminator"}
    assert contracts.moved(state.collections, after.collections) == {"generator", "kp_detector"}
    terms = {"layer-0_rec", "layer-1_rec", "layer-2_rec", "rec_def", "gen_gan", "loss", "grad_norm"}
    assert {k.removeprefix("generator/") for k in metrics if k.startswith("generator/")} == terms
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_every_owned_leaf_gets_a_gradient(adversarial):
    # a constant under the spatial softmax, and under that of the masks, changes nothing
    contracts.check_gradients(adversarial, BOTH, lambda name: name == "kp_detector/kp/bias")


def test_the_detector_sees_both_frames_at_once(small):
    """Its running statistics move once, by those of source and driving frame together."""
    after, _ = small.step(small.state, small.batch, ("generator",))
    floats = contracts.as_floats(small.batch)
    both = jnp.concatenate([to_unit(floats["source"]), to_unit(floats["driving"])])
    fresh = small.state.variables["kp_detector"]
    seen = jax.jit(lambda v: small.method.game.kp_detector.apply(v, both, train=True, mutable=["batch_stats"])[1])(
        fresh
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after.collections["kp_detector"],
        seen,
    )


def test_keypoints_learn_through_the_discriminator(adversarial):
    """Nothing is detached in the generator's loss: the heatmaps that the discriminator sees teach the detector."""
    game, variables = adversarial.method.game, adversarial.state.variables
    picture = to_unit(contracts.as_floats(adversarial.batch)["driving"])

    @jax.jit
    def slope(mean):
        keypoints = Keypoints(mean, jnp.broadcast_to(0.05 * jnp.eye(2)[None, None], (2, 3, 2, 2)))
        return jax.grad(lambda m: game.judge(variables, picture, keypoints._replace(mean=m)).score.sum())(mean)

    assert float(jnp.abs(slope(jnp.zeros((2, 3, 2)))).max()) > 0


def test_bfloat16_and_remat_keep_float32_state(adversarial):
    thrifty = method_of(ADVERSARIAL, dtype="bfloat16", remat=True)
    contracts.check_bfloat16(adversarial, thrifty, optimisers(optax.sgd(1.0)), BOTH)


def test_the_flow_begins_as_a_still_picture(small):
    """The network's own start: the background has all weight but a tenth, and nothing is corrected."""
    own, batch = from_mapping(MonkeyNet, SMALL), contracts.as_floats(small.batch)
    head = jax.jit(lambda key: own.init(key, batch)["generator"]["params"]["dense_motion_module"]["masks"])
    started = head(jax.random.key(0))
    np.testing.assert_array_equal(started["kernel"], 0)
    np.testing.assert_array_equal(started["bias"], [2, 0, 0, 0, 0, 0])


def test_overfits_one_batch(small):
    contracts.check_overfits(small, ("generator",), "generator/layer-0_rec", 80)


def test_one_device_equals_eight():
    method, batch = method_of(ADVERSARIAL), contracts.make_batch(count=8)
    contracts.check_one_device_equals_eight(method, optimisers(optax.sgd(1e-3)), batch, 3)


def test_preview_and_reenactment(small):
    contracts.check_preview_and_reenactment(small, ("source", "driving", "warped", "prediction", "target"))


def test_refusals(adversarial):
    contracts.check_refusals(adversarial, optimisers(optax.sgd(0.1)))
    with pytest.raises(UserError, match=r"config\.model\.stage='predicting' is unknown; use animation or prediction"):
        method_of(SMALL, stage="predicting")
    with pytest.raises(ValueError, match="multiples of 2, got 31 x 32"):
        adversarial.method.game.generator.apply({}, jnp.zeros((1, 31, 32, 3)), train=False, method="encode")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_kps": 3}, r"config\.model\.num_kps is no key .* num_kp,"),
        ({"losses": {"l2": 1.0}}, r"config\.model\.losses\.l2 .*gradient"),
        ({"generator": {"dense_motion": {"blocks": 1}}}, r"config\.model\.generator\.dense_motion\.blocks"),
    ],
)
def test_unknown_keys_are_named_with_the_known_ones(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(MonkeyNet, values)


def test_labels_tie_keypoints(small):
    """The first keypoints of both frames against their landmarks of the mean head."""
    losses = {**SMALL["losses"], "landmarks": 4.0, "landmark_points": (30, 8), "mouth": 2.0}
    method = method_of({**SMALL, "losses": losses})
    batch = contracts.as_floats(small.batch)
    labels = {"source_landmarks_mean": jnp.full((2, 68, 2), 0.5), "driving_landmarks_mean": jnp.full((2, 68, 2), -0.5)}
    labels["driving_landmarks"] = jnp.zeros((2, 68, 2)).at[:, 48:50].set(jnp.asarray([[-0.5, 0.5], [0.5, -0.5]]))

    @jax.jit
    def terms(variables, batch):
        out, forward = method.game.loss_and_forward(variables, batch)
        return out.metrics, forward.kp_source.mean, forward.kp_driving.mean

    found, source, driving = terms(small.state.variables, {**batch, **labels})
    wanted = 2.0 * (jnp.abs(source[:, :2] - 0.5).mean() + jnp.abs(driving[:, :2] + 0.5).mean())
    assert float(found["landmarks"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(found["mouth"]) > 0
