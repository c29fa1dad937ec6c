"""X2Face: inference at full size, driving by pose codes and by features of sound, one step of the first stage."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.config import from_mapping
from reenax.core.pictures import to_unit
from reenax.core.types import owned_params, with_params
from reenax.geometry.sampling import grid_sample
from reenax.interop.torch import to_state
from reenax.interop.x2face import convert, tensor_entries, variable_shapes
from reenax.methods.x2face import X2Face
from reenax.methods.x2face.networks import Networks, with_overlay
from reenax.methods.x2face.reenact import Animator, Prepared, _posed, _spoken

from ..golden import Golden
from ._arrays import Arrays, nchw, picture

BIAS = 0.1
PATCH = (125, 90)  # row and column of its first pixel


def compute(g: Golden, case: str) -> Arrays:
    arrays, config = g.case(case), g.config
    size = {"features": config["ngf"], "vector": config["inner_nc"], "levels": 8}
    sound = {"window": 0.2, "frame": 320, "hop": 192, "bands": 16}
    method = from_mapping(X2Face, {"size": size, "sound": sound})
    variables = _with_regression(convert({"state_dict": dict(g.state)}, method), g.state)
    if "optimiser" in config:
        return _train(arrays, method, variables)
    return (_shifted if config.get("input_pose") else _evaluate)(arrays, method.game.networks, variables)


def _with_regression(variables: Any, state: Mapping[str, np.ndarray]) -> Any:
    """With the case's map of sound, which an import passes over: its features are given here, whatever they are."""
    if "linearregression.coef" not in state:
        return variables
    kernel, bias = (jnp.asarray(state[f"linearregression.{name}"]) for name in ("coef", "intercept"))
    return {**variables, "vector_from_audio": {"params": {"kernel": kernel.T, "bias": bias}}}


def _every(array: Any, step: int) -> np.ndarray:
    """Every so many pixels of a map that has its channels last, in the reference's layout."""
    return nchw(np.asarray(array)[:, ::step, ::step])


# --- inference


def _evaluate(arrays: Mapping[str, np.ndarray], networks: Networks, variables: Any) -> Arrays:
    sources = jnp.stack([picture(arrays[f"in_source_{k}"])[0] for k in range(2)])[None]
    driving = picture(arrays["in_driving"])

    @functools.partial(jax.jit, static_argnums=0)
    def run(name: str, v: Any, x: jax.Array) -> Any:
        network = {"embedder": networks.embedder, "driver": networks.driver}[name]
        return network.apply(v, x, train=False, capture_intermediates=True)

    (embedding, _), layers_of_embedder = run("embedder", variables["embedder"], sources[0, :1])
    (driven, vector), layers_of_driver = run("driver", variables["driver"], driving)
    embed = jax.jit(networks.embedded)
    one, two = embed(variables, sources[:, :1], BIAS), embed(variables, sources, BIAS)
    grid = jax.jit(networks.grids)(variables, vector[:, 0, 0])
    edited = with_overlay(one.face, jnp.asarray(_overlay(arrays["in_patch_rgba"])))
    out = {
        "out_driving_vector": nchw(jax.nn.relu(vector)),
        "out_driving_vector_raw": nchw(vector),
        "out_embedding_net": _every(embedding, 4),
        "out_sampler_net": _every(jnp.tanh(driven), 4),
        "out_generated_1source": _every(grid_sample(one.face, grid), 2),
        "out_generated_2source": _every(grid_sample(two.face, grid), 4),
        "out_unwrapped_2source_no_bias": _every(embed(variables, sources, 0.0).face, 4),
        "out_confidence": np.moveaxis(np.asarray(jnp.exp(two.confidence))[:, :, ::4, ::4], (1, 4), (4, 1)),
        "out_unwrapped_one": _every(one.face, 4),
        "out_driving_grid": np.asarray(grid)[:, ::4, ::4],
        "out_edited_driven": _every(grid_sample(edited, grid), 4),
    }
    for root, captured in (("pix2pixUnwrapped", layers_of_embedder), ("pix2pixSampler", layers_of_driver)):
        for name, x in _outputs(captured["intermediates"]).items():
            x = jnp.tanh(x) if (root, name) == ("pix2pixSampler", "up") else x
            out[f"stat_{root}.netG.model.{name}"] = np.array([x.mean(), x.std(), np.abs(x).sum()])
            out[f"slice_{root}.netG.model.{name}"] = nchw(x)[:, :4, :4, :4]
    return out


def _outputs(captured: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The output of every block's way down and up under its published name: of the norm where there is one."""
    made = {}
    for way in ("down", "up"):
        for level in range(1, 9):
            found = captured.get(f"{way}_norm_{level}", captured[f"{way}_{level}"])
            made["submodule." * (level - 1) + way] = np.asarray(found["__call__"][0])
    return made


def _overlay(patch: np.ndarray) -> np.ndarray:
    """The demo's patch on one cheek."""
    overlay, (row, column) = np.zeros((256, 256, 4), np.float32), PATCH
    overlay[row : row + patch.shape[1], column : column + patch.shape[2]] = np.moveaxis(patch, 0, -1)
    return overlay


def _shifted(arrays: Mapping[str, np.ndarray], networks: Networks, variables: Any) -> Arrays:
    source = picture(arrays["in_source"])
    method = X2Face()
    animator = Animator(networks, method.sound, method.maps.rectified)
    face = jax.jit(networks.embedded)(variables, source[None]).face
    prepared = Prepared(face, jax.jit(networks.vectors)(variables, source))
    posed = _posed(animator, variables, prepared, jnp.asarray(arrays["in_pose"]), None)
    features, start = (jnp.asarray(arrays[n]) for n in ("in_audio", "in_audio_source"))
    spoken = _spoken(animator, variables, prepared, features, start)
    draw = jax.jit(lambda v, face, vectors: grid_sample(face, networks.grids(v, vectors)))
    return {
        "out_generated_pose": _every(draw(variables, face, posed), 2),
        "out_driving_vector_shifted": np.asarray(posed)[..., None, None],
        "out_pose_from_vector_probe": networks.codes(variables, jnp.asarray(arrays["in_probe128"])),
        "out_vector_from_pose_probe": networks.from_codes(variables, jnp.asarray(arrays["in_probe3"])),
        "out_source_vector": np.asarray(jax.nn.relu(prepared.vector))[0],
        "out_driving_vector_audio": np.asarray(spoken)[..., None, None],
        "out_generated_audio": _every(draw(variables, face, spoken), 2),
    }


# --- one step of the first stage


def _train(arrays: Mapping[str, np.ndarray], method: X2Face, variables: Any) -> Arrays:
    """Loss and result in float32, the gradient and the step in float64, as the case was made."""
    single = _step(arrays, method, variables, jnp.float32)
    with jax.enable_x64(True):
        return {**_step(arrays, method, variables, jnp.float64), **single}


def _step(arrays: Mapping[str, np.ndarray], method: X2Face, variables: Any, dtype: Any) -> Arrays:
    variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
    batch = {
        n: 2 * jnp.asarray(arrays[f"in_{m}"], dtype) / 255 - 1 for n, m in (("source", "source_0"), ("driving",) * 2)
    }
    (player,) = method.players({"photometric": optax.sgd(1e-3, momentum=0.9)})

    @jax.jit
    def forward(v: Any) -> Any:
        sources, driving = to_unit(batch["source"])[:, None], to_unit(batch["driving"])
        made = method.game.forward(v, sources, driving)
        return made.generated, jnp.mean(jnp.abs(made.generated - driving))

    if dtype == jnp.float32:
        generated, loss = forward(variables)
        return {"out_generated": _every(generated, 4), "loss_photometric": loss}

    def objective(params: Any) -> Any:
        out = method.game.photometric_loss(
            with_params(variables, params), batch, jax.random.key(0), step=jnp.zeros((), jnp.int32), shared=None
        )
        return out.loss, out.mutated

    @jax.jit
    def move(params: Any) -> Any:
        gradient, mutated = jax.grad(objective, has_aux=True)(params)
        tx: Any = player.update.tx  # pyright: ignore[reportAttributeAccessIssue]
        updates, _ = tx.update(gradient, tx.init(params), params)
        return gradient, updates, optax.apply_updates(params, updates), mutated

    gradient, updates, after, mutated = move(owned_params(variables, player.owns))
    entries = tensor_entries(variable_shapes(method), method.size.levels)

    def by_name(params: Any) -> dict[str, np.ndarray]:
        return to_state({n: {"params": p} for n, p in params.items()}, entries)

    out: Arrays = {f"after_{n}": x for n, x in to_state(mutated, entries).items()}
    out |= {f"_value/{n}": x for n, x in by_name(after).items()}
    out |= {f"_grad/{n}": x for n, x in by_name(gradient).items()}
    out |= {f"_grad_l2/{n}": np.linalg.norm(x) for n, x in by_name(gradient).items()}
    out |= {f"_delta_l2/{n}": np.linalg.norm(x) for n, x in by_name(updates).items()}
    return out
