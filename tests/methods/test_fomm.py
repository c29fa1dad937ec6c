"""First Order Motion as a method: what every method must keep, and what this paper's game asks."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import fomm as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import create_state, train_step
from reenax.core.types import param_count
from reenax.methods.fomm import FirstOrderMotion
from reenax.train.runs import make_method
from tests.methods.contracts import (
    Started,
    check_bfloat16,
    check_gradients,
    check_one_device_equals_eight,
    check_overfits,
    check_preview_and_reenactment,
    check_refusals,
    make_batch,
    moved,
    start,
    step_of,
)

SMALL = {
    "num_kp": 3,
    "kp_detector": {"block_expansion": 4, "num_blocks": 2, "max_features": 8, "scale_factor": 0.5, "kernel_size": 3},
    "generator": {
        "block_expansion": 4,
        "max_features": 8,
        "num_bottleneck_blocks": 1,
        "blend": True,
        "dense_motion": {
            "block_expansion": 4,
            "num_blocks": 2,
            "max_features": 8,
            "scale_factor": 0.5,
            "kernel_size": 3,
        },
    },
    "discriminator": {"block_expansion": 4, "num_blocks": 2, "max_features": 8, "scales": ()},
    "losses": {"scales": (1.0, 0.5), "perceptual": (), "l1": 10.0, "gradient": 5.0, "ssim": 1.0, "deformed": 0.5},
}
ADVERSARIAL: dict[str, Any] = {
    **SMALL,
    "discriminator": {**SMALL["discriminator"], "scales": (1.0, 0.5), "sn": True, "use_kp": True},
    "losses": {**SMALL["losses"], "generator_gan": 1.0, "feature_matching": (10.0, 10.0)},
}


def method_of(values: dict[str, Any], **changes: Any) -> FirstOrderMotion:
    return dataclasses.replace(from_mapping(FirstOrderMotion, values), **changes)


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(("generator", "kp_detector", "discriminator"), rule)


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
    method = make_method(config)
    batch = {k: jnp.zeros((1, config.data.size, config.data.size, 3)) for k in ("source", "driving")}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    counts = {n: param_count(v["params"]) for n, v in shapes.items()}
    with_gan = method.losses.generator_gan > 0  # pyright: ignore[reportAttributeAccessIssue]
    optim = {n: optax.sgd(0.1) for n in config.optim}
    assert [p.name for p in method.players(optim)] == (["generator", "discriminator"] if with_gan else ["generator"])
    assert set(config.frozen) == {"vgg19"}  # a key to name the weights, whether or not the losses need them
    assert set(method.frozen) == ({"vgg19"} if any(config.model.losses.perceptual) else set())
    if name.endswith("256"):
        single_map = 36 * (49 * 35 + 1)
        assert counts == {
            "generator": 45_575_391,
            "kp_detector": 14_215_368 - (single_map if name == "mgif256" else 0),
            "discriminator": 2_769_089 if "adv" in name else 2_758_849,
        }
        assert config.data.size == 256
    else:
        assert sum(counts.values()) < (1_600_000 if config.data.size == 128 else 1_100_000)


def test_published_settings():
    """Section 4 of the paper's code, config by config: batch, repeats, epochs, GAN, spectral norm, keypoint maps."""
    table = {
        "vox256": (40, 75, 100, 0, True, False, True),
        "vox_adv256": (36, 75, 150, 1, False, True, True),
        "taichi256": (30, 150, 100, 0, False, False, True),
        "taichi_adv256": (27, 150, 150, 1, False, True, True),
        "fashion256": (27, 50, 100, 1, False, False, False),
        "nemo256": (36, 8, 100, 1, True, False, False),
        "mgif256": (36, 25, 100, 1, True, False, False),
        "bair256": (36, 1, 20, 1, True, False, False),
    }
    for name, (batch, repeats, epochs, gan, sn, use_kp, by_identity) in table.items():
        c = configs.get_config(name)
        assert (c.batch_size, c.repeats, c.epochs, c.data.by_identity) == (batch, repeats, epochs, by_identity)
        assert (c.model.losses.generator_gan, c.model.discriminator.sn, c.model.discriminator.use_kp) == (
            gan,
            sn,
            use_kp,
        )
        assert c.optim.generator.milestones == ((12, 18) if name == "bair256" else () if "adv" in name else (60, 90))
    assert configs.get_config("taichi_adv256").optim.kp_detector.lr == 0
    changed = configs.get_config("vox256")
    changed.lr = 1e-3
    assert changed.optim.generator.lr == changed.optim.discriminator.lr == 1e-3


def test_each_player_moves_only_what_it_owns(adversarial):
    _, _, state, step, batch = adversarial
    after, metrics = step(state, batch, ("generator",))
    assert moved(state.params, after.params) == {"generator", "kp_detector"}
    # judging for the generator also iterates the discriminator's spectral vectors
    assert moved(state.collections, after.collections) == {"generator", "kp_detector", "discriminator"}
    assert {k.split("/")[1] for k in metrics} >= {"l1", "gradient", "ssim", "gen_gan", "feature_matching"}
    after, metrics = step(state, batch, ("generator", "discriminator"))
    assert moved(state.params, after.params) == {"generator", "kp_detector", "discriminator"}
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_a_rate_of_zero_freezes_the_detector_alone(small):
    players = small.method.players({**optimisers(optax.sgd(1.0)), "kp_detector": optax.adam(0.0)})
    tx: Any = players[0].update.tx  # pyright: ignore[reportAttributeAccessIssue]
    params = {n: small.state.params[n] for n in players[0].owns}
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert all(float(jnp.abs(x).max()) == 0 for x in jax.tree.leaves(updates["kp_detector"]))
    assert all(float(jnp.abs(x).max()) == 1 for x in jax.tree.leaves(updates["generator"]))


def test_every_owned_leaf_gets_a_gradient(adversarial):
    # the bias under the spatial softmax has none
    check_gradients(adversarial, ("generator", "discriminator"), zero=lambda name: name == "kp_detector/kp/bias")


def test_statistics_of_the_detector_move_three_times(small):
    """Once each for source, driving and transformed frame, in this order."""
    after, _ = small.step(small.state, small.batch, ("generator",))

    def variance(variables: Any) -> Any:
        return variables["batch_stats"]["predictor"]["encoder"]["down_blocks_0"]["norm"]["var"]

    @jax.jit
    def seen(variables: Any, picture: jax.Array) -> Any:
        moved = small.method.game.kp_detector.apply(variables, picture / 255.0, train=True, mutable=["batch_stats"])[1]
        return {**variables, **moved}

    fresh = small.state.variables["kp_detector"]
    twice = seen(seen(fresh, small.batch["source"]), small.batch["driving"])
    third = (variance(after.variables["kp_detector"]) - 0.9 * variance(twice)) / 0.1
    driving = (variance(seen(fresh, small.batch["driving"])) - 0.9 * variance(fresh)) / 0.1
    np.testing.assert_allclose(third, driving, rtol=0.3)  # the variance of a slightly warped driving frame


def test_bfloat16_keeps_float32_state(adversarial):
    rounded = method_of(ADVERSARIAL, dtype="bfloat16")
    check_bfloat16(adversarial, rounded, optimisers(optax.sgd(1.0)), ("generator", "discriminator"))


def test_remat_changes_no_number(small):
    method = method_of(SMALL, remat=True)
    step = step_of(method, method.players(optimisers(optax.adam(5e-3, b1=0.5))))
    again, metrics = step(small.state, small.batch, ("generator",))
    after, reference = small.step(small.state, small.batch, ("generator",))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), metrics, reference)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), again.collections, after.collections
    )


def test_perceptual_loss_needs_its_weights():
    values = {**SMALL, "losses": {**SMALL["losses"], "perceptual": (10.0, 10.0, 10.0, 10.0, 10.0)}}
    method = method_of(values)
    assert method.frozen["vgg19"].kind == "vgg19"
    players, batch = method.players(optimisers(optax.sgd(1.0))), make_batch()
    shapes = {"vgg19": jax.eval_shape(method.frozen["vgg19"].init, jax.random.key(0))}
    state = jax.eval_shape(lambda b: create_state(method, players, 0, b), batch)
    _, metrics = jax.eval_shape(
        lambda s, b, f: train_step(method, players, s, b, ("generator",), f), state, batch, shapes
    )
    assert "generator/perceptual" in metrics
    assert not method_of(SMALL).frozen


def test_overfits_one_batch(small):
    check_overfits(small, ("generator",), "generator/l1", steps=80)


def test_one_device_equals_eight():
    method = method_of(ADVERSARIAL)
    check_one_device_equals_eight(method, optimisers(optax.sgd(1e-3)), make_batch(count=8), steps=3)


def test_preview_and_reenactment(small):
    columns = {"source", "driving", "warped", "occlusion", "prediction", "target"}
    check_preview_and_reenactment(small, columns)


def test_refusals(adversarial):
    check_refusals(adversarial, optimisers(optax.sgd(0.1)))


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
        from_mapping(FirstOrderMotion, values)


def test_labels_tie_keypoints_and_weigh_the_mouth(small):
    """The first keypoints of both frames against their landmarks; boxes of the driving frame's own landmarks."""
    values = {**SMALL["losses"], "landmarks": 4.0, "landmark_points": (30, 8), "mouth": 2.0, "eyes": 3.0}
    method = method_of({**SMALL, "losses": values})
    batch = {name: jnp.asarray(pictures, jnp.float32) / 127.5 - 1 for name, pictures in small.batch.items()}
    landmarks = jnp.zeros((2, 68, 2)).at[:, 48:68].set(jax.random.uniform(jax.random.key(2), (2, 20, 2)))
    labels = {
        "source_landmarks_mean": jnp.full((2, 68, 2), 0.5),
        "driving_landmarks_mean": jnp.full((2, 68, 2), -0.5),
        "source_landmarks": landmarks,
        "driving_landmarks": landmarks,
    }

    @jax.jit
    def losses(variables, batch):
        arguments = (variables, batch, jax.random.key(0))
        out = method.game.generator_loss(*arguments, step=jnp.int32(0), shared=None)
        plain = small.method.game.generator_loss(*arguments, step=jnp.int32(0), shared=None)
        detect = functools.partial(method.game.kp_detector.apply, variables["kp_detector"], train=True)
        found = [detect((batch[n] + 1) / 2, mutable=["batch_stats"])[0].value for n in ("source", "driving")]
        return out.loss, out.metrics, plain.loss, jnp.stack(found)

    loss, terms, plain, found = losses(small.state.variables, {**batch, **labels})
    wanted = 2.0 * (jnp.abs(found[0, :, :2] - 0.5).mean() + jnp.abs(found[1, :, :2] + 0.5).mean())
    assert float(terms["landmarks"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(terms["mouth"]) > 0
    assert float(terms["eyes"]) >= 0
    added = terms["landmarks"] + terms["mouth"] + terms["eyes"]
    assert float(loss) == pytest.approx(float(plain + added), rel=1e-5)
