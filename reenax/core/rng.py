"""Named random streams: the same name gives the same stream on every machine and in every run."""

import zlib

import jax
from jaxtyping import Array, Int, Key


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The stream called ``name`` under a key. crc32, since Python's hash differs from run to run."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def step_stream(key: Key[Array, ""], step: Int[Array, ""], name: str) -> Key[Array, ""]:
    """The stream called ``name`` of one step."""
    return stream(jax.random.fold_in(key, step), name)
