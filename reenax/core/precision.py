"""Which numbers are computed in which type."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same numbers in float32 at least: for coordinates, masks and losses."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
