"""First Order Motion: single operations, inference at full size, the adversarial discriminator, one training step."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.config import from_mapping
from reenax.core.types import Variables
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import gaussian_heatmap
from reenax.geometry.sampling import antialias_downsample, grid_sample, resize_bilinear
from reenax.geometry.tps import TPS, transform_image, transform_jacobian, transform_points
from reenax.interop import vgg
from reenax.interop.fomm import blur_kernel, convert, tensor_entries, variable_shapes
from reenax.interop.torch import to_state, to_variables
from reenax.methods.fomm import FirstOrderMotion
from reenax.methods.fomm.networks import (
    Discriminator,
    DiscriminatorParams,
    Keypoints,
    heatmap_difference,
    sparse_motion,
)
from reenax.methods.fomm.reenact import movement_scale, relative_keypoints
from reenax.nn.vgg import FIRST_OF_STAGE, vgg_features

from ..golden import Golden

Arrays = dict[str, Any]


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    if "model_params" in g.config:
        return _train(g, arrays)
    if "common_params" in g.config:
        return _evaluate(g, arrays)
    if "scales" in g.config:
        return _judge(g, arrays)
    return _operations(g, arrays)


def _picture(array: np.ndarray) -> jax.Array:
    """A stored picture as network input: [b h w 3] in [0, 1]."""
    return jnp.asarray(array.reshape(-1, *array.shape[-3:]), jnp.float32) / 255


def _nhwc(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, 1, -1))


def _nchw(array: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1)


def _statistics(array: Any, layout: str = "nhwc") -> np.ndarray:
    """Mean, deviation, absolute sum, first and last number of a map."""
    x = np.asarray(array, np.float64)
    x = _nchw(x) if layout == "nhwc" else x
    return np.array([x.mean(), x.std(), np.abs(x).sum(), x.flat[0], x.flat[-1]])


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
    image = _picture(arrays["in_image"]) if arrays["in_image"].dtype == np.uint8 else _nhwc(arrays["in_image"])
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
            out[name] = _nchw(antialias_downsample(image, float(name.rsplit("_", 1)[-1])))
        elif name.startswith("out_grid_sample_"):
            padding, corners = name.removeprefix("out_grid_sample_").split("_")
            grid = jnp.asarray(arrays["in_grid"])
            out[name] = _nchw(grid_sample(image, grid, padding=padding, align_corners=corners == "acTrue"))  # pyright: ignore[reportArgumentType]
        elif name.startswith("out_tps_frame_"):
            out[name] = _nchw(transform_image(tps, image, align_corners=name.endswith("acTrue")))
        elif name.startswith("out_grid_"):
            out[name] = coordinate_grid(size[0], size[1])
        elif name.startswith("out_gaussian_"):
            out[name] = _nchw(gaussian_heatmap(jnp.asarray(arrays["in_kp"]), (size[0], size[1]), variance))
        elif name.startswith("out_sparse_motions_"):
            out[name] = sparse_motion(source, driving, (size[0], size[1]))
        elif name.startswith("out_heatmap_repr_"):
            out[name] = _nchw(heatmap_difference(source, driving, (size[0], size[1])))[:, :, None]
        elif name.startswith("out_flow_bilinear_"):
            out[name] = _nchw(resize_bilinear(_nhwc(arrays["in_flow"]), (size[0], size[1])))
    return out


# --- the discriminator alone


def _judge(g: Golden, arrays: Arrays) -> Arrays:
    params = from_mapping(DiscriminatorParams, {"sn": False, **g.config})
    network = Discriminator(params)
    picture = _picture(arrays["in_driving"])
    points = jnp.asarray(arrays["in_kp_driving_value"]) if params.use_kp else None
    shapes: Any = jax.eval_shape(lambda x: network.init(jax.random.key(0), [x], points, train=False), picture)
    shapes = {"discriminator": shapes}
    entries = tensor_entries(shapes)
    variables = to_variables({f"discriminator.{k}": v for k, v in g.network("discriminator").items()}, entries, shapes)
    verdict: Any = network.apply(variables["discriminator"], [picture], points, train=False)
    features = {f"stat_feature_{i}": _statistics(f) for i, f in enumerate(verdict[0].features)}
    return {"out_prediction_map": _nchw(verdict[0].score), **features}


# --- inference


def _evaluate(g: Golden, arrays: Arrays) -> Arrays:
    method = _method(g.config)
    variables = _variables(g, method)
    source, driving, later = (_picture(arrays[f"in_{n}"]) for n in ("source", "driving", "driving2"))

    @jax.jit
    def detect(v, x):
        return method.game.kp_detector.apply(v, x, train=False, capture_intermediates=True)

    @functools.partial(jax.jit, static_argnames="align_corners")
    def generate(v, source, kp_source, kp_driving, align_corners=True):
        network = method.game.generator.clone(align_corners=align_corners)
        return network.apply(v, source, kp_source, kp_driving, train=False, capture_intermediates=True)

    generator, detector = variables["generator"], variables["kp_detector"]
    (kp_source, seen), (kp_driving, _), (kp_later, _) = (detect(detector, x) for x in (source, driving, later))
    made, layers = generate(generator, source, kp_source, kp_driving)
    other, _ = generate(generator, source, kp_source, kp_driving, align_corners=False)
    verdict: Any = method.game.discriminator.apply(variables["discriminator"], [driving], kp_driving.value, train=False)
    out = _keypoints("out_kp_source", kp_source) | _keypoints("out_kp_driving", kp_driving)
    out |= {
        "out_heatmap_source": _nchw(seen["intermediates"]["heatmap"][0]),
        "out_kp_input": _nchw(antialias_downsample(source, method.kp_detector.scale_factor)),
        "out_mask": _nchw(made.motion.mask),
        "out_sparse_deformed": np.moveaxis(np.asarray(made.motion.sparse_deformed), -1, 2),
        "out_flow": made.motion.flow,
        "out_occlusion": _nchw(made.motion.occlusion),
        "out_deformed": _nchw(made.deformed),
        "out_prediction": _nchw(made.prediction),
        "out_prediction_acfalse": _nchw(other.prediction),
        "out_disc_prediction_map": _nchw(verdict[0].score),
        "out_pyramid_driving_0125": _nchw(antialias_downsample(driving, 0.125)),
        "stat_kp_down": _statistics(antialias_downsample(source, method.kp_detector.scale_factor))[None],
    }
    out |= {f"stat_disc_feature_{i}": _statistics(f) for i, f in enumerate(verdict[0].features)}
    out |= _layers("stat_kp_", seen["intermediates"]) | _layers("stat_", layers["intermediates"])
    out |= _keypoints("out_rel", relative_keypoints(kp_source, kp_later, kp_driving))
    # the picture is of the motion with adapted scale
    moved = relative_keypoints(kp_source, kp_later, kp_driving, movement_scale(kp_source, kp_driving))
    out["out_rel_scaled_value"] = moved.value
    out["out_rel_prediction"] = _nchw(generate(generator, source, kp_source, moved)[0].prediction)
    return out | {name: _subsampled(out, name) for name in arrays if re.search(r"_sub\d+", name)}


def _layers(prefix: str, captured: Mapping[str, Any], path: str = "") -> Arrays:
    """Statistics of every module's output under its published name."""
    out: Arrays = {}
    for name, value in captured.items():
        if name == "__call__" and isinstance(value[0], jax.Array):
            out[prefix + path] = _statistics(value[0])[None]
        elif isinstance(value, Mapping):
            name = re.sub(r"^(down_blocks|up_blocks|bottleneck)_", r"\1.", name).replace("bottleneck.", "bottleneck.r")
            out |= _layers(prefix, value, f"{path}.{name}" if path else name)
    return out


def _subsampled(out: Arrays, name: str) -> np.ndarray:
    """``X_subN`` and ``X_subN_suffix``: every N-th pixel of the last two axes."""
    base, step, suffix = re.fullmatch(r"(.*)_sub(\d+)(.*)", name).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return np.asarray(out[base + suffix])[..., :: int(step), :: int(step)]


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
        out = game.discriminator_loss(
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
        return _after(g, method, current, {**grads, **disc_grads})

    computed: Arrays = {f"loss_{k}": v for k, v in {**out.metrics, **disc.metrics}.items()}
    computed |= _keypoints("out_kp_source", forward.kp_source) | _keypoints("out_kp_driving", forward.kp_driving)
    computed |= _keypoints("out_transformed_kp", forward.kp_transformed)
    computed |= {
        "out_prediction": _nchw(forward.generated.prediction),
        "out_transformed_frame": _nchw(forward.transformed),
        "out_warped_transformed_kp": transform_points(tps, forward.kp_transformed.value),
        "out_transform_jacobian": transform_jacobian(tps, forward.kp_transformed.value),
    }
    features = jax.jit(lambda v, x: vgg_features(v)(x))(trunk, driving)
    computed |= {f"stat_vgg_driving_{n}": _statistics(features[n]) for n in FIRST_OF_STAGE}
    return computed | {n: _subsampled(computed, n) for n in arrays if re.search(r"_sub\d+", n)}


def _after(g: Golden, method: FirstOrderMotion, variables: Variables, grads: Any) -> Arrays:
    """Gradients by published names, and the variables after the optimisers' first step."""
    training = g.config["train_params"]
    rates = {n: training[f"lr_{n}"] for n in variables}
    optim = {n: optax.adam(rate, b1=0.5, b2=0.999, eps=1e-8) for n, rate in rates.items()}

    @jax.jit
    def step(params, grads):
        stepped: dict[str, Any] = {}
        for player in method.players(optim):
            mine, theirs = ({n: tree[n] for n in player.owns} for tree in (params, grads))
            tx: Any = player.update.tx  # pyright: ignore[reportAttributeAccessIssue]
            updates, _ = tx.update(theirs, tx.init(mine), mine)
            moved: Any = optax.apply_updates(mine, updates)
            stepped |= moved
        return stepped

    stepped = step({n: v["params"] for n, v in variables.items()}, grads)
    after = {n: {**v, "params": stepped[n]} for n, v in variables.items()}
    entries = tensor_entries(variable_shapes(method))
    by_name = to_state({n: {"params": p} for n, p in grads.items()}, entries)
    computed: Arrays = {f"grad_{k}": v for k, v in by_name.items()}
    computed |= {f"after_{k}": v for k, v in to_state(after, entries).items()}
    for name, order in g.manifest.get("gradnorm_order", {}).items():
        computed[name] = np.array([np.linalg.norm(by_name[k]) for k in order])
    return computed
