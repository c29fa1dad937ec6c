"""face vid2vid's golden cases: the published layout, inference by both generators, and a training step."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.config import from_mapping
from reenax.core.types import Variables
from reenax.geometry.tps import TPS
from reenax.geometry.transfer import movement_scale, relative_points
from reenax.interop import hopenet, vgg
from reenax.interop.face_vid2vid import convert, module_name
from reenax.interop.published import tensor_entries, variable_shapes
from reenax.methods.face_vid2vid import FaceVid2Vid
from reenax.methods.face_vid2vid.keypoints import HeadPose, compose, expected_angle
from reenax.nn.hopenet import Hopenet

from ..golden import Golden
from ._arrays import Arrays, after_step, layers, nchw, picture, statistics

NETWORKS = ("generator", "kp_detector", "he_estimator", "discriminator")
ANGLES = ("yaw", "pitch", "roll")


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    return _train(g, arrays) if "train_params" in g.config else _evaluate(g, arrays)


def _method(model: Mapping[str, Any], *, spade: bool = False, **others: Any) -> FaceVid2Vid:
    """The published config as ours, with the published code's choices."""
    generator, detector = dict(model["generator_params"]), dict(model["kp_detector_params"])
    assert generator.pop("estimate_occlusion_map")
    motion = {**generator.pop("dense_motion_params"), "last": True}
    assert motion.pop("reshape_depth") == generator["reshape_depth"]
    del detector["reshape_channel"]  # twice said: the depth and the last width
    depth = detector.pop("reshape_depth")
    values = {
        "num_kp": model["common_params"]["num_kp"],
        "kp_detector": {**detector, "depth": depth, "kernel_size": 3},
        "he_estimator": dict(model["he_estimator_params"]),
        "generator": {
            **{k: v for k, v in generator.items() if not k.startswith("reshape_")},
            "channels": generator["reshape_channel"],
            "depth": generator["reshape_depth"],
            "dense_motion": motion,
            "spade": spade,
        },
        "discriminator": dict(model["discriminator_params"]),
        "rotation": {"half_turn": 3.14},
        "rotate_flow": False,
        "align_corners": False,
    }
    return from_mapping(FaceVid2Vid, {**values, **others})


def _variables(g: Golden, method: FaceVid2Vid) -> Any:
    return convert({n: g.network(n) for n in NETWORKS}, method)


def _ncdhw(array: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1)


# --- inference


def _evaluate(g: Golden, arrays: Arrays) -> Arrays:
    spade = any(".decoder.fc." in name for name in g.tensors)
    method = _method(g.config, spade=spade)
    game, variables = method.game, _variables(g, method)
    source, driving = picture(arrays["in_source"]), picture(arrays["in_driving"])

    @functools.partial(jax.jit, static_argnames="network")
    def capture(v, *inputs, network):
        return network.apply(v, *inputs, train=False, capture_intermediates=True)

    canonical, seen = capture(variables["kp_detector"], source, network=game.kp_detector)
    estimator = functools.partial(capture, variables["he_estimator"], network=game.he_estimator)
    (pose_source, read_source), (pose, read) = estimator(source), estimator(driving)
    kp_source, kp_driving = (compose(canonical, p, method.rotation) for p in (pose_source, pose))
    generate = functools.partial(capture, variables["generator"], source, kp_source)
    made, captured = generate(kp_driving, network=game.generator)
    verdict: Any = game.discriminator.apply(variables["discriminator"], [driving], None, train=False)
    free = pose._replace(yaw=jnp.asarray([20.0]), pitch=jnp.asarray([-10.0]), roll=jnp.asarray([5.0]))
    prediction = nchw(made.prediction)
    out = {
        "out_rotation_driving": kp_driving.rotation,
        "out_kp_canonical": canonical,
        "out_kp_source_value": kp_source.value,
        "out_kp_driving_value": kp_driving.value,
        "out_kp_free_view_yaw20_pitch-10_roll5": compose(canonical, free, method.rotation).value,
        "out_mask_sub": _ncdhw(made.motion.mask)[:, :, ::8, ::8, ::8],
        "out_deformation_sub": np.asarray(made.motion.flow)[:, ::4, ::4, ::4],
        "out_occlusion": nchw(made.motion.occlusion),
        "out_prediction_sub2": prediction[..., ::2, ::2],
        "out_disc_prediction_map": nchw(verdict[0].score),
    }
    out |= _read("source", pose_source, read_source) | _read("driving", pose, read)
    out |= {f"out_degree_driving_{n}": getattr(pose, n) for n in ANGLES}
    out |= {f"stat_disc_feature_{i}": statistics(f) for i, f in enumerate(verdict[0].features)}
    out |= _layer_statistics(seen, read_source, read, captured)
    if "in_driving2" in arrays:
        later, _ = estimator(picture(arrays["in_driving2"]))
        scale = movement_scale(kp_source.value[0], kp_driving.value[0])
        kp_later = compose(canonical, later, method.rotation)
        out["out_rel_scaled_value"] = relative_points(kp_source.value, kp_later.value, kp_driving.value, scale)
    if "out_prediction_sub4_actrue" in arrays:
        other, _ = generate(kp_driving, network=game.generator.clone(align_corners=True))
        out["out_prediction_sub4_actrue"] = nchw(other.prediction)[..., ::4, ::4]
    return out


def _read(frame: str, pose: HeadPose, captured: Mapping[str, Any]) -> Arrays:
    logits = {f"out_he_{frame}_{n}": captured["intermediates"][f"{n}_logits"][0] for n in ANGLES}
    expression = pose.expression.reshape(pose.expression.shape[0], -1)
    return {**logits, f"out_he_{frame}_t": pose.translation, f"out_he_{frame}_exp": expression}


def _layer_statistics(seen: Any, read_source: Any, read: Any, captured: Any) -> Arrays:
    """By published names; a sequence of blocks has the statistics of its last, and two calls have two rows."""
    rows = [_last_of_sequence(layers("stat_he_", r["intermediates"], module_name)) for r in (read_source, read)]
    out = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    pooled = [_pooled(r["intermediates"]["norm1"]["__call__"][0]) for r in (read_source, read)]
    out["stat_he_maxpool"] = np.stack([statistics(x) for x in pooled])
    for prefix, found in (("stat_kp_", seen), ("stat_", captured)):
        out |= _last_of_sequence(layers(prefix, found["intermediates"], module_name))
    return out


def _last_of_sequence(found: Arrays) -> Arrays:
    """``block1.b1_2`` also as ``block1``: the layers come in the order of their calls."""
    sequences = r"(stat_he_block\d|stat_kp_predictor\.down_blocks|stat_resblocks_[23]d)\.(?:b\d_|down|[23]dr)\d+"
    ends: Arrays = {}
    for name, value in sorted(found.items()):
        if match := re.fullmatch(sequences, name):
            ends[match[1]] = value
    return {**found, **ends}


def _pooled(x: Any) -> np.ndarray:
    """ReLU and the maximum of 3x3 pixels, every second one."""
    x = np.pad(np.maximum(np.asarray(x), 0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return windows[:, ::2, ::2].max(axis=(-2, -1))


# --- one training step


def _train(g: Golden, arrays: Arrays) -> Arrays:
    """Losses and outputs in float32, gradients and the step in float64, each as the case was made."""
    single = _step(g, arrays, jnp.float32)
    least_squares = _step(g, arrays, jnp.float32, gan="ls")
    with jax.enable_x64(True):
        double = _step(g, arrays, jnp.float64)
    adversarial = {f"loss_ls_{n}": least_squares[f"loss_{n}"] for n in ("gen_gan", "disc_gan")}
    return {**double, **single, **adversarial}


def _step(g: Golden, arrays: Arrays, dtype: Any, gan: str = "hinge") -> Arrays:
    """A training step in float64, and the forward passes of one in float32."""
    training = g.config["train_params"]
    weights, t = dict(training["loss_weights"]), training["transform_params"]
    assert weights.pop("equivariance_jacobian") == 0
    method = _method(
        g.config["model_params"],
        losses={**weights, "scales": training["scales"], "gan": gan},
        transform={"sigma_affine": t["sigma_affine"], "sigma_tps": t["sigma_tps"], "points": t["points_tps"]},
    )
    game = method.game

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

    # Everything is an argument: XLA would spend minutes on folding constants.
    def generator_loss(params, variables, frozen, source, driving, tps):
        current = {n: {**v, "params": params[n]} if n in params else v for n, v in variables.items()}
        out, forward = game.loss_under({**current, **frozen}, source, driving, tps)
        return out.loss, (out, forward)

    def discriminator_loss(params, current, driving, shared):
        current = {**current, "discriminator": {**current["discriminator"], "params": params["discriminator"]}}
        out = game.patches.discriminator_loss(
            current, {"driving": 2 * driving - 1}, jax.random.key(0), step=jnp.zeros((), jnp.int32), shared=shared
        )
        return out.loss, out

    def moved(loss: Any, *arguments: Any) -> tuple[Any, Any]:
        """What the loss returns beside its value, and its gradient in float64."""
        if dtype == jnp.float32:
            return jax.jit(loss)(*arguments)[1], None
        (_, rest), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(*arguments)
        return rest, grads

    variables: Variables = cast(_variables(g, method))
    frozen = {
        "vgg19": vgg.convert(g.network("vgg19"), "vgg19"),
        "hopenet": hopenet.convert(g.network("hopenet")),
    }
    frozen = cast(frozen)
    # divided by 255 in float32, as the case was made, and on the host: a device may multiply by the reciprocal instead
    source, driving = (cast(arrays[f"in_{n}"].astype(np.float32) / np.float32(255)) for n in ("source", "driving"))
    tps = TPS(cast(arrays["in_transform_theta"]), cast(arrays["in_transform_control_params"])[:, 0])
    params = {n: v["params"] for n, v in variables.items()}
    judged = {"discriminator": params.pop("discriminator")}
    (out, forward), grads = moved(generator_loss, params, variables, frozen, source, driving, tps)
    current = {n: {**v, **out.mutated.get(n, {})} for n, v in variables.items()}
    disc, disc_grads = moved(discriminator_loss, judged, current, driving, out.shared)
    if dtype == jnp.float64:
        current = {n: {**v, **disc.mutated.get(n, {})} for n, v in current.items()}
        rates = {n: training[f"lr_{n}"] for n in current}
        entries = tensor_entries(variable_shapes(method), module_name)
        return after_step(g, method.players, rates, current, {**grads, **disc_grads}, entries)

    computed: Arrays = {f"loss_{k}": v for k, v in {**out.metrics, **disc.metrics}.items()}
    read: Any = jax.jit(Hopenet().apply)(frozen["hopenet"], driving)
    computed |= {f"out_hopenet_{n}_logits": v for n, v in read.items()}
    computed |= {f"out_hopenet_{n}_degree": expected_angle(v) for n, v in read.items()}
    return computed | {
        "out_kp_source_value": forward.kp_source.value,
        "out_kp_driving_value": forward.kp_driving.value,
        "out_transformed_kp_value": forward.kp_transformed.value,
        "out_prediction": nchw(forward.generated.prediction),
    }
