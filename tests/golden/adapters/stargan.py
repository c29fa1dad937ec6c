"""StarGAN: both forms of labels, the critic's step, the generator's, and the running statistics."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.pictures import as_float
from reenax.interop.label_networks import entries_for, shapes_of
from reenax.interop.stargan import convert, module_name
from reenax.interop.torch import to_state
from reenax.losses.terms import total
from reenax.methods.stargan import StarGAN
from reenax.methods.stargan.game import NETWORKS, LossParams
from reenax.nn.label_networks import CriticParams, GeneratorParams

from ..golden import Golden
from ._arrays import Arrays, nchw
from ._labelled import Steps, layer_outputs


def compute(g: Golden, case: str) -> Arrays:
    """All in float32, as the cases were made."""
    arrays, config, trained = g.case(case), g.config, case.startswith("train")
    method = _method(config, exclusive=arrays["in_label_org"].ndim == 1)
    game, module = method.game, module_name(method)
    variables: Any = convert({"G": g.network("G"), "D": g.network("D")}, method)
    picture = as_float(arrays["in_image"])
    labels, target = (_labels(arrays[f"in_label_{n}"], config["c_dim"]) for n in ("org", "trg"))
    share = jnp.asarray(arrays["in_alpha"].reshape(-1))
    rates = dict.fromkeys(NETWORKS, config["lr"] if trained else 0.0)
    optim = {n: optax.adam(rate, b1=0.5, b2=0.999, eps=1e-8) for n, rate in rates.items()}
    entries = entries_for(shapes_of(method, method.critic.image_size), module)
    steps = Steps(variables, entries, optim)
    capture: Any = {"capture_intermediates": True, "mutable": ["batch_stats"], "train": True}
    generate = jax.jit(functools.partial(game.generator.apply, **capture))
    _, seen = generate(variables["generator"], picture, target)
    by_running: Any = jax.jit(functools.partial(game.generator.clone(use_running=True).apply, train=False))

    def critic(v: Any, *arguments: Any) -> Any:
        terms, forward = game.critic_terms(v, *arguments)
        return total(terms), (terms, forward)

    def generator(v: Any, *arguments: Any) -> Any:
        terms, forward = game.generator_terms(v, *arguments)
        return total(terms), (terms, forward)

    d_loss, (d, before) = steps.take("D", "critic", critic, picture, labels, target, share)
    steps.variables["generator"] = {**variables["generator"], **before.mutated}
    g_loss, (t, after) = steps.take("G", "generator", generator, picture, labels, target)
    real = before.readings[0]
    w, every = method.losses, config.get("subsample", 1)
    computed = (
        steps.computed
        | layer_outputs("G", seen["intermediates"], module)
        | {
            "out_src_real": real.scores[:, None],
            "out_cls_real": real.label,
            "loss_d_real": d["real"],
            "loss_d_fake": d["fake"],
            "loss_d_cls": d["classification"] / w.classification,
            "loss_d_gp": d["penalty"] / w.penalty,
            "loss_D": d_loss,
            "loss_g_fake": t["fake"],
            "loss_g_cls": t["classification"] / w.classification,
            "loss_g_rec": t["cycle"] / w.cycle,
            "loss_G": g_loss,
        }
    )
    pictures = {
        "out_fake_eval_mode": by_running(variables["generator"], picture, target),
        "out_fake_train_mode": before.there,
        "out_reconstructed": after.back,
    }
    computed |= {name: nchw(value)[..., ::every, ::every] for name, value in pictures.items()}
    running = to_state({"generator": after.mutated}, entries)
    return computed | {f"after_{name.removeprefix('G.')}": np.asarray(value) for name, value in running.items()}


def _method(config: Mapping[str, Any], exclusive: bool) -> StarGAN:
    return StarGAN(
        label_names=tuple(f"label {i}" for i in range(config["c_dim"])),
        label_groups=(),
        exclusive_labels=exclusive,
        generator=GeneratorParams(config["g_conv_dim"], config["g_repeat_num"]),
        critic=CriticParams(config["image_size"], config["d_conv_dim"], config["d_repeat_num"]),
        losses=LossParams(
            penalty=float(config["lambda_gp"]),
            classification=float(config["lambda_cls"]),
            cycle=float(config["lambda_rec"]),
        ),
    )


def _labels(stored: np.ndarray, count: int) -> jax.Array:
    """Classes as one of ``count``; attributes as they are."""
    return jnp.asarray(stored) if stored.ndim == 2 else jax.nn.one_hot(jnp.asarray(stored), count)
