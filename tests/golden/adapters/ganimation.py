"""GANimation: the critic's step, the penalty's, the generator's, and single operations."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from reenax.core.pictures import as_float
from reenax.core.types import Variables
from reenax.interop.ganimation import convert, module_name
from reenax.interop.label_networks import entries_for, shapes_of
from reenax.losses.adversarial import mixed_pictures
from reenax.losses.terms import total
from reenax.methods.ganimation import GANimation
from reenax.methods.ganimation.game import NETWORKS, LossParams, condition_loss, total_variation
from reenax.methods.ganimation.networks import DeviatingCriticParams, saturated
from reenax.nn.label_networks import GeneratorParams

from ..golden import Golden
from ._arrays import Arrays, nchw, nhwc
from ._labelled import Steps, layer_outputs

# zero exactly, and so must ours be: a tolerance of zero divides by nothing
NOISE = {f"D2_grad/main.{i}.bias": 1e-30 for i in (0, 2, 4, 6)}


def compute(g: Golden, case: str) -> Arrays:
    """All in float32, as the cases were made.

    Float64 would not do: behind a norm the gradient of a label's middle tap is zero but for rounding, and Adam's first
    step makes as much of that as of a true gradient.
    """
    arrays = g.case(case)
    if not g.config:
        return _operations(arrays)
    method = _method(g.config, saturate=case.endswith("_saturated"))
    variables = convert({"G": g.network("G"), "D": g.network("D")}, method)
    return _step(g, method, variables, arrays, trained=case.startswith("train"))


def _method(config: Mapping[str, Any], saturate: bool) -> GANimation:
    return GANimation(
        generator=GeneratorParams(config["g"]["conv_dim"], config["g"]["repeat_num"]),
        critic=DeviatingCriticParams(config["d"]["image_size"], config["d"]["conv_dim"], config["d"]["repeat_num"]),
        losses=LossParams(
            adversarial=config["lambda_D_prob"],
            penalty=config["lambda_D_gp"],
            condition=config["lambda_D_cond"],
            cycle=config["lambda_cyc"],
            attention=config["lambda_mask"],
            smoothness=config["lambda_mask_smooth"],
        ),
        saturate_attention=saturate,
    )


def _operations(arrays: Arrays) -> Arrays:
    return {
        "out_saturated": saturated(jnp.asarray(arrays["in_mask"])),
        "out_smooth": total_variation(nhwc(arrays["in_smooth"])),
        "out_cond_loss_unweighted": condition_loss(
            jnp.asarray(arrays["in_cond_pred"]), jnp.asarray(arrays["in_cond"]), len(arrays["in_cond"])
        ),
    }


def _step(g: Golden, method: GANimation, variables: Variables, arrays: Arrays, *, trained: bool) -> Arrays:
    """Both steps of the critic and the generator's; without steps every loss is of the first weights."""
    game, module = method.game, module_name(method)
    picture = as_float(arrays["in_image"])
    units, target = (jnp.asarray(arrays[f"in_{n}_cond"]) for n in ("real", "desired"))
    share = jnp.asarray(arrays["in_alpha"].reshape(-1))
    rates = {"critic": g.config["lr_D"], "generator": g.config["lr_G"]} if trained else dict.fromkeys(NETWORKS, 0.0)
    optim = {n: optax.adam(rate, b1=0.5, b2=0.999, eps=1e-8) for n, rate in rates.items()}
    players = {p.name: p for p in method.players(optim)}
    assert players["penalty"].state_name == "critic"
    steps = Steps(variables, entries_for(shapes_of(method, method.critic.image_size), module), optim)
    capture: Any = {"capture_intermediates": True}
    generate = jax.jit(functools.partial(game.generator.apply, **capture))
    made, seen = generate(variables["generator"], picture, target)
    _, again = generate(variables["generator"], made.picture, units)
    _, judged = jax.jit(lambda v: game.critic.apply(v, made.picture, **capture))(variables["critic"])

    def critic(v: Any, picture: Any, units: Any, fake: Any) -> Any:
        terms, *readings = game.critic_terms(v, picture, units, fake)
        return total(terms), (terms, *readings)

    def penalty(v: Any, picture: Any, fake: Any, share: Any) -> Any:
        return game.penalty(v, picture, fake, share), None

    def generator(v: Any, picture: Any, units: Any, target: Any) -> Any:
        terms, forward = game.generator_terms(v, picture, units, target)
        return total(terms), (terms, forward)

    critic_loss, (d, real, fake) = steps.take("D1", "critic", critic, picture, units, made.picture)
    penalty_loss, _ = steps.take("D2", "critic", penalty, picture, made.picture, share)
    generator_loss, (t, forward) = steps.take("G", "generator", generator, picture, units, target)
    w, masks = method.losses, (forward.there.attention, forward.back.attention)
    computed = steps.computed | layer_outputs("G", seen["intermediates"], module)
    computed |= layer_outputs("D", judged["intermediates"], module)
    computed |= {
        "out_d_real_prob": real.scores,
        "out_d_real_cond": real.label,
        "out_d_fake_prob": fake.scores,
        "out_d_fake_cond": fake.label,
        "out_g_prob": forward.reading.scores,
        "out_g_cond": forward.reading.label,
        "loss_D_total": critic_loss,
        "loss_gp": penalty_loss,
        "loss_d_gp": penalty_loss,
        "loss_G_total": generator_loss,
        **{f"loss_d_{ours}": d[ours if ours != "cond" else "condition"] for ours in ("real", "fake", "cond")},
        "loss_g_masked_fake": t["fake"],
        "loss_g_masked_cond": t["condition"],
        "loss_g_cyc": t["cycle"],
    }
    for i, mask in enumerate(masks, start=1):
        computed[f"loss_g_mask_{i}"] = w.attention * jnp.mean(mask)
        computed[f"loss_g_mask_{i}_smooth"] = w.smoothness * total_variation(mask)
    pictures = {
        "out_color": made.colour,
        "out_masked": made.picture,
        "out_interpolated": mixed_pictures(picture, made.picture, share),
        "out_rec_color": forward.back.colour,
    }
    for name, layers in (("out_mask", seen), ("out_rec_mask", again)):  # before they are saturated
        pictures[name] = jax.nn.sigmoid(layers["intermediates"]["attention"]["__call__"][0])
    every = g.config["subsample"]
    return computed | {name: nchw(value)[..., ::every, ::every] for name, value in pictures.items()}
