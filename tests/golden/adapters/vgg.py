"""The perceptual trunks: every tap, losses over taps, and a gradient into the picture."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.geometry.sampling import resize_bilinear
from reenax.interop.vgg import convert
from reenax.losses.perceptual import perceptual_loss
from reenax.nn.vgg import FIRST_OF_STAGE, layer_names, vgg_features

from ..golden import Golden


def compute(g: Golden, case: str) -> dict[str, Any]:
    arch = g.manifest["name"]
    names = layer_names(arch)
    arrays = g.case(case)
    assert list(arrays["layer_names"]) == list(names)
    variables = convert(g.network(arch), arch)
    a, b = (jnp.asarray(arrays[k], jnp.float32)[None] / 255 for k in ("in_a", "in_b"))

    # the weights are arguments: XLA would spend long on folding constants
    @functools.partial(jax.jit, static_argnums=3)
    def five_taps(variables, x, y, weights):
        features = vgg_features(variables, arch=arch)
        return perceptual_loss(features, x, y, dict(zip(FIRST_OF_STAGE, weights, strict=True)))

    even = (1.0,) * 5
    seen = jax.jit(lambda v, x: vgg_features(v, names, arch)(x))(variables, jnp.concatenate([a, b]))
    maps_a = [np.asarray(seen[n][0]) for n in names]
    maps_b = [np.asarray(seen[n][1]) for n in names]
    out: dict[str, Any] = {
        "stage_stats_a": np.array([[m.mean(), m.std(ddof=1), np.abs(m).sum()] for m in maps_a]),
        "l1_ab": np.array([np.abs(x - y).mean() for x, y in zip(maps_a, maps_b, strict=True)]),
        "mse_ab": np.array([((x - y) ** 2).mean() for x, y in zip(maps_a, maps_b, strict=True)]),
    }
    out |= {f"out_{n}": m[..., :4].transpose(2, 0, 1) for n, m in zip(names, maps_a, strict=True)}
    total, grad = jax.value_and_grad(five_taps, argnums=1)(variables, a, b, even)
    out["loss_relu1_to_5_sum"] = out["loss_for_grad"] = total
    out["loss_relu1_to_5_mean"] = total / 5
    out["loss_pix2pixhd"] = five_taps(variables, a, b, (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0))
    sizes = [(a.shape[1] // s, a.shape[2] // s) for s in (1, 2, 4)]
    pairs = [(resize_bilinear(a, s), resize_bilinear(b, s)) for s in sizes]
    out["loss_scales_plain_resize"] = np.array([five_taps(variables, x, y, even) for x, y in pairs])
    out["grad_a_norm"] = np.linalg.norm(np.asarray(grad))
    out["grad_a"] = np.asarray(grad)[0, ::8, ::8].transpose(2, 0, 1)
    return out
