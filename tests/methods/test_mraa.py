"""Motion Representations for Articulated Animation as a method: what every method must keep, and its two stages."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from configs import mraa as configs
from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.step import due, train_step
from reenax.core.types import Source, param_count
from reenax.methods.mraa import MotionRepresentations
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
    step_of,
)

HOURGLASS = {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "scale_factor": 0.25, "kernel_size": 3}
SMALL: dict[str, Any] = {
    "num_regions": 3,
    "region_predictor": {**HOURGLASS, "pad": 1},
    "bg_predictor": {"block_expansion": 4, "num_blocks": 1, "max_features": 8},
    "generator": {
        "block_expansion": 4,
        "max_features": 8,
        "num_down_blocks": 1,
        "num_bottleneck_blocks": 1,
        "pixelwise_flow_predictor": HOURGLASS,
    },
    "avd_network": {"id_bottle_size": 4, "pose_bottle_size": 4, "widths": (8,)},
    "losses": {"scales": (1.0,), "perceptual": (), "l1": 10.0, "landmarks": 4.0, "landmark_points": (30, 8)},
    "stages": {"avd_start": 0},
}
PLAYERS = ("reconstruction", "avd")
MADE = {"generator", "region_predictor", "bg_predictor"}


def method_of(values: dict[str, Any] = SMALL, **changes: Any) -> MotionRepresentations:
    return dataclasses.replace(from_mapping(MotionRepresentations, values), **changes)


def optimisers(rule: optax.GradientTransformation) -> dict[str, optax.GradientTransformation]:
    return dict.fromkeys(PLAYERS, rule)


RULE = optax.adam(5e-3, b1=0.5)


def labelled(count: int = 2) -> dict[str, jax.Array]:
    """Pictures, and landmarks of the mean head at one point per frame."""
    labels = {f"{n}_landmarks_mean": jnp.full((count, 68, 2), v) for n, v in (("source", 0.5), ("driving", -0.5))}
    return make_batch(count=count) | labels


@pytest.fixture(scope="module")
def small() -> Started:
    return start(method_of(), optimisers(RULE), labelled())


def with_plain_steps(started: Started) -> Started:
    """The same program, as if it were of SGD at rate 1: Adam's first moment holds the first gradient."""

    def step(state: Any, batch: Any, active: tuple[str, ...]) -> Any:
        after, metrics = started.step(state, batch, active)
        first = {n: g for p in active for n, g in after.opt_states[p][0].mu.items()}
        params = {n: jax.tree.map(lambda x, g: x - 2 * g, v, first[n]) for n, v in state.params.items()}
        return after.replace(params=params), metrics

    return started._replace(step=step)


@pytest.mark.parametrize("name", configs.NAMES)
def test_every_config_builds(name: str) -> None:
    config = configs.get_config(name)
    method = make_method(config)
    second = name.endswith("_avd")
    players = [p.name for p in method.players({n: optax.sgd(0.1) for n in config.optim})]
    assert set(config.frozen) == {"vgg19"}
    if name in ("synth64", "smoke"):
        assert players == ["reconstruction", "avd"]
        assert not method.frozen
        assert sum(counts_of(method).values()) < 1_400_000
        return
    assert players == (["avd"] if second else ["reconstruction"])
    assert set(method.frozen) == (set() if second else {"vgg19"})
    assert config.data.size == (384 if "ted" in name else 256)
    if second:
        return  # the networks are those of the first stage
    assert counts_of(method) == {
        "generator": 45_575_391,
        "region_predictor": 14_146_728,
        "avd_network": 2_290_620,
        **({} if "mgif" in name else {"bg_predictor": 6_282_438}),
    }


def counts_of(method: Any) -> dict[str, int]:
    """How many numbers each network learns; they do not depend on the size of the pictures."""
    batch = {k: jnp.zeros((1, 128, 128, 3)) for k in ("source", "driving")}
    shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
    return {n: param_count(v["params"]) for n, v in shapes.items()}


def test_published_settings() -> None:
    """Section 4 of the paper's code, config by config: batch, repeats, epochs, milestones, padding, background."""
    table = {
        "vox256": (14, 75, 2000, 30, (20, 25), 3, "affine"),
        "taichi256": (14, 150, 150, 30, (20, 25), 0, "affine"),
        "ted384": (6, 150, 150, 30, (20, 25), 0, "affine"),
        "mgif256": (14, 50, 50, 100, (60, 90), 0, "zero"),
    }
    for name, (batch, repeats, avd_repeats, avd_epochs, milestones, pad, bg_type) in table.items():
        first, second = configs.get_config(name), configs.get_config(f"{name}_avd")
        assert (first.batch_size, first.repeats, first.epochs, first.lr) == (batch, repeats, 100, 2e-4)
        assert first.optim.reconstruction.milestones == (60, 90)
        assert (second.batch_size, second.repeats, second.epochs, second.lr) == (256, avd_repeats, avd_epochs, 1e-3)
        assert second.optim.avd.milestones == milestones
        assert second.optim.avd.lr == 1e-3
        for config in (first, second):
            assert (config.model.region_predictor.pad, config.model.bg_predictor.bg_type) == (pad, bg_type)


def test_each_player_moves_only_what_it_owns(small: Started) -> None:
    _, _, state, step, batch = small
    assert {p.name: set(p.owns) for p in small.players} == {"reconstruction": MADE, "avd": {"avd_network"}}
    after, metrics = step(state, batch, ("avd",))
    assert moved(state.params, after.params) == moved(state.collections, after.collections) == {"avd_network"}
    assert set(metrics) == {"avd/shift", "avd/affine", "avd/loss", "avd/grad_norm"}
    after, metrics = step(state, batch, PLAYERS)
    assert moved(state.params, after.params) == moved(state.collections, after.collections) == {*MADE, "avd_network"}
    assert {f"reconstruction/{k}" for k in ("l1", "equivariance_shift", "equivariance_affine")} < set(metrics)
    assert all(bool(jnp.isfinite(v)) for v in metrics.values())


def test_stages_say_who_moves_when() -> None:
    def names(steps: range, **stages: int | None) -> list[tuple[str, ...]]:
        players = method_of({**SMALL, "stages": stages}).players(optimisers(optax.sgd(0.1)))
        return [due(players, step) for step in steps]

    one, other = ("reconstruction",), ("avd",)
    assert names(range(2)) == [one, one]
    assert names(range(4), reconstruction_stop=2, avd_start=2) == [one, one, other, other]
    assert names(range(4), avd_start=2) == [one, one, (*one, *other), (*one, *other)]
    assert names(range(2), reconstruction_stop=0, avd_start=0) == [other, other]
    with pytest.raises(UserError, match="leaves nothing to train"):
        names(range(1), reconstruction_stop=0)


def test_a_second_stage_needs_no_optimiser_of_the_first() -> None:
    method = method_of({**SMALL, "stages": {"reconstruction_stop": 0, "avd_start": 0}})
    assert [p.name for p in method.players({"avd": optax.sgd(0.1)})] == ["avd"]
    perceptual = {"losses": {"perceptual": (1.0,) * 5}}
    assert set(method_of({**SMALL, **perceptual}).frozen) == {"vgg19"}
    assert not method_of({**SMALL, **perceptual, "stages": {"reconstruction_stop": 0, "avd_start": 0}}).frozen


def test_the_published_second_stage_moves_statistics_too(small: Started) -> None:
    """With the flag, those of the region predictor and nothing else of it; its regions are then of the batch."""
    method = method_of(avd_batch_statistics=True)
    step = step_of(method, method.players(optimisers(RULE)))
    after, metrics = step(small.state, small.batch, ("avd",))
    assert moved(small.state.params, after.params) == {"avd_network"}
    assert moved(small.state.collections, after.collections) == {"avd_network", "region_predictor"}
    _, plain = small.step(small.state, small.batch, ("avd",))
    assert float(metrics["avd/loss"]) != pytest.approx(float(plain["avd/loss"]), rel=1e-4)


def test_every_owned_leaf_gets_a_gradient(small: Started) -> None:
    """All but those behind which a softmax or a norm takes a constant out again."""
    params = dict(small.state.params)
    # it begins at zero, which would hide the gradients of the layers before it
    kernel = 0.1 * jax.random.normal(jax.random.key(3), params["bg_predictor"]["fc"]["kernel"].shape)
    params["bg_predictor"] = {**params["bg_predictor"], "fc": {**params["bg_predictor"]["fc"], "kernel": kernel}}

    def zero(name: str) -> bool:
        if not name.endswith("bias"):
            return False
        *_, part, layer, _ = name.split("/")
        last = layer == "dense_1"
        return layer == "regions" or (layer.startswith("dense") and not (last and part == "decoder"))

    check_gradients(with_plain_steps(small)._replace(state=small.state.replace(params=params)), PLAYERS, zero)


def test_regions_are_found_three_times(small: Started) -> None:
    """In the source, the driving and the transformed frame: by the running mean of what no parameter has changed."""
    after, _ = small.step(small.state, small.batch, PLAYERS)
    weight = {}
    for name in ("region_predictor", "generator"):
        first = small.state.variables[name]["batch_stats"]
        second = after.variables[name]["batch_stats"]
        path = ("predictor", "encoder", "down_blocks_0") if name == "region_predictor" else ("first",)
        for key in path:
            first, second = first[key], second[key]
        # from 1: 1 - m passes of weight m remain of the old variance, and the batch's are far below 1
        weight[name] = float(second["norm"]["var"].min())
    assert weight["region_predictor"] == pytest.approx(0.9**3, abs=0.03)
    assert weight["generator"] == pytest.approx(0.9, abs=0.03)


def test_bfloat16_keeps_float32_state(small: Started) -> None:
    check_bfloat16(small, method_of(dtype="bfloat16"), optimisers(RULE), PLAYERS)


def test_remat_computes_every_network_again(small: Started) -> None:
    def program(method: MotionRepresentations) -> str:
        players = method.players(optimisers(RULE))
        step = functools.partial(train_step, method, players, active=PLAYERS, frozen={})
        return str(jax.make_jaxpr(step)(small.state, small.batch))

    # hourglass of three frames, encoder of the background, hourglass of the flow, four blocks of the generator
    assert program(method_of(remat=True)).count("remat") >= 3 + 1 + 1 + 4
    assert "remat" not in program(method_of())


def test_overfits_one_batch(small: Started) -> None:
    check_overfits(small, PLAYERS, "reconstruction/l1", steps=80)


def test_one_device_equals_eight() -> None:
    check_one_device_equals_eight(method_of(), optimisers(optax.sgd(1e-3)), labelled(8), steps=2)


def test_preview_and_reenactment(small: Started) -> None:
    check_preview_and_reenactment(small, {"source", "driving", "warped", "occlusion", "prediction", "target"})


def test_refusals(small: Started) -> None:
    check_refusals(small, optimisers(RULE))
    variables, source = small.state.variables, Source(as_floats(small.batch)["source"][:1])
    with pytest.raises(UserError, match='mode "avd" needs a trained AVD network'):
        small.method.reenactor(variables, source, mode="avd")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_kp": 3}, r"config\.model\.num_kp is no key .* num_regions,"),
        ({"losses": {"l2": 1.0}}, r"config\.model\.losses\.l2 .*equivariance_shift"),
        ({"generator": {"pixelwise_flow_predictor": {"blocks": 1}}}, r"pixelwise_flow_predictor\.blocks"),
    ],
)
def test_unknown_keys_are_named_with_the_known_ones(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_mapping(MotionRepresentations, values)


def test_labels_tie_regions(small: Started) -> None:
    """The first regions of both frames against their landmarks of the mean head."""
    _, metrics = small.step(small.state, small.batch, PLAYERS)
    find = jax.jit(
        lambda v, x: small.method.game.region_predictor.apply(v, x / 255, train=True, mutable=["batch_stats"])[0].shift
    )
    found = [find(small.state.variables["region_predictor"], small.batch[n]) for n in ("source", "driving")]
    wanted = 2.0 * (jnp.abs(found[0][:, :2] - 0.5).mean() + jnp.abs(found[1][:, :2] + 0.5).mean())
    assert float(metrics["reconstruction/landmarks"]) == pytest.approx(float(wanted), rel=1e-4)
    terms = [v for k, v in metrics.items() if k.startswith("reconstruction/") and not k.endswith(("loss", "norm"))]
    assert float(metrics["reconstruction/loss"]) == pytest.approx(float(sum(terms)), rel=1e-5)
