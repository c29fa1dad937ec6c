"""First Order Motion: single operations, inference at full size, the adversarial discriminator, one training step."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.config import from_mapping
from reenax.core.types import Variables
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import gaussian_heatmap
from reenax.geometry.sampling import antialias_downsample, grid_sample, resize_bilinear
from reenax.geometry.tps import TPS, transform_image, transform_jacobian, transform_points
from reenax.geometry.transfer import movement_scale
from reenax.interop import vgg
from reenax.interop.fomm import convert
from reenax.interop.published import blur_kernel, published_module, tensor_entries, variable_shapes
from reenax.interop.torch import to_variables
from reenax.methods.fomm import FirstOrderMotion
from reenax.methods.fomm.networks import Keypoints, heatmap_difference, sparse_motion
from reenax.methods.fomm.reenact import relative_keypoints
from reenax.nn.patch_discriminator import PyramidDiscriminator, PyramidParams
from reenax.nn.vgg import FIRST_OF_STAGE, vgg_features

from ..golden import Golden
from ._arrays import Arrays, after_step, layers, nchw, nhwc, picture, statistics, subsampled


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    if "model_params" in g.config:
        return _train(g, arrays)
    if "common_params" in g.config:
        return _evaluate(g, arrays)
    if "scales" in g.config:
        return _judge(g, arrays)
    return _operations(g, arrays)


def _hyper_parameters(model: Mapping[str, Any]) -> dict[str, Any]:
    """The published config as ours."""
    common, generator = model["common_params"], dict(model["generator_params"])
    assert generator.pop("estimate_occlusion_map")
    generator["dense_motion"] = generator.pop("dense_motion_params")
    return {
        "num_kp": common["num_kp"],
        "estimate_jacobian": common["estimate_jacobian"],
        "kp_detector": dict(model["kp_detector_params"]),
        "generator": generator,
        "discriminator": {"sn": False, **model["discriminator_params"]},
    }


def _method(model: Mapping[str, Any], **others: Any) -> FirstOrderMotion:
    return from_mapping(FirstOrderMotion, {**_hyper_parameters(model), **others})


def _variables(g: Golden, method: FirstOrderMotion) -> Any:
    return convert({n: g.network(n) for n in ("generator", "kp_detector", "discriminator")}, method)


def _keypoints(prefix: str, keypoints: Keypoints) -> Arrays:
    return {f"{prefix}_value": keypoints.value, f"{prefix}_jacobian": keypoints.jacobian}


# --- single operations


def _operations(g: Golden, arrays: Arrays) -> Arrays:
    image = picture(arrays["in_image"]) if arrays["in_image"].dtype == np.uint8 else nhwc(arrays["in_image"])
    variance = g.config["gaussian variance"]
    source = Keypoints(jnp.asarray(arrays["in_kp_source"]), jnp.asarray(arrays["in_jac_source"]))
    driving = Keypoints(jnp.asarray(arrays["in_kp_driving"]), jnp.asarray(arrays["in_jac_driving"]))
    tps = TPS(jnp.asarray(arrays["in_tps_theta"]), jnp.asarray(arrays["in_tps_params"])[:, 0])
    points = jnp.asarray(arrays["in_tps_points"])
    out: Arrays = {"out_tps_warp": transform_points(tps, points), "out_tps_jacobian": transform_jacobian(tps, points)}
    for name in arrays:
        size = [int(n) for n in re.findall(r"\d+", name.rsplit("_", 1)[-1])]
        if name.startswith("out_antialias_kernel_"):
            out[name] = blur_kernel(float(name.rsplit("_", 1)[-1]))
        elif name.startswith("out_antialias_"):
            out[name] = nchw(antialias_downsample(image, float(name.rsplit("_", 1)[-1])))
        elif name.startswith("out_grid_sample_"):
            padding, corners = name.removeprefix("out_grid_sample_").split("_")
            grid = jnp.asarray(arrays["in_grid"])
            out[name] = nchw(grid_sample(image, grid, padding=padding, align_corners=corners == "acTrue"))  # pyright: ignore[reportArgumentType]
        elif name.startswith("out_tps_frame_"):
            out[name] = nchw(transform_image(tps, image, align_corners=name.endswith("acTrue")))
        elif name.startswith("out_grid_"):
            out[name] = coordinate_grid(size[0], size[1])
        elif name.startswith("out_gaussian_"):
            out[name] = nchw(gaussian_heatmap(jnp.asarray(arrays["in_kp"]), (size[0], size[1]), variance))
        elif name.startswith("out_sparse_motions_"):
            out[name] = sparse_motion(source, driving, (size[0], size[1]))
        elif name.startswith("out_heatmap_repr_"):
            out[name] = nchw(heatmap_difference(source, driving, (size[0], size[1])))[:, :, None]
        elif name.startswith("out_flow_bilinear_"):
            out[name] = nchw(resize_bilinear(nhwc(arrays["in_flow"]), (size[0], size[1])))
    return out


# --- the discriminator alone


def _judge(g: Golden, arrays: Arrays) -> Arrays:
    params = from_mapping(PyramidParams, {"sn": False, **g.config})
    network = PyramidDiscriminator(params)
    driving = picture(arrays["in_driving"])
    points = jnp.asarray(arrays["in_kp_driving_value"]) if params.use_kp else None
    shapes: Any = jax.eval_shape(lambda x: network.init(jax.random.key(0), [x], points, train=False), driving)
    shapes = {"discriminator": shapes}
    entries = tensor_entries(shapes)
    variables = to_variables({f"discriminator.{k}": v for k, v in g.network("discriminator").items()}, entries, shapes)
    verdict: Any = network.apply(variables["discriminator"], [driving], points, train=False)
    features = {f"stat_feature_{i}": statistics(f) for i, f in enumerate(verdict[0].features)}
    return {"out_prediction_map": nchw(verdict[0].score), **features}


# --- inference


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
    (kp_source, seen), (kp_driving, _), (kp_later, _) = (detect(detector, x) for x in (source, driving, later))
    made, captured = generate(generator, source, kp_source, kp_driving)
    other, _ = generate(generator, source, kp_source, kp_driving, align_corners=False)
    verdict: Any = method.game.discriminator.apply(variables["discriminator"], [driving], kp_driving.value, train=False)
    out = _keypoints("out_kp_source", kp_source) | _keypoints("out_kp_driving", kp_driving)
    out |= {
        "out_heatmap_source": nchw(seen["intermediates"]["heatmap"][0]),
        "out_kp_input": nchw(antialias_downsample(source, method.kp_detector.scale_factor)),
        "out_mask": nchw(made.motion.mask),
        "out_sparse_deformed": np.moveaxis(np.asarray(made.motion.sparse_deformed), -1, 2),
        "out_flow": made.motion.flow,
        "out_occlusion": nchw(made.motion.occlusion),
        "out_deformed": nchw(made.deformed),
        "out_prediction": nchw(made.prediction),
        "out_prediction_acfalse": nchw(other.prediction),
        "out_disc_prediction_map": nchw(verdict[0].score),
        "out_pyramid_driving_0125": nchw(antialias_downsample(driving, 0.125)),
        "stat_kp_down": statistics(antialias_downsample(source, method.kp_detector.scale_factor))[None],
    }
    out |= {f"stat_disc_feature_{i}": statistics(f) for i, f in enumerate(verdict[0].features)}
    out |= layers("stat_kp_", seen["intermediates"], published_module)
    out |= layers("stat_", captured["intermediates"], published_module)
    out |= _keypoints("out_rel", relative_keypoints(kp_source, kp_later, kp_driving))
    # the picture is of the motion with adapted scale
    moved = relative_keypoints(kp_source, kp_later, kp_driving, movement_scale(kp_source.value[0], kp_driving.value[0]))
    out["out_rel_scaled_value"] = moved.value
    out["out_rel_prediction"] = nchw(generate(generator, source, kp_source, moved)[0].prediction)
    return out | subsampled(out, arrays)


# --- one training step


def _train(g: Golden, arrays: Arrays) -> Arrays:
    """Losses and outputs in float32, gradients and the step in float64, each as the case was made."""
    single = _step(g, arrays, jnp.float32)
    with jax.enable_x64(True):
        return {**_step(g, arrays, jnp.float64), **single}


def _step(g: Golden, arrays: Arrays, dtype: Any) -> Arrays:
    """A training step in float64, and the forward passes of one in float32."""
    training = g.config["train_params"]
    weights, t = dict(training["loss_weights"]), training["transform_params"]
    method = _method(
        g.config["model_params"],
        losses={**weights, "scales": training["scales"]},
        transform={"sigma_affine": t["sigma_affine"], "sigma_tps": t["sigma_tps"], "points": t["points_tps"]},
    )
    game = method.game

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

    # Everything is an argument: XLA would spend minutes on folding constants.
    def generator_loss(params, variables, trunk, source, driving, tps):
        current = {n: {**v, "params": params[n]} if n in params else v for n, v in variables.items()}
        out, forward = game.loss_under({**current, "vgg19": trunk}, source, driving, tps)
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
    trunk = cast(vgg.convert(g.network("vgg19"), "vgg19"))
    source, driving = cast(arrays["in_source"]) / 255, cast(arrays["in_driving"]) / 255
    tps = TPS(cast(arrays["in_transform_theta"]), cast(arrays["in_transform_control_params"])[:, 0])
    params = {n: v["params"] for n, v in variables.items()}
    judged = {"discriminator": params.pop("discriminator")}
    (out, forward), grads = moved(generator_loss, params, variables, trunk, source, driving, tps)
    current = {n: {**v, **out.mutated.get(n, {})} for n, v in variables.items()}
    disc, disc_grads = moved(discriminator_loss, judged, current, driving, out.shared)
    if dtype == jnp.float64:
        current = {n: {**v, **disc.mutated.get(n, {})} for n, v in current.items()}
        rates = {n: training[f"lr_{n}"] for n in current}
        entries = tensor_entries(variable_shapes(method))
        return after_step(g, method.players, rates, current, {**grads, **disc_grads}, entries)

    computed: Arrays = {f"loss_{k}": v for k, v in {**out.metrics, **disc.metrics}.items()}
    computed |= _keypoints("out_kp_source", forward.kp_source) | _keypoints("out_kp_driving", forward.kp_driving)
    computed |= _keypoints("out_transformed_kp", forward.kp_transformed)
    computed |= {
        "out_prediction": nchw(forward.generated.prediction),
        "out_transformed_frame": nchw(forward.transformed),
        "out_warped_transformed_kp": transform_points(tps, forward.kp_transformed.value),
        "out_transform_jacobian": transform_jacobian(tps, forward.kp_transformed.value),
    }
    features = jax.jit(lambda v, x: vgg_features(v)(x))(trunk, driving)
    computed |= {f"stat_vgg_driving_{n}": statistics(features[n]) for n in FIRST_OF_STAGE}
    return computed | subsampled(computed, arrays)
