"""How the method is trained: a Wasserstein game with a gradient penalty, in which the critic also names the labels.

Two players: "critic", whose loss holds the penalty, and "generator" on every n-th step. Passes of the generator move
the running statistics of its norms in both, in the order of the published code; nothing reads them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.types import Batch, Collections, Every, LossOut, Player, Variables
from reenax.core.updates import Gradient
from reenax.losses.adversarial import gradient_penalty, mixed_pictures, wasserstein_loss
from reenax.losses.terms import total
from reenax.methods.stargan.labels import Labels
from reenax.methods.stargan.networks import Generator
from reenax.nn.label_networks import LabelCritic, Reading

NETWORKS = ("critic", "generator")


@dataclasses.dataclass(frozen=True)
class LossParams:
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms.
        penalty: of the gradient penalty (lambda_gp).
        classification: of the labels' cross entropy (lambda_cls).
        cycle: of the way back to the picture (lambda_rec).
    """

    adversarial: float = 1.0
    penalty: float = 10.0
    classification: float = 1.0
    cycle: float = 10.0


class Forward(NamedTuple):
    """What the players' passes gave.

    Attributes:
        there: the picture with the target labels.
        back: that one with its first labels; None where the critic moves.
        readings: the critic's, of the real picture (where the critic moves) and of ``there``.
        mutated: the generator's collections afterwards.
    """

    there: Float[Array, "b h w 3"]
    back: Float[Array, "b h w 3"] | None
    readings: tuple[Reading, ...]
    mutated: Collections


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        generator, critic: the networks.
        labels: what they are told and read.
        losses: weights.
        critic_steps: the generator moves on every so manyth step.
    """

    generator: Generator
    critic: LabelCritic
    labels: Labels
    losses: LossParams
    critic_steps: int

    def draw(
        self, variables: Variables, picture: Float[Array, "b h w 3"], labels: Float[Array, "b c"]
    ) -> Float[Array, "b h w 3"]:
        """The picture with other labels, in evaluation mode."""
        made: Any = self.generator.apply(variables["generator"], picture, labels, train=False)
        return made

    def _pass(
        self, variables: Variables, picture: Float[Array, "b h w 3"], labels: Float[Array, "b c"]
    ) -> tuple[Float[Array, "b h w 3"], Collections]:
        made: Any = self.generator.apply(variables["generator"], picture, labels, train=True, mutable=["batch_stats"])
        return made[0], dict(made[1])

    def read(self, variables: Variables, picture: Float[Array, "b h w 3"]) -> Reading:
        """The critic's scores and logits of labels."""
        reading: Any = self.critic.apply(variables["critic"], picture)
        return reading

    def critic_terms(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        labels: Float[Array, "b c"],
        target: Float[Array, "b c"],
        share: Float[Array, " b"],
    ) -> tuple[dict[str, Float[Array, ""]], Forward]:
        """Weighted terms of the critic; ``share`` is the real picture's in those that the penalty looks at."""
        w = self.losses
        made, mutated = self._pass(variables, picture, target)
        fake = jax.lax.stop_gradient(made)
        readings = self.read(variables, picture), self.read(variables, fake)
        between = mixed_pictures(picture, fake, share)
        terms = {
            "real": w.adversarial * wasserstein_loss(readings[0].scores, real=True),
            "fake": w.adversarial * wasserstein_loss(readings[1].scores, real=False),
            "classification": w.classification * self.labels.loss(readings[0].label, labels),
            "penalty": w.penalty * gradient_penalty(lambda x: self.read(variables, x).scores, between),
        }
        return terms, Forward(fake, None, readings, mutated)

    def generator_terms(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        labels: Float[Array, "b c"],
        target: Float[Array, "b c"],
    ) -> tuple[dict[str, Float[Array, ""]], Forward]:
        """Weighted terms of the generator; the way back goes through the way there."""
        w = self.losses
        there, mutated = self._pass(variables, picture, target)
        reading = self.read(variables, there)
        moved = {**variables, "generator": {**variables["generator"], **mutated}}
        back, mutated = self._pass(moved, there, labels)
        terms = {
            "fake": w.adversarial * wasserstein_loss(reading.scores, real=True),
            "classification": w.classification * self.labels.loss(reading.label, target),
            "cycle": w.cycle * jnp.mean(jnp.abs(picture - back)),
        }
        return terms, Forward(there, back, (reading,), mutated)

    def targets(self, labels: Float[Array, "b c"], rng: Key[Array, ""]) -> Float[Array, "b c"]:
        """The labels of the batch in another order."""
        return jax.random.permutation(rng, labels)

    def critic_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The critic's loss; hands the target labels, those of the batch in another order, to the generator's."""
        order_key, share_key = jax.random.split(rng)
        picture, labels = batch["source"], self.labels.of(batch)
        target = self.targets(labels, order_key)
        share = jax.random.uniform(share_key, picture.shape[:1])
        terms, made = self.critic_terms(variables, picture, labels, target, share)
        watched = {"label_error": self._label_error(made.readings[0], labels)}
        return LossOut(total(terms), {**terms, **watched}, {"generator": made.mutated}, {"target": target})

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The generator's loss, with the critic that has moved."""
        picture, labels, target = batch["source"], self.labels.of(batch), shared["target"]
        terms, made = self.generator_terms(variables, picture, labels, target)
        watched = {"label_error": self._label_error(made.readings[0], target)}
        return LossOut(total(terms), {**terms, **watched}, {"generator": made.mutated})

    def _label_error(self, reading: Reading, labels: Float[Array, "b c"]) -> Float[Array, ""]:
        """The share of labels that are read wrongly; of pictures, where labels exclude each other."""
        wrong = self.labels.read(reading.label) != labels
        wrong = jnp.any(wrong, axis=-1) if self.labels.exclusive else wrong
        return jnp.mean(wrong.astype(jnp.float32))

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """ "critic" and "generator".

        Raises:
            UserError: an optimiser is missing.
        """
        for network in NETWORKS:
            if network not in optim:
                raise UserError(f"config.optim.{network} is missing; stargan needs {' and '.join(NETWORKS)}")
        critic, generator = (
            Gradient(loss, optim[network], accumulate)
            for network, loss in zip(NETWORKS, (self.critic_loss, self.generator_loss), strict=True)
        )
        last = Every(self.critic_steps, offset=self.critic_steps - 1)
        return (
            Player("critic", ("critic",), critic, persists=("critic", "generator")),
            Player("generator", ("generator",), generator, last),
        )
