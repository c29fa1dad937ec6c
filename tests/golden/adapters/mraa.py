"""Motion Representations for Articulated Animation: single operations, inference at full size, one step per stage."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.config import from_mapping
from reenax.core.types import Variables
from reenax.geometry.heatmaps import covariance_heatmap, expected_covariance, expected_points, gaussian_heatmap
from reenax.geometry.tps import TPS
from reenax.geometry.transfer import movement_scale
from reenax.interop import vgg
from reenax.interop.mraa import convert, module_name
from reenax.interop.published import tensor_entries, variable_shapes
from reenax.methods.mraa import MotionRepresentations
from reenax.methods.mraa.generator import sparse_motion
from reenax.methods.mraa.networks import Regions, framed
from reenax.methods.mraa.principal_axes import principal_axes
from reenax.methods.mraa.reenact import relative_regions

from ..golden import Golden
from ._arrays import Arrays, after_step, layers, nchw, nhwc, picture, statistics, subsampled

# reconstruction and AVD are two players, each with one optimiser
RATES = {"reconstruction": "train_params", "avd": "train_avd_params"}


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    if "train_params" in g.config:
        return _train(g, arrays)
    return _evaluate(g, arrays) if g.config else _operations(arrays)


def _method(config: Mapping[str, Any], **others: Any) -> MotionRepresentations:
    """The published config as ours."""
    region = {"pad": 3, **config["region_predictor_params"]}
    assert not region.pop("fast_svd")
    generator = dict(config["generator_params"])
    flow = dict(generator.pop("pixelwise_flow_predictor_params"))
    assert config["estimate_affine"]
    assert flow.pop("use_deformed_source")
    assert flow.pop("estimate_occlusion_map")
    values = {
        "num_regions": config["num_regions"],
        "revert_axis_swap": config["revert_axis_swap"],
        "region_predictor": region,
        "bg_predictor": config["bg_predictor_params"],
        "generator": {**generator, "pixelwise_flow_predictor": flow},
        "avd_network": config["avd_network_params"],
    }
    return from_mapping(MotionRepresentations, {**values, **others})


def _variables(g: Golden, method: MotionRepresentations) -> Any:
    names = ("generator", "region_predictor", "bg_predictor", "avd_network")
    return convert({n: g.network(n) for n in names}, method)


def _regions(prefix: str, regions: Regions) -> Arrays:
    return {f"{prefix}_{name}": value for name, value in regions._asdict().items()}


# --- single operations


def _operations(arrays: Arrays) -> Arrays:
    heatmap = nhwc(arrays["in_region"])
    shift = expected_points(heatmap)
    covar = expected_covariance(heatmap, shift)

    def pulled(covar: jax.Array) -> jax.Array:
        return (principal_axes(covar)[0] * arrays["in_affine_cotangent"]).sum()

    def symmetric(x: Any) -> np.ndarray:
        return np.asarray((x + jnp.swapaxes(x, -1, -2)) / 2)

    # only the symmetric part of this gradient means anything; the rest is the reference's own choice
    skew = arrays["out_covar_grad"] - symmetric(arrays["out_covar_grad"])
    source, driving = (
        framed(jnp.asarray(arrays[f"in_{n}_shift"]), jnp.asarray(arrays[f"in_{n}_affine"]))
        for n in ("source", "driving")
    )
    background = jnp.asarray(arrays["in_bg"])
    return {
        "out_shift": shift,
        "out_covar": covar,
        "out_affine": principal_axes(covar)[0],
        "out_covar_grad": symmetric(jax.grad(pulled)(covar)) + skew,
        "out_region2gaussian_covar_7x5": nchw(covariance_heatmap(shift, covar, (7, 5))),
        "out_region2gaussian_0.01_7x5": nchw(gaussian_heatmap(shift, (7, 5), 0.01)),
        "out_sparse_motions_6x5": sparse_motion(source, driving, background, (6, 5), revert_axis_swap=True),
    }


# --- inference


def _evaluate(g: Golden, arrays: Arrays) -> Arrays:
    method = _method(g.config)
    variables, game = _variables(g, method), method.game
    source, driving, later = (picture(arrays[f"in_{n}"]) for n in ("source", "driving", "driving2"))

    @jax.jit
    def find(v, x):
        return game.region_predictor.apply(v, x, train=False, capture_intermediates=True)

    @functools.partial(jax.jit, static_argnames="align_corners")
    def generate(v, source, ours, theirs, background, align_corners=False):
        network = game.generator.clone(align_corners=align_corners)
        return network.apply(v, source, ours, theirs, background, train=False, capture_intermediates=True)

    predictor, generator = variables["region_predictor"], variables["generator"]
    ((ours, seen), (theirs, again), (beyond, _)) = (find(predictor, x) for x in (source, driving, later))
    background = jax.jit(game.background)(variables, source, driving)
    made, layer = generate(generator, source, ours, theirs, background)
    other, _ = generate(generator, source, ours, theirs, background, align_corners=True)
    flow = layer["intermediates"]["pixelwise_flow_predictor"]
    swapped: Any = jax.jit(functools.partial(game.avd_network.apply, train=False))(
        variables["avd_network"], ours, theirs
    )
    moved = relative_regions(ours, beyond, theirs, movement_scale(ours.shift[0], theirs.shift[0]))
    out = _regions("out_source", ours) | _regions("out_driving", theirs) | _regions("out_avd", swapped)
    out |= _regions("out_rel", moved)
    out |= {
        "out_source_heatmap": nchw(seen["intermediates"]["heatmap"][0]),
        "out_bg": background,
        "out_sparse_motions": np.moveaxis(np.asarray(flow["sparse_motions"][0]), -1, 2),
        "out_heatmap_repr": nchw(flow["heatmap_difference"][0])[:, :, None],
        "out_flow": made.motion.flow,
        "out_occlusion": nchw(made.motion.occlusion),
        "out_deformed": nchw(made.deformed),
        "out_prediction": nchw(made.prediction),
        "out_avd_prediction": nchw(generate(generator, source, ours, swapped, None)[0].prediction),
        "out_prediction_actrue": nchw(other.prediction),
        "out_rel_prediction": nchw(generate(generator, source, ours, moved, None)[0].prediction),
    }
    both = [layers("", x["intermediates"], module_name) for x in (seen, again)]
    down = [statistics(x["intermediates"]["down"][0])[None] for x in (seen, again)]
    out |= {f"stat_region_{name}": np.concatenate([part[name] for part in both]) for name in both[0]}
    out |= {"stat_region_down": np.concatenate(down), "stat_region_predictor": out["stat_region_predictor"]}
    out |= layers("stat_", layer["intermediates"], module_name)
    out |= {name: np.moveaxis(x, 2, -1) for name, x in subsampled(out, ["out_sparse_motions_sub8"]).items()}
    return out | subsampled(out, [n for n in arrays if n != "out_sparse_motions_sub8"])


# --- one training step of each stage


def _train(g: Golden, arrays: Arrays) -> Arrays:
    """Losses and outputs in float32, gradients and the steps in float64, each as the case was made."""
    single = _step(g, arrays, jnp.float32)
    with jax.enable_x64(True):
        return {**_step(g, arrays, jnp.float64), **single}


def _step(g: Golden, arrays: Arrays, dtype: Any) -> Arrays:
    """A step of both players in float64, and the forward passes of one in float32."""
    training = g.config["train_params"]
    t = training["transform_params"]
    method = _method(
        g.config["model_params"],
        losses={**training["loss_weights"], "scales": training["scales"]},
        transform={"sigma_affine": t["sigma_affine"], "sigma_tps": t["sigma_tps"], "points": t["points_tps"]},
        stages={"avd_start": 0},
    )
    game = method.game

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

    # Everything is an argument: XLA would spend minutes on folding constants.
    def reconstruction(params, variables, source, driving, tps):
        current = {n: {**v, "params": params.get(n, v["params"])} for n, v in variables.items()}
        out, forward = game.loss_under(current, source, driving, tps)
        return out.loss, (out, forward)

    def avd(params, variables, identity, target, scale):
        current = {"avd_network": {**variables["avd_network"], "params": params["avd_network"]}}
        out, swapped = game.avd_loss_under(current, identity, target, scale)
        return out.loss, (out, swapped)

    def moved(loss: Any, *arguments: Any) -> tuple[Any, Any]:
        """What the loss returns beside its value, and its gradient in float64."""
        if dtype == jnp.float32:
            return jax.jit(loss)(*arguments)[1], {}
        (_, rest), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(*arguments)
        return rest, grads

    variables: Variables = cast(_variables(g, method))
    frozen = {**variables, "vgg19": cast(vgg.convert(g.network("vgg19"), "vgg19"))}
    source, driving = cast(arrays["in_source"]) / 255, cast(arrays["in_driving"]) / 255
    tps = TPS(cast(arrays["in_transform_theta"]), cast(arrays["in_transform_control_params"])[:, 0])
    params = {n: variables[n]["params"] for n in game.reconstructing}
    (out, forward), grads = moved(reconstruction, params, frozen, source, driving, tps)
    identity, target = (framed(*(cast(arrays[f"in_avd_{n}_{k}"]) for k in ("shift", "affine"))) for n in ("id", "gt"))
    params = {"avd_network": variables["avd_network"]["params"]}
    (avd_out, swapped), avd_grads = moved(avd, params, variables, identity, target, cast(arrays["in_avd_scale"]))
    if dtype == jnp.float64:
        mutated = {**out.mutated, **avd_out.mutated}
        current = {n: {**v, **mutated.get(n, {})} for n, v in variables.items()}
        rates = {player: g.config[settings]["lr"] for player, settings in RATES.items()}
        entries = tensor_entries(variable_shapes(method), module_name)
        return after_step(g, method.players, rates, current, {**grads, **avd_grads}, entries)

    computed: Arrays = {f"loss_{k}": v for k, v in out.metrics.items()}
    computed |= {f"loss_avd_rec_{k}": v for k, v in avd_out.metrics.items()}
    computed |= _regions("out_source", forward.source) | _regions("out_driving", forward.driving)
    computed |= _regions("out_transformed", forward.transformed) | _regions("out_avd", swapped)
    return computed | {
        "out_prediction": nchw(forward.generated.prediction),
        "out_occlusion": nchw(forward.generated.motion.occlusion),
    }
