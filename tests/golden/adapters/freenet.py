"""FReeNet: drawing and cropping of landmarks, the generator at full size, one step of each stage."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.config import from_mapping
from reenax.core.types import Batch
from reenax.interop import vgg
from reenax.interop.freenet import convert, tensor_entries, variable_shapes
from reenax.interop.torch import to_state
from reenax.methods.freenet import FReeNet
from reenax.methods.freenet.game import TAPS, triplet_distances
from reenax.methods.freenet.landmark_map import landmark_map, landmark_mask, placement
from reenax.nn.vgg import MEAN, STD, vgg_features

from ..golden import Golden
from ._arrays import Arrays, nchw, nhwc
from ._exact import exactly

PREFIXES = {
    "converter": "G",
    "identity_discriminator": "D",
    "realism_discriminator": "Dr",
    "generator": "G",
    "discriminator": "D",
}
# The stored offsets are the reference's in float32, and as far as this from what exact arithmetic gives (measured:
# 3.8e-5 where they reach 81), which is 1.4 times their tolerance.
ROUNDING = {"out_flow_AB": 4e-5}
# roles in batches of the published names
ROWS = {"A": "driving", "B": "truth", "B1": "random", "A_calm": "driving_neutral", "B_calm": "neutral"}


def compute(g: Golden, case: str) -> Arrays:
    arrays = g.case(case)
    if case == "landmark_ops":
        return _operations(arrays)
    if case == "train_ulc":
        return _both_precisions(_converter_step, g, arrays)
    return _evaluate(g, arrays) if case == "eval_gag" else _both_precisions(_generator_step, g, arrays)


def _both_precisions(step: Any, g: Golden, arrays: Arrays) -> Arrays:
    """Losses and outputs in float32, gradients and the steps in float64, each as the case was made."""
    single = step(g, arrays, jnp.float32)
    with exactly():
        return {**step(g, arrays, jnp.float64), **single}


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def _moved(method: FReeNet, variables: Any, grads: Mapping[str, Any], optim: optax.GradientTransformation) -> Arrays:
    """Gradients, their norms, the norms of the optimiser's steps and the values after them, by published names."""
    entries = tensor_entries(variable_shapes(method))
    computed: Arrays = {}
    for player in method.players(dict.fromkeys(PREFIXES, optim)):
        mine = {n: variables[n]["params"] for n in player.owns}
        tx: Any = player.update.tx  # pyright: ignore[reportAttributeAccessIssue]
        updates, _ = tx.update({n: grads[n] for n in player.owns}, tx.init(mine), mine)
        after: Any = optax.apply_updates(mine, updates)
        for kind, trees in (("grad", grads), ("delta", updates), ("value", after)):
            named = to_state({n: {"params": trees[n]} for n in player.owns}, entries)
            for name, value in named.items():
                network, tensor = name.split(".", 1)
                computed[f"{PREFIXES[network]}_{kind}/{tensor}"] = value
                if kind != "value":
                    computed[f"{PREFIXES[network]}_{kind}_l2/{tensor}"] = np.linalg.norm(value)
    return computed


# --- single operations


def _operations(arrays: Arrays) -> Arrays:
    points = jnp.asarray(arrays["in_landmarks"]).reshape(1, -1, 2)
    drawn = np.asarray(landmark_map(points, 64)[0])
    faces = jnp.asarray(arrays["in_crop_landmarks"])[None]
    square = placement(faces)
    centre = jnp.full((1, 1, 2), 16.0)
    return {
        "out_map512_bits": np.packbits(np.asarray(landmark_mask(points)[0]).astype(np.uint8)),
        "out_map64": np.round((drawn + 1) * 127.5).astype(np.uint8),
        "out_map64_normalised": drawn[..., 0],
        "out_stamp_at_16_16": 255 * np.asarray(landmark_mask(centre, 32)[0]),
        "out_crop_center_radius": np.append(np.asarray(square.centre[0]), np.asarray(square.radius[0])),
        "out_crop_landmarks": square.enter(faces)[0],
    }


# --- the converter


def _converter_step(g: Golden, arrays: Arrays, dtype: Any) -> Arrays:
    c = g.config
    losses = {
        "pixel": c["lambda_L1"],
        "cycle": c["lambda_cycle"],
        "identity": c["lambda_idt"] * c["lambda_cycle"],
        "fool_identity": c["lambda_gan"],
        "fool_realism": c["lambda_gan_Dr"],
        "identity_discriminator": c["lambda_D"],
        "realism_discriminator": c["lambda_Dr"],
    }
    method = from_mapping(FReeNet, {"points": c["points"], "losses": losses})
    game = method.game
    variables = _cast(convert({n: g.network(n) for n in ("net_G", "net_D", "net_Dr")}, method), dtype)
    # in batches landmarks are in [-1, 1]
    pixels = {role: _cast(arrays[f"in_{name}"], dtype).reshape(-1, c["points"], 2) for name, role in ROWS.items()}
    batch = {f"landmarks_106_{role}": 2 / 511 * rows - 1 for role, rows in pixels.items()}
    key, step = jax.random.key(0), jnp.zeros((), jnp.int32)

    def converter(params, v, b):
        out = game.converter_loss({**v, "converter": {"params": params["converter"]}}, b, key, step=step, shared=None)
        return out.loss, out

    def discriminators(params, v, b, shared):
        current = {**v, **{n: {"params": p} for n, p in params.items()}}
        out = game.landmark_discriminators_loss(current, b, key, step=step, shared=shared)
        return out.loss, out

    both = {n: variables[n]["params"] for n in ("identity_discriminator", "realism_discriminator")}
    (_, out), grads = jax.jit(jax.value_and_grad(converter, has_aux=True))(
        {"converter": variables["converter"]["params"]}, variables, batch
    )
    (_, other), others = jax.jit(jax.value_and_grad(discriminators, has_aux=True))(both, variables, batch, out.shared)
    if dtype == jnp.float64:
        exact = np.asarray(game.convert(variables, pixels["driving"], pixels["neutral"]).offset)
        offset = exact.reshape(arrays["out_flow_AB"].shape)
        moved = _moved(method, variables, {**grads, **others}, optax.adam(c["lr"], *c["betas"]))
        return {"out_flow_AB": offset, **moved}
    return _converter_outputs(game, losses, variables, pixels, out, other)


def _converter_outputs(game: Any, losses: Any, variables: Any, rows: Batch, out: Any, other: Any) -> Arrays:
    """Landmarks, scores and losses without their weights."""
    made = game.convert(variables, rows["driving"], rows["neutral"])
    again = game.convert(variables, made.landmarks, rows["driving_neutral"])
    v, truth, random = variables, rows["truth"], rows["random"]

    def flat(x: Any) -> np.ndarray:
        return np.asarray(x).reshape(x.shape[0], -1)

    def identity(x: Any) -> Any:
        return game.identity_discriminator.apply(v["identity_discriminator"], x, random)

    def realism(x: Any) -> Any:
        return game.realism_discriminator.apply(v["realism_discriminator"], x)

    shares = {
        "loss_G_A": "fool_identity",
        "loss_G_A_Dr": "fool_realism",
        "loss_cycle_A": "cycle",
        "loss_idt_A": "identity",
        "loss_L1": "pixel",
    }
    computed = {name: out.metrics[term] / losses[term] for name, term in shares.items()}
    for name, judge, term in (("D", identity, "identity"), ("Dr", realism, "realism")):
        real, fake = jnp.mean((judge(truth) - 1) ** 2), jnp.mean(judge(made.landmarks) ** 2)
        computed |= {f"loss_{name}_real": real, f"loss_{name}_fake": fake}
        np.testing.assert_allclose(other.metrics[term], losses[f"{term}_discriminator"] * (real + fake) / 2, rtol=1e-5)
    return computed | {
        "out_fake_B": flat(made.landmarks),
        "out_rec_A": flat(again.landmarks),
        "out_D": identity(made.landmarks),
        "out_Dr": realism(made.landmarks),
        "loss_G": out.loss,
    }


# --- the generator


def _generator_method(config: Mapping[str, Any]) -> FReeNet:
    """The published config; dropout is off in both cases."""
    values = {
        "generator": {
            "features": config["ngf"],
            "blocks": config["n_blocks"],
            "landmark_every": config["div"],
            "landmark_features": config["con_dim"],
            "dropout": 0.0,
        },
        "discriminator": {"features": config["ndf"]},
        "losses": {
            "gan": config["lambda_GAN"],
            "l1": config["lambda_L1"],
            "triplet": config["lambda_Tri"],
            "margin": config["margin"],
        },
        "converter": {"width": 16},  # is not in these cases
        "stages": {"converter_stop": 0, "generator_start": 0},
    }
    return from_mapping(FReeNet, values)


def _generator_variables(g: Golden, method: FReeNet) -> Any:
    """The converter, which these cases leave out, is zero."""
    shapes = variable_shapes(method)
    fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["converter"])
    best = {"net_G": {n.split(".", 1)[1]: x for n, x in to_state({"converter": fresh}, tensor_entries(shapes)).items()}}
    return convert({"best": best, "latest_net_G": g.network("GAG"), "latest_net_D": g.network("GAG_D")}, method)


def _summary(prefix: str, array: Any) -> Arrays:
    x = nchw(np.asarray(array, np.float64))
    return {f"stat_{prefix}": np.array([x.mean(), x.std(), np.abs(x).sum()]), f"slice_{prefix}": x[:, :4, :4, :4]}


def _evaluate(g: Golden, arrays: Arrays) -> Arrays:
    method = _generator_method(g.config)
    variables, game = _generator_variables(g, method), method.game
    face = jnp.asarray(arrays["in_face"], jnp.float32) / 127.5 - 1
    drawn = nhwc(arrays["in_landmark_map"])

    @jax.jit
    def run(v, face, drawn):
        made, seen = game.generator.apply(v["generator"], face, drawn, train=False, capture_intermediates=True)
        return made, seen["intermediates"], game.judge(v, face, made)

    made, seen, logits = run(variables, face, drawn)
    out = {"out_face": nchw(made)[..., ::2, ::2], "out_D": np.asarray(logits)[:, None]}
    names = {"first": "model1.1", "down_0": "model1.4", "down_1": "model1.7"}
    names |= {"up_0": "model3.0", "up_1": "model3.3", "last": "model3.7"}
    names |= {f"block_{i}": f"model2.{i}" for i in range(9)}
    for ours, theirs in names.items():
        out |= _summary(f"GAG.{theirs}", seen[ours]["__call__"][0])
    norms = seen["norm"]["__call__"]  # of the encoder's three convolutions, then of the landmarks'
    out |= _summary("GAG.model1.2", norms[0])
    out |= _summary("GAG.model_landmark_trans", norms[5])
    shortcut = seen["block_2"]["InstanceNorm_0"]["__call__"][0]
    return out | _summary("GAG.model2.2.shortcut", shortcut)


def _generator_step(g: Golden, arrays: Arrays, dtype: Any) -> Arrays:
    method = _generator_method(g.config)
    game, key = method.game, jax.random.key(0)
    variables = _cast({**_generator_variables(g, method), "vgg16": vgg.convert(g.network("vgg16"), "vgg16")}, dtype)
    names = {"source": "A1", "driving": "A2", "other": "B1"}
    batch = {role: _cast(arrays[f"in_{name}"], dtype) / 127.5 - 1 for role, name in names.items()}
    maps = [_cast(nhwc(arrays[f"in_l_{name}"]), dtype) for name in ("A1A2", "B1A1", "A2B1")]

    def generator(params, v, b, maps):
        out, pictures = game.generator_loss_of({**v, "generator": {"params": params["generator"]}}, b, maps, key)
        return out.loss, (out, pictures)

    def discriminator(params, v, b, made):
        current = {**v, "discriminator": {"params": params["discriminator"]}}
        out = game.discriminator_loss_of(current, b["source"], b["driving"], made)
        return out.loss, out

    made = jax.jit(game.generate)(variables, batch["source"], maps[0])
    (_, judged), grads = jax.jit(jax.value_and_grad(discriminator, has_aux=True))(
        {"discriminator": variables["discriminator"]["params"]}, variables, batch, made
    )
    optim = optax.adam(g.config["lr"], *g.config["betas"])
    # the discriminator moves first
    tx = optim.init(variables["discriminator"]["params"])
    updates, _ = optim.update(grads["discriminator"], tx)
    stepped: Any = optax.apply_updates(variables["discriminator"]["params"], updates)
    after = {**variables, "discriminator": {"params": stepped}}
    (_, (out, pictures)), other = jax.jit(jax.value_and_grad(generator, has_aux=True))(
        {"generator": variables["generator"]["params"]}, after, batch, maps
    )
    if dtype == jnp.float64:
        return _moved(method, variables, {**grads, **other}, optim)
    return _generator_outputs(g.config, variables, judged, out, pictures)


def _generator_outputs(config: Any, variables: Any, judged: Any, out: Any, pictures: Any) -> Arrays:
    count = pictures.shape[0] // 3
    first, same, other = (nchw(pictures[i * count : (i + 1) * count]) for i in range(3))
    taps = (*TAPS, "relu4_3")
    mean, deviation = (jnp.asarray(x)[None, None, None] for x in (MEAN, STD))
    seen = jax.jit(lambda v, x: vgg_features(v, taps, "vgg16")(x))(variables["vgg16"], pictures * deviation + mean)
    near, far = triplet_distances(seen, count)
    computed: Arrays = {
        "out_A1A2": first,
        "out_A2B1": other[..., ::2, ::2],
        "out_B1A1": same[..., ::2, ::2],
        "loss_D_real": 2 * judged.metrics["real"],
        "loss_D_fake": 2 * judged.metrics["fake"],
        "loss_G_GAN": out.metrics["gan"] / config["lambda_GAN"],
        "loss_G_L1": out.metrics["l1"] / config["lambda_L1"],
        "loss_G_Tri": out.metrics["triplet"] / config["lambda_Tri"],
        "loss_G": out.loss,
        "triplet_mse_positive_negative": np.array([[near[layer], far[layer]] for layer in TAPS]),
    }
    for i, layer in enumerate(taps):
        computed |= {f"stat_vgg_A1A2_{i}": _summary("", seen[layer][:count])["stat_"]}
    return computed
