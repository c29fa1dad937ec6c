"""How the method is trained: a Wasserstein game with a gradient penalty, in which the critic also reads action units.

Three players. "critic" scores real against made pictures and regresses the action units of real ones; "penalty" takes
the gradient penalty of the critic that has just moved, by a step of its own of the same optimiser; "generator" moves on
every n-th step.

The penalty's gradient is zero in every bias and in the layer that reads action units. They move all the same, by the
momentum of the critic's own step, as in the published code.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.types import Batch, Every, LossOut, Player, Variables
from reenax.core.updates import Gradient
from reenax.geometry.head.action_units import MAXIMUM
from reenax.losses.adversarial import gradient_penalty, mixed_pictures, wasserstein_loss
from reenax.losses.terms import total
from reenax.methods.ganimation.networks import Generated, Generator
from reenax.nn.label_networks import LabelCritic, Reading

NETWORKS = ("critic", "generator")


@dataclasses.dataclass(frozen=True)
class LossParams:
    """Weights of the losses, those of the published code; the paper's names in brackets.

    Attributes:
        adversarial: of the Wasserstein terms.
        penalty: of the gradient penalty (lambda_gp).
        condition: of the squared error of read action units (lambda_y).
        cond_loss_divides_by_batch: the published code divides the mean squared error by the batch size once more: the
            4000 are 160 at its batch of 25.
        cycle: of the way back to the picture (lambda_idt).
        attention: of the attention's mean (lambda_A). The one to raise, alone, when the attention goes to 1.
        smoothness: of the attention's total variation, which is summed over pixels and batch (lambda_A lambda_TV).
    """

    adversarial: float = 1.0
    penalty: float = 10.0
    condition: float = 4000.0
    cond_loss_divides_by_batch: bool = True
    cycle: float = 10.0
    attention: float = 0.1
    smoothness: float = 1e-5


class Forward(NamedTuple):
    """One generator pass to the asked action units and one back.

    Attributes:
        there: the picture with the asked action units.
        back: that one with the measured action units of the first.
        reading: the critic's of the picture with the asked action units.
    """

    there: Generated
    back: Generated
    reading: Reading


def total_variation(x: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Sum of absolute differences of neighbours, over the whole batch."""
    return sum((jnp.sum(jnp.abs(jnp.diff(x, axis=axis))) for axis in (1, 2)), jnp.zeros((), x.dtype))


def condition_loss(
    read: Float[Array, "b c"], units: Float[Array, "b c"], batch_size: int | None = None
) -> Float[Array, ""]:
    """Mean squared error of read action units, divided by the batch size where one is given."""
    return jnp.mean((read - units) ** 2) / (batch_size or 1)


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        generator, critic: the networks.
        losses: weights.
        critic_steps: the generator moves on every so manyth step.
        target_noise: asked action units are changed by U(-target_noise, target_noise) each, and not clipped.
    """

    generator: Generator
    critic: LabelCritic
    losses: LossParams
    critic_steps: int
    target_noise: float

    def generate(
        self, variables: Variables, picture: Float[Array, "b h w 3"], units: Float[Array, "b 17"]
    ) -> Generated:
        """The picture with other action units."""
        made: Any = self.generator.apply(variables["generator"], picture, units)
        return made

    def read(self, variables: Variables, picture: Float[Array, "b h w 3"]) -> Reading:
        """The critic's scores and action units."""
        reading: Any = self.critic.apply(variables["critic"], picture)
        return reading

    def targets(self, batch: Batch, rng: Key[Array, ""]) -> Float[Array, "b 17"]:
        """The asked action units in [0, 1], with noise."""
        asked = batch["target_action_units"] / MAXIMUM
        return asked + jax.random.uniform(rng, asked.shape, asked.dtype, -self.target_noise, self.target_noise)

    def _condition(self, read: Array, units: Array, pieces: int) -> Array:
        rows = read.shape[0] * pieces if self.losses.cond_loss_divides_by_batch else None
        return self.losses.condition * condition_loss(read, units, rows)

    def critic_terms(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        units: Float[Array, "b 17"],
        fake: Float[Array, "b h w 3"],
        pieces: int = 1,
    ) -> tuple[dict[str, Float[Array, ""]], Reading, Reading]:
        """Weighted terms of the critic, and its readings of the real and of the made picture.

        ``pieces``: how many such batches make the one that an optimiser's step is taken on.
        """
        real, made = self.read(variables, picture), self.read(variables, fake)
        terms = {
            "real": self.losses.adversarial * wasserstein_loss(real.scores, real=True),
            "fake": self.losses.adversarial * wasserstein_loss(made.scores, real=False),
            "condition": self._condition(real.label, units, pieces),
        }
        return terms, real, made

    def penalty(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        fake: Float[Array, "b h w 3"],
        share: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """The weighted gradient penalty between a real and a made picture; ``share`` is the real one's."""
        between = mixed_pictures(picture, fake, share)
        return self.losses.penalty * gradient_penalty(lambda x: self.read(variables, x).scores, between)

    def generator_terms(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        units: Float[Array, "b 17"],
        target: Float[Array, "b 17"],
        pieces: int = 1,
    ) -> tuple[dict[str, Float[Array, ""]], Forward]:
        """Weighted terms of the generator, and the passes behind them; the way back goes through the way there."""
        w = self.losses
        there = self.generate(variables, picture, target)
        reading = self.read(variables, there.picture)
        back = self.generate(variables, there.picture, units)
        masks = (there.attention, back.attention)
        terms = {
            "fake": w.adversarial * wasserstein_loss(reading.scores, real=True),
            "condition": self._condition(reading.label, target, pieces),
            "cycle": w.cycle * jnp.mean(jnp.abs(back.picture - picture)),
            "attention_mean": w.attention * sum((jnp.mean(a) for a in masks), jnp.zeros(())),
            "attention_smoothness": pieces * w.smoothness * sum((total_variation(a) for a in masks), jnp.zeros(())),
        }
        return terms, Forward(there, back, reading)

    def critic_loss(
        self,
        variables: Variables,
        batch: Batch,
        rng: Key[Array, ""],
        *,
        step: Int[Array, ""],
        shared: PyTree,
        pieces: int = 1,
    ) -> LossOut:
        """The critic's loss; hands the asked action units and the made pictures to the players behind it."""
        units, target = batch["action_units"] / MAXIMUM, self.targets(batch, rng)
        fake = jax.lax.stop_gradient(self.generate(variables, batch["source"], target).picture)
        terms, real, _ = self.critic_terms(variables, batch["source"], units, fake, pieces)
        error = jnp.mean(jnp.abs(real.label - units))
        return LossOut(total(terms), {**terms, "action_unit_error": error}, {}, {"target": target, "fake": fake})

    def penalty_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The gradient penalty, at random places between the real and the made pictures."""
        share = jax.random.uniform(rng, batch["source"].shape[:1])
        return LossOut(self.penalty(variables, batch["source"], shared["fake"], share))

    def generator_loss(
        self,
        variables: Variables,
        batch: Batch,
        rng: Key[Array, ""],
        *,
        step: Int[Array, ""],
        shared: PyTree,
        pieces: int = 1,
    ) -> LossOut:
        """The generator's loss, with the critic that has moved twice."""
        units, target = batch["action_units"] / MAXIMUM, shared["target"]
        terms, made = self.generator_terms(variables, batch["source"], units, target, pieces)
        watched = {
            "attention": jnp.mean(made.there.attention),
            "action_unit_error": jnp.mean(jnp.abs(made.reading.label - target)),
        }
        return LossOut(total(terms), {**terms, **watched})

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """ "critic", "penalty" and "generator", in this order.

        Raises:
            UserError: an optimiser is missing.
        """
        for network in NETWORKS:
            if network not in optim:
                raise UserError(f"config.optim.{network} is missing; ganimation needs {' and '.join(NETWORKS)}")
        critic, generator = (
            functools.partial(loss, pieces=accumulate) for loss in (self.critic_loss, self.generator_loss)
        )
        last = Every(self.critic_steps, offset=self.critic_steps - 1)
        return (
            Player("critic", ("critic",), Gradient(critic, optim["critic"], accumulate)),
            Player("penalty", ("critic",), Gradient(self.penalty_loss, optim["critic"], accumulate), state_of="critic"),
            Player("generator", ("generator",), Gradient(generator, optim["generator"], accumulate), last),
        )
