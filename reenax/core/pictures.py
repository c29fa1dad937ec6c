"""Pictures as bytes, as floats in [-1, 1], and in the [0, 1] of some papers' networks."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from reenax.core.types import Batch


def as_float(pictures: UInt8[Array, "*b h w c"] | UInt8[np.ndarray, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Bytes to floats in [-1, 1]."""
    return jnp.asarray(pictures, jnp.float32) / 127.5 - 1.0


def as_bytes(pictures: Shaped[Array, "*b h w c"] | Shaped[np.ndarray, "*b h w c"]) -> UInt8[np.ndarray, "*b h w c"]:
    """Floats in [-1, 1] to bytes on the host, rounded."""
    return np.asarray(jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8))


def float_pictures(batch: Batch) -> Batch:
    """Turns uint8 leaves of a batch, which are pictures, into floats in [-1, 1]; other leaves stay."""
    return {k: as_float(v) if v.dtype == jnp.uint8 else v for k, v in batch.items()}


def to_unit(picture: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """From [-1, 1] to [0, 1]."""
    return (picture + 1) / 2


def from_unit(picture: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """From [0, 1] to [-1, 1]."""
    return 2 * picture - 1
