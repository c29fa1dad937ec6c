"""From the plain parameter layout of :mod:`reenax.nn.blocks` to the folded one of inference."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.nn.conv import largest_singular_value

Tree = Mapping[str, Any]


def fold(variables: Tree, *, epsilon: float = 1e-5) -> dict[str, Any]:
    """One network's collections in the layout that its modules read with ``folded=True``.

    Every ``conv`` with a ``norm`` beside it takes the norm's running statistics and scale in; below a name that starts
    with ``up_blocks`` it also becomes the 2x2 convolution of :class:`reenax.nn.blocks.Up`; of a residual block
    ``norm2`` goes into ``conv1`` and ``norm1`` becomes a scale and a shift. Spectrally normalised kernels are divided
    by their singular value. All else is kept. The outputs in evaluation mode are the same up to rounding. To be
    computed once, before inference; it may be jitted.
    """
    params = _divided(variables["params"], variables.get("spectral", {}))
    return {"params": _fold(params, variables.get("batch_stats", {}), epsilon, enlarges=False)}


def _divided(params: Tree, vectors: Tree) -> Tree:
    """Kernels of :class:`reenax.nn.conv.SpectralConv` over ``u^T W v``; those without vectors as they are."""
    if "u" in vectors:
        return {**params, "kernel": params["kernel"] / largest_singular_value(params["kernel"], **vectors)}
    return {n: _divided(child, vectors[n]) if n in vectors else child for n, child in params.items()}


def _fold(params: Tree, stats: Tree, epsilon: float, *, enlarges: bool) -> dict[str, Any]:
    if {"conv1", "norm1", "conv2", "norm2"} <= params.keys():
        norm1, norm2 = (_as_affine(params[n], stats[n], epsilon) for n in ("norm1", "norm2"))
        return {"norm1": norm1, "conv1": _absorb(params["conv1"], norm2), "conv2": params["conv2"]}
    folded: dict[str, Any] = {}
    if {"conv", "norm"} <= params.keys():
        conv = _absorb(params["conv"], _as_affine(params["norm"], stats["norm"], epsilon))
        folded["conv"] = _sub_pixel(conv) if enlarges else conv
        params = {name: child for name, child in params.items() if name not in ("conv", "norm")}
    for name, child in params.items():
        if isinstance(child, Mapping):
            child = _fold(child, stats.get(name, {}), epsilon, enlarges=name.startswith("up_blocks"))
        folded[name] = child
    return folded


def _as_affine(norm: Tree, stats: Tree, epsilon: float) -> dict[str, Float[Array, " c"]]:
    scale = norm["scale"] * jax.lax.rsqrt(stats["var"] + epsilon)
    return {"scale": scale, "bias": norm["bias"] - stats["mean"] * scale}


def _absorb(conv: Tree, affine: Tree) -> dict[str, Array]:
    return {
        "kernel": conv["kernel"] * affine["scale"].reshape((1,) * (conv["kernel"].ndim - 1) + (-1,)),
        "bias": conv["bias"] * affine["scale"] + affine["bias"],
    }


def _sub_pixel(conv: Tree) -> dict[str, Array]:
    """The 3x3 kernel on the enlarged picture, as four 2x2 kernels on the small one, one per parity of the output.

    An enlarged row 2 i + a under a 3-tap kernel (k0, k1, k2) sees the small rows i - 1, i with (k0, k1 + k2) for
    a = 0, and i, i + 1 with (k0 + k1, k2) for a = 1. The depth of a volume's kernel stays.
    """
    kernel = conv["kernel"]
    depth, kernel = kernel.shape[:-4], kernel.reshape(-1, *kernel.shape[-4:]).transpose(1, 2, 0, 3, 4)

    def halves(k: Float[Array, "3 *n"]) -> list[Float[Array, "2 *n"]]:
        return [jnp.stack([k[0], k[1] + k[2]]), jnp.stack([k[0] + k[1], k[2]])]

    parities = [half.swapaxes(0, 1) for rows in halves(kernel) for half in halves(rows.swapaxes(0, 1))]
    kernel = jnp.concatenate(parities, axis=-1).transpose(2, 0, 1, 3, 4)
    return {"kernel": kernel.reshape(*depth, *kernel.shape[1:]), "bias": jnp.tile(conv["bias"], 4)}
