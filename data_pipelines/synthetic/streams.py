"""Random streams that are named, so that adding one never changes another."""

import zlib

import numpy as np


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """The random numbers of one purpose: the same on every machine and in every process.

    Args:
        seed: at least 0.
        path: names and numbers (at least 0) that say what the numbers are for, e.g. `"blinks", person.name, take`.
    """
    return np.random.default_rng(
        [seed, *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path)]
    )
