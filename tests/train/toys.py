"""Toy methods, one per hard case that the engine must carry without a special case of its own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reenax.core.types import Every, LossOut, Method, Player
from reenax.core.updates import GaussNewton, Gradient

SIZE = 8  # pixels


def pictures(step: int, batch: int = 16, names: tuple[str, ...] = ("source", "driving")) -> dict[str, np.ndarray]:
    """Random uint8 pictures that belong to a step."""
    rng = np.random.default_rng(step)
    return {n: rng.integers(0, 256, (batch, SIZE, SIZE, 3), dtype=np.uint8) for n in names}


class Painter(nn.Module):
    """A convolution, a batch norm and a convolution."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(8, (3, 3), use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x))
        return nn.tanh(nn.Conv(3, (3, 3), dtype=self.dtype)(x))


class Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Conv(8, (3, 3), strides=(2, 2))(x), 0.2)
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


def paint(variables, name, x, dtype=jnp.float32):
    return Painter(dtype).apply(variables[name], x, train=True, mutable=["batch_stats"])


def judge(variables, x) -> Any:
    return Critic().apply(variables["critic"], x)


@dataclasses.dataclass(frozen=True)
class Toy(Method):
    """What the toys have in common."""

    dtype: str = "float32"
    remat: bool = False
    drives = frozenset({"video"})
    fields = frozenset({"frames"})
    ema: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def preview(self, variables, batch):
        return {"target": batch["driving"], "prediction": batch["source"]}

    def reenactor(self, variables, source, *, anchor=None, **options):
        return lambda drive: drive.frames


@dataclasses.dataclass(frozen=True)
class Regression(Toy):
    """One network, moving average, reduced precision, random dropout of pixels."""

    ema: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"painter": 0.9})

    def init(self, rng, batch):
        return {"painter": Painter().init(rng, batch["source"], train=False)}

    def players(self, optim, accumulate=1):
        return (Player("painter", ("painter",), Gradient(self.loss, optim["painter"], accumulate)),)

    def loss(self, variables, batch, rng, *, step, shared):
        source = batch["source"] * jax.random.bernoulli(rng, 0.9, batch["source"].shape)
        made, mutated = paint(variables, "painter", source, jnp.dtype(self.dtype))
        loss = jnp.mean((made.astype(jnp.float32) - batch["driving"]) ** 2)
        return LossOut(loss, {"mse": loss}, {"painter": mutated})


@dataclasses.dataclass(frozen=True)
class Wgan(Toy):
    """A critic that moves every step, its gradient penalty on the same optimiser, a generator every third step."""

    def init(self, rng, batch):
        first, second = jax.random.split(rng)
        x = batch["source"]
        return {"generator": Painter().init(first, x, train=False), "critic": Critic().init(second, x)}

    def players(self, optim, accumulate=1):
        return (
            Player("critic", ("critic",), Gradient(self.critic_loss, optim["critic"], accumulate)),
            Player("penalty", ("critic",), Gradient(self.penalty_loss, optim["critic"]), state_of="critic"),
            Player("generator", ("generator",), Gradient(self.generator_loss, optim["generator"]), Every(3, offset=2)),
        )

    def critic_loss(self, variables, batch, rng, *, step, shared):
        made, _ = paint(variables, "generator", batch["source"])
        made = jax.lax.stop_gradient(made)
        loss = judge(variables, made).mean() - judge(variables, batch["driving"]).mean()
        return LossOut(loss, shared={"made": made})

    def penalty_loss(self, variables, batch, rng, *, step, shared):
        mix = jax.random.uniform(rng, (batch["driving"].shape[0], 1, 1, 1))
        between = mix * batch["driving"] + (1 - mix) * shared["made"]
        slopes = jax.grad(lambda x: judge(variables, x).sum())(between)
        norms = jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3)) + 1e-12)
        return LossOut(10 * jnp.mean((norms - 1) ** 2))

    def generator_loss(self, variables, batch, rng, *, step, shared):
        made, mutated = paint(variables, "generator", batch["source"])
        loss = -judge(variables, made).mean() + jnp.abs(made - batch["driving"]).mean()
        return LossOut(loss, mutated={"generator": mutated})


@dataclasses.dataclass(frozen=True)
class Pairs(Toy):
    """Two generators in a cycle moved by one player, a critic fed from a pool of earlier pictures."""

    pool_size: int = 32

    def init(self, rng, batch):
        keys = jax.random.split(rng, 3)
        x = batch["source"]
        pool = jnp.zeros((self.pool_size, *x.shape[1:]))
        return {
            "there": Painter().init(keys[0], x, train=False),
            "back": Painter().init(keys[1], x, train=False),
            "critic": Critic().init(keys[2], x),
            "pool": {"pictures": {"kept": pool}},
        }

    def players(self, optim, accumulate=1):
        return (
            Player("generators", ("there", "back"), Gradient(self.generator_loss, optim["generators"])),
            Player("critic", ("critic",), Gradient(self.critic_loss, optim["critic"]), persists=("pool",)),
        )

    def generator_loss(self, variables, batch, rng, *, step, shared):
        made, first = paint(variables, "there", batch["source"])
        again, second = paint(variables, "back", made)
        cycle = jnp.abs(again - batch["source"]).mean()
        fooled = jnp.mean((judge(variables, made) - 1) ** 2)
        return LossOut(cycle + fooled, {"cycle": cycle}, {"there": first, "back": second}, {"made": made})

    def critic_loss(self, variables, batch, rng, *, step, shared):
        made = jax.lax.stop_gradient(shared["made"])
        kept = variables["pool"]["pictures"]["kept"]
        old = jax.random.permutation(rng, kept)[: made.shape[0]]
        kept = jnp.concatenate([made, kept])[: self.pool_size]
        fake = judge(variables, old)
        real = judge(variables, batch["driving"])
        return LossOut(jnp.mean(fake**2 + (real - 1) ** 2), mutated={"pool": {"pictures": {"kept": kept}}})


@dataclasses.dataclass(frozen=True)
class Stages(Toy):
    """Two players own the same network, one after the other, with losses and optimisers of their own."""

    switch: int = 4

    def init(self, rng, batch):
        return {"painter": Painter().init(rng, batch["source"], train=False)}

    def players(self, optim, accumulate=1):
        first = Gradient(self.loss(1), optim["first"])
        second = Gradient(self.loss(2), optim["second"])
        return (
            Player("first", ("painter",), first, Every(stop=self.switch)),
            Player("second", ("painter",), second, Every(start=self.switch)),
        )

    def loss(self, power):
        def loss(variables, batch, rng, *, step, shared):
            made, mutated = paint(variables, "painter", batch["source"])
            return LossOut(jnp.mean(jnp.abs(made - batch["driving"]) ** power), mutated={"painter": mutated})

        return loss


@dataclasses.dataclass(frozen=True)
class Fit(Toy):
    """Coefficients without a network: the mixture of basis pictures nearest to the driving one."""

    def init(self, rng, batch):
        basis = jax.random.normal(jax.random.key(3), (4, SIZE, SIZE, 3))
        return {"coefficients": {"params": {"mix": jnp.zeros(4)}, "basis": {"pictures": basis}}}

    def players(self, optim, accumulate=1):
        return (Player("fit", ("coefficients",), GaussNewton(self.residuals, iterations=2)),)

    def residuals(self, variables, batch):
        mix, basis = variables["coefficients"]["params"]["mix"], variables["coefficients"]["basis"]["pictures"]
        made = jnp.tanh(jnp.tensordot(mix, basis, 1))
        r = (made[None] - batch["driving"]).reshape(-1) / np.sqrt(batch["driving"].size)
        return r, {"mean": jnp.abs(r).mean()}


@dataclasses.dataclass(frozen=True)
class Table(Toy):
    """An embedding for every clip, in a table that is cut over the mesh by the method's own rule."""

    rows: int = 64
    shard_rules = (("table/.*embedding$", ("fsdp", None)),)

    def init(self, rng, batch):
        first, second = jax.random.split(rng)
        table = nn.Embed(self.rows, 6).init(first, jnp.zeros(1, jnp.int32))
        return {"table": table, "decoder": nn.Dense(SIZE * SIZE * 3).init(second, jnp.zeros((1, 6)))}

    def players(self, optim, accumulate=1):
        return (Player("both", ("table", "decoder"), Gradient(self.loss, optim["both"], accumulate)),)

    def loss(self, variables, batch, rng, *, step, shared):
        code = nn.Embed(self.rows, 6).apply(variables["table"], batch["clip"])
        made: Any = nn.Dense(SIZE * SIZE * 3).apply(variables["decoder"], code)
        return LossOut(jnp.mean((made.reshape(batch["driving"].shape) - batch["driving"]) ** 2))


def table_batch(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step + 1000)
    return {**pictures(step), "clip": rng.integers(0, 64, 16, dtype=np.int32)}


TOYS = {
    "regression": (Regression(), pictures),
    "wgan": (Wgan(), pictures),
    "pairs": (Pairs(), pictures),
    "stages": (Stages(), pictures),
    "fit": (Fit(), pictures),
    "table": (Table(), table_batch),
}
OPTIMISERS = ("painter", "critic", "generator", "generators", "first", "second", "both")


def optimisers() -> dict[str, optax.GradientTransformation]:
    return {name: optax.adam(1e-3, eps=1e-4) for name in OPTIMISERS}
