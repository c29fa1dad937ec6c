"""Random weights of the networks behind metrics, for tests and trials: distances by them compare with no others."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.core.types import Collections, FrozenNetwork

ONES = ("scale", "var")


def draw(network: FrozenNetwork, seed: int = 0) -> Collections:
    """He-normal kernels and norms that change nothing, drawn on the host: nothing is compiled for it."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return _drawn(shapes, "", np.random.default_rng(seed))


def _drawn(shapes: Any, name: str, rng: np.random.Generator) -> Any:
    if isinstance(shapes, Mapping):
        return {n: _drawn(s, n, rng) for n, s in shapes.items()}
    if name == "kernel":
        gain = math.sqrt(2 / math.prod(shapes.shape[:-1]))
        return jnp.asarray(gain * rng.standard_normal(shapes.shape, np.float32))
    return jnp.full(shapes.shape, float(name in ONES))
