"""A method that needs no training: it shifts the colours of the source by the driver's change of mean colour."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from reenax.core.reenact import TRANSFER_OPTIONS
from reenax.core.types import Method
from reenax.train.runs import Trained

SIZE = 64


@dataclasses.dataclass(frozen=True)
class Tint(Method):
    drives: frozenset[str] = frozenset({"video"})
    reads: frozenset[str] = frozenset()
    fields = frozenset({"frames"})
    options = TRANSFER_OPTIONS

    def init(self, rng, batch):
        raise NotImplementedError

    def players(self, optim, accumulate=1):
        raise NotImplementedError

    def preview(self, variables, batch):
        raise NotImplementedError

    def reenactor(self, variables, source, *, anchor=None, mode="relative", adapt_scale=False):
        def mean(frames):
            return frames.mean(axis=(1, 2), keepdims=True)

        zero = mean(anchor.frames) if anchor is not None and mode == "relative" else 0.0
        return lambda drive: jnp.clip(source.frames[:1] + mean(drive.frames) - zero, -1, 1)


def trained(**changes: Any) -> Trained:
    config = ConfigDict({"data": {"size": SIZE}})
    return Trained(Tint(**changes), {}, config, 7, "tint")
