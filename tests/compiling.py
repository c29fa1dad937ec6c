"""How the tests' programs are compiled: quickly, unless a test asks for more."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def compiled_well() -> Iterator[None]:
    """Programs compiled as users' are: they run faster, and sums are added up in an order that rounds less."""
    quickly = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", quickly)
