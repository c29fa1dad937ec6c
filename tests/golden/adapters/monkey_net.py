"""Monkey-Net: single operations, inference of both published sizes, one training step."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.config import from_mapping
from reenax.core.pictures import from_unit
from reenax.core.types import Variables
from reenax.geometry.transfer import movement_scale
from reenax.interop.monkey_net import convert, module_name
from reenax.interop.published import tensor_entries, variable_shapes
from reenax.interop.torch import Entry, to_variables
from reenax.methods.monkey_net import MonkeyNet
from reenax.methods.monkey_net.embedding import (
    Embedding,
    Keypoints,
    displacements,
    heatmaps,
    keypoints_of,
    smallest_eigenvalue,
)
from reenax.methods.monkey_net.prediction import KeypointPredictor
from reenax.methods.monkey_net.transfer import relative_keypoints

from ..golden import Golden
from ._arrays import Arrays, after_step, layers, nchw, nhwc, picture, statistics, subsampled


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    if "model_params" in g.config:
        return _train(g, arrays)
    return _evaluate(g, arrays) if "common_params" in g.config else _operations(g, arrays)


def _flat(array: np.ndarray) -> jax.Array:
    """[b c 1 h w] to [b h w c]."""
    return nhwc(array[:, :, 0])


def _deep(array: Any) -> np.ndarray:
    """[b h w c] to [1 c b h w]: samples are the reference's frames."""
    return np.moveaxis(np.asarray(array), -1, 0)[None]


def _each(array: Any) -> np.ndarray:
    """[b h w c] to [b c 1 h w]."""
    return nchw(array)[:, :, None]


def _keypoints(prefix: str, keypoints: Keypoints) -> Arrays:
    return {f"{prefix}_mean": keypoints.mean[None], f"{prefix}_var": keypoints.covariance[None]}


def _stored(arrays: Mapping[str, np.ndarray], prefix: str) -> Keypoints:
    return Keypoints(*(jnp.asarray(arrays[f"{prefix}_{part}"][0]) for part in ("mean", "var")))


# --- single operations


def _operations(g: Golden, arrays: Arrays) -> Arrays:
    heatmap, image = _flat(arrays["in_heatmap"]), _flat(arrays["in_ops_image"])
    matrix = keypoints_of(heatmap)
    single = keypoints_of(heatmap, "single")
    out = _keypoints("out_gaussian2kp_matrix_None", matrix)
    out |= _keypoints("out_gaussian2kp_matrix_0.1", keypoints_of(heatmap, "matrix", 0.1))
    out |= _keypoints("out_gaussian2kp_single_None", Keypoints(single.mean, single.covariance[..., :1, :1]))
    out["out_smallest_singular"] = smallest_eigenvalue(matrix.covariance)[None, ..., None]
    constant = keypoints_of(heatmap, 0.01)
    for name, found in (("matrix", matrix), ("0.01", constant)):
        out[f"out_kp2gaussian_{name}_7x5"] = np.moveaxis(np.asarray(heatmaps(found, (7, 5), 1.0)), -1, 1)[:, None]
    moved = Keypoints(matrix.mean + 0.2, matrix.covariance)
    size = (image.shape[1], image.shape[2])
    shown = {
        "mask": Embedding(displacement=True, deformed_source=True, background=True),
        "sum": Embedding(heatmap="gaussian", norm=0.0),
        "diff": Embedding(heatmap="none", displacement=True, background=True),
    }
    for name, embedding in shown.items():
        out[f"out_embedding_{name}"] = _each(embedding(matrix, moved, size, image))
    return out | _predict(g, arrays)


def _predict(g: Golden, arrays: Arrays) -> Arrays:
    network = KeypointPredictor(g.tensors["predictor.rnn.weight_hh_l0"][0][1])
    inputs = jnp.asarray(arrays["in_pred_mean"]), jnp.asarray(arrays["in_pred_var"])
    names = {("rnn", "ih"): "rnn.{}_ih_l0", ("rnn", "hh"): "rnn.{}_hh_l0", ("linear",): "linear.{}"}
    entries = []
    for path, name in names.items():
        entries.append(Entry(name.format("weight"), ("params", *path, "kernel"), "dense"))
        entries.append(Entry(name.format("bias"), ("params", *path, "bias")))
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    made: Any = network.apply(to_variables(g.network("predictor"), entries, shapes), *inputs)
    mean, covariance = made
    return {"out_pred_mean": mean, "out_pred_var": covariance}


# --- inference


def _method(model: Mapping[str, Any], **others: Any) -> MonkeyNet:
    """The published config as ours."""
    common, generator = model["common_params"], dict(model["generator_params"])
    embedding, motion = generator.pop("kp_embedding_params"), dict(generator.pop("dense_motion_params"))
    mask = motion.pop("mask_embedding_params")
    discriminator = dict(model["discriminator_params"])
    assert motion.pop("use_mask")
    assert motion.pop("use_correction")
    assert mask["heatmap_type"] == embedding["heatmap_type"] == "difference"
    detector = {"scale_factor": 1.0, **model["kp_detector_params"], "variance": common["kp_variance"]}
    interpolation = {"trilinear": "bilinear", "nearest": "nearest"}[generator.pop("interpolation_mode", "nearest")]
    values = {
        "num_kp": common["num_kp"],
        "kp_detector": detector,
        "generator": {
            **generator,
            "interpolation": interpolation,
            "scale_factor": embedding.get("scale_factor", 1.0),
            "norm": embedding["norm_const"],
            "dense_motion": {"scale_factor": 1.0, **motion, "norm": mask["norm_const"]},
        },
        "discriminator": {"norm": discriminator.pop("kp_embedding_params")["norm_const"], **discriminator},
    }
    return from_mapping(MonkeyNet, {**values, **others})


def _variables(g: Golden, method: MonkeyNet) -> Any:
    return convert({n: g.network(n) for n in ("generator", "kp_detector", "discriminator")}, method)


def _evaluate(g: Golden, arrays: Arrays) -> Arrays:
    method = _method(g.config)
    variables = _variables(g, method)
    source, driving, later = (picture(arrays[f"in_{n}"]) for n in ("source", "driving", "driving2"))

    @jax.jit
    def detect(v, x):
        return method.game.kp_detector.apply(v, x, train=False, capture_intermediates=True)

    @functools.partial(jax.jit, static_argnames="align_corners")
    def generate(v, source, kp_source, kp_driving, align_corners=True):
        network = method.game.generator.clone(align_corners=align_corners)
        return network.apply(v, source, kp_source, kp_driving, train=False, capture_intermediates=True)

    generator, detector = variables["generator"], variables["kp_detector"]
    (kp_source, seen), (kp_driving, seen_driving), (kp_later, _) = (
        detect(detector, x) for x in (source, driving, later)
    )
    made, captured = generate(generator, source, kp_source, kp_driving)
    other, _ = generate(generator, source, kp_source, kp_driving, align_corners=False)
    out = _keypoints("out_kp_source", kp_source) | _keypoints("out_kp_driving", kp_driving)
    # the reference's flow has a third coordinate, along a depth of one
    flow = np.pad(np.asarray(made.motion.flow), ((0, 0), (0, 0), (0, 0), (0, 1)))
    out |= {
        "out_flow": flow[None],
        "out_flow_sub4": flow[None, :, ::4, ::4],
        "out_video_deformed": _each(made.deformed),
        "out_prediction": _each(made.prediction),
        "out_prediction_acfalse": _each(other.prediction),
    }
    out |= _layers_of(captured["intermediates"], kp_source, kp_driving)
    rows = [layers("stat_kp_", s["intermediates"], module_name) for s in (seen, seen_driving)]
    rows = [{**r, "stat_kp_predictor": r["stat_kp_predictor.decoder.conv"]} for r in rows]
    out |= {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    verdict: Any = method.game.discriminator.apply(variables["discriminator"], driving, kp_driving, train=False)
    out["out_disc_prediction_map"] = _each(verdict.score)
    maps = [driving, *verdict.features, verdict.score]
    out |= {f"stat_disc_map_{i}": statistics(x) for i, x in enumerate(maps)}
    anchor, joined = kp_driving, jax.tree.map(lambda *x: jnp.concatenate(x), kp_driving, kp_later)
    scale = movement_scale(kp_source.mean[0], anchor.mean[0])
    options = {"clip_mean": True, "adapt_variance": True}
    out |= _keypoints("out_transfer_rel", relative_keypoints(kp_source, joined, anchor))
    out |= _keypoints("out_transfer_rel_scaled", relative_keypoints(kp_source, joined, anchor, scale, **options))
    # The warp magnifies the rounding of keypoints beyond the tolerance of these pictures, in the reference too: they
    # are painted from its own keypoints, which the arrays above are compared with.
    kp_source = _stored(arrays, "out_kp_source")
    for name in ("out_transfer_rel", "out_transfer_rel_scaled"):
        moved = _stored(arrays, name)
        frames = [
            generate(generator, source, kp_source, jax.tree.map(lambda x, i=i: x[i : i + 1], moved)) for i in (0, 1)
        ]
        out[f"{name}_prediction"] = _deep(jnp.concatenate([made.prediction for made, _ in frames]))
    step = out["out_prediction_acfalse"].shape[-1] // arrays["out_prediction_sub_acfalse"].shape[-1]
    thinned = [n for n in out if n.endswith(("prediction_acfalse", "rel_prediction", "scaled_prediction"))]
    for name in thinned:
        base, _, suffix = name.partition("_prediction")
        out[f"{base}_prediction_sub{suffix}"] = np.asarray(out[name])[..., ::step, ::step]
    return subsampled(out, [n for n in arrays if n not in out]) | out


def _layers_of(captured: Mapping[str, Any], source: Keypoints, driving: Keypoints) -> Arrays:
    """Statistics of the generator's layers, the parameterless ones and last convolutions among them."""
    out = layers("stat_", captured, module_name)
    hourglass, motion = "stat_dense_motion_module.hourglass", captured["dense_motion_module"]
    out[hourglass] = out[f"stat_dense_motion_module.{module_name('masks')}"]
    shown = motion["mask_embedding"][0]
    shift = displacements(source, driving, background=True)
    constant = jnp.broadcast_to(shift.reshape(1, 1, 1, -1), (*shown.shape[:3], 2 * shift.shape[1]))
    parts = {
        "dense_motion_module.mask_embedding": shown,
        "dense_motion_module.difference_embedding": constant,
        "kp_embedding_module": captured["kp_embedding"][0],
    }
    return out | {f"stat_{name}": statistics(x)[None] for name, x in parts.items()}


# --- one training step


def _train(g: Golden, arrays: Arrays) -> Arrays:
    """Losses and outputs in float32, gradients and the step in float64, each as the case was made."""
    single = _step(g, arrays, jnp.float32)
    with jax.enable_x64(True):
        return {**_step(g, arrays, jnp.float64), **single}


def _step(g: Golden, arrays: Arrays, dtype: Any) -> Arrays:
    """A training step in float64, and the forward passes of one in float32."""
    weights = dict(g.config["loss_weights"])
    method = _method(g.config["model_params"], losses=weights)
    game = method.game

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

    # Everything is an argument: XLA would spend minutes on folding constants.
    def generator_loss(params, variables, batch):
        current = {n: {**v, "params": params[n]} if n in params else v for n, v in variables.items()}
        out, forward = game.loss_and_forward(current, batch)
        return out.loss, (out, forward)

    def discriminator_loss(params, batch, shared):
        out = game.discriminator_loss(
            {"discriminator": {"params": params["discriminator"]}},
            batch,
            jax.random.key(0),
            step=jnp.zeros((), jnp.int32),
            shared=shared,
        )
        return out.loss, out

    def moved(loss: Any, *arguments: Any) -> tuple[Any, Any]:
        """What the loss returns beside its value, and its gradient in float64."""
        if dtype == jnp.float32:
            return jax.jit(loss)(*arguments)[1], None
        (_, rest), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(*arguments)
        return rest, grads

    variables: Variables = cast(_variables(g, method))
    # The reference divided by 255 in float32, also where it went on in float64; these gradients feel the last bit.
    batch = {n: from_unit(cast(arrays[f"in_{n}"] / np.float32(255))) for n in ("source", "driving")}
    params = {n: v["params"] for n, v in variables.items()}
    judged = {"discriminator": params.pop("discriminator")}
    (out, forward), grads = moved(generator_loss, params, variables, batch)
    disc, disc_grads = moved(discriminator_loss, judged, batch, out.shared)
    if dtype == jnp.float64:
        current = {n: {**v, **out.mutated.get(n, {})} for n, v in variables.items()}
        rates = {n: float(g.config["lr"]) for n in variables}
        entries = tensor_entries(variable_shapes(method), module_name)
        computed = after_step(g, method.players, rates, current, {**grads, **disc_grads}, entries)
        # the reference's kernels are one frame deep
        return {n: x[:, :, None] if n.startswith("after_") and x.ndim == 4 else x for n, x in computed.items()}
    computed: Arrays = {f"loss_{k}": v for k, v in {**out.metrics, **disc.metrics}.items()}
    joined = jax.tree.map(lambda *x: jnp.stack(x, axis=1), forward.kp_source, forward.kp_driving)
    return computed | {
        "out_kp_joined_mean": joined.mean,
        "out_kp_joined_var": joined.covariance,
        "out_prediction": _each(forward.generated.prediction),
        "out_video_deformed": _each(forward.generated.deformed),
    }
