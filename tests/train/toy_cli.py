"""The `reenax` commands with toy methods among the methods: ``python tests/train/toy_cli.py train ...``."""

import dataclasses
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import flax.linen as nn
import jax
import jax.numpy as jnp

import reenax
from reenax import cli
from reenax.core.types import LossOut, Player
from reenax.core.updates import Gradient
from tests.train.toys import Regression, Table


def picture_numbers(batch):
    """A whole number for every example, that follows from its pixels."""
    return jnp.round((batch["source"] + 1) * 127.5).sum((1, 2, 3)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Painting(Regression):
    """One small network with batch statistics, dropout and a moving average."""


@dataclasses.dataclass(frozen=True)
class ShardedTable(Table):
    """Draws the mean of a picture from an embedding, whose table is cut over the mesh."""

    def init(self, rng, batch):
        first, second = jax.random.split(rng)
        table = nn.Embed(self.rows, 6).init(first, jnp.zeros(1, jnp.int32))
        return {"table": table, "decoder": nn.Dense(3).init(second, jnp.zeros((1, 6)))}

    def loss(self, variables, batch, rng, *, step, shared):
        code = nn.Embed(self.rows, 6).apply(variables["table"], picture_numbers(batch) % self.rows)
        made = nn.Dense(3).apply(variables["decoder"], code)
        return LossOut(jnp.mean((made - batch["driving"].mean((1, 2))) ** 2))


@dataclasses.dataclass(frozen=True)
class Exploding(Regression):
    """Its loss is no number from a step on, or for certain pictures.

    Attributes:
        at: the step from which on it is none; -1 for never.
        residue: it is none for batches whose pictures' sum leaves this rest when divided by 23; -1 for no batch.
    """

    at: int = -1
    residue: int = -1

    def players(self, optim, accumulate=1):
        return (Player("painter", ("painter",), Gradient(self.bad_loss, optim["painter"])),)

    def bad_loss(self, variables, batch, rng, *, step, shared):
        out = self.loss(variables, batch, rng, step=step, shared=shared)
        bad = picture_numbers(batch).sum() % 23 == self.residue
        if self.at >= 0:
            bad |= step >= self.at - 1
        spoilt = jnp.where(bad, jnp.nan, 1.0)
        return out._replace(loss=out.loss * spoilt, metrics={"mse": out.metrics["mse"], "spoilt": out.loss * spoilt})


METHODS = {"painting": Painting, "table": ShardedTable, "exploding": Exploding}

CONFIG = '''
"""A toy's config."""

from ml_collections import ConfigDict

from configs.common import adam, base_config

NAMES = ({names})


def get_config(name):
    config = base_config("toy_" + name)
    config.lr = 1e-3
    config.optim = ConfigDict({{key: {{**adam(config).to_dict(), "eps": 1e-4}} for key in ("painter", "both")}})
    models = {{"exploding": {{"at": -1, "residue": -1}}, "table": {{"rows": 4096}}}}
    config.model = ConfigDict(models.get(name, {{}}))
    config.batch_size = 8
    config.data.size = {size}
    config.data.threads = 2
    config.log_every = 1
    config.save_every = 5
    config.eval_every = 10
    config.sample_every = 0
    return config
'''


def write_config(folder: Path, size: int) -> Path:
    """The file for ``--config FILE:painting``, ``:table`` or ``:exploding``, for a dataset of that size."""
    path = folder / "toys.py"
    path.write_text(CONFIG.format(names=", ".join(f'"{name}"' for name in METHODS) + ",", size=size))
    return path


def register() -> None:
    """Puts the toys among the methods, for `reenax.load_method`."""
    for name, method in METHODS.items():
        module = types.ModuleType(f"reenax.methods.toy_{name}")
        module.METHOD = method  # pyright: ignore[reportAttributeAccessIssue]
        sys.modules[module.__name__] = module
    real = reenax.method_names
    reenax.method_names = lambda: tuple(sorted({*real(), *(f"toy_{name}" for name in METHODS)}))


if __name__ == "__main__":
    register()
    sys.exit(cli.main())
