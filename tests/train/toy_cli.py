"""The `reenax` commands with toy methods among the methods: ``python tests/train/toy_cli.py train ...``."""

import dataclasses
import sys
import types
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import reenax
from reenax import cli
from reenax.core.types import FrozenNetwork, LossOut, Player
from reenax.core.updates import Gradient
from reenax.train.runs import save_imported
from tests.train.toys import Regression, Table


def picture_numbers(batch):
    """A whole number for every example, that follows from its pixels."""
    return jnp.round((batch["source"] + 1) * 127.5).sum((1, 2, 3)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Painting(Regression):
    """One small network with batch statistics, dropout and a moving average."""


def scales(rng):
    """A frozen network: three factors, drawn at random."""
    return {"params": {"factors": jax.random.uniform(rng, (3,), minval=0.5, maxval=1.5)}}


@dataclasses.dataclass(frozen=True)
class ShardedTable(Table):
    """Draws the mean of a picture from an embedding, whose table is cut over the mesh, seen by a frozen network."""

    frozen = MappingProxyType({"scales": FrozenNetwork("toy_scales", scales)})

    def init(self, rng, batch):
        first, second = jax.random.split(rng)
        table = nn.Embed(self.rows, 6).init(first, jnp.zeros(1, jnp.int32))
        return {"table": table, "decoder": nn.Dense(3).init(second, jnp.zeros((1, 6)))}

    def loss(self, variables, batch, rng, *, step, shared):
        code = nn.Embed(self.rows, 6).apply(variables["table"], picture_numbers(batch) % self.rows)
        made = nn.Dense(3).apply(variables["decoder"], code)
        factors = variables["scales"]["params"]["factors"]
        return LossOut(jnp.mean((factors[None] * (made - batch["driving"].mean((1, 2)))) ** 2))

    def preview(self, variables, batch):
        code = nn.Embed(self.rows, 6).apply(variables["table"], picture_numbers(batch) % self.rows)
        made: Any = nn.Dense(3).apply(variables["decoder"], code)
        return {
            "target": batch["driving"],
            "prediction": jnp.broadcast_to(jnp.tanh(made)[:, None, None], batch["driving"].shape),
        }


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

from pathlib import Path

from ml_collections import ConfigDict

from configs.common import adam, base_config

NAMES = ({names})


def get_config(name):
    config = base_config("toy_" + name)
    config.lr = 1e-3
    config.optim = ConfigDict({{key: {{**adam(config).to_dict(), "eps": 1e-4}} for key in ("painter", "both")}})
    models = {{"exploding": {{"at": -1, "residue": -1}}, "table": {{"rows": 4096}}}}
    config.model = ConfigDict(models.get(name, {{}}))
    if name == "table":
        config.frozen.scales = str(Path(__file__).with_name("scales"))
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


def write_scales(folder: Path) -> None:
    """The weights of the frozen network, as `reenax import` would write them."""
    config = ConfigDict({"frozen_kind": "toy_scales"})
    save_imported(folder, config, {"scales": scales(jax.random.key(9))}, {})


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
