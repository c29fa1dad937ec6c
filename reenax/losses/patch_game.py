"""The game between a generator and the patch discriminators of a pyramid, with feature matching.

First Order Motion and face vid2vid play it alike: the generator's side moves first, by one backward pass; the
discriminators judge the same prediction and keypoints once more, from before that move.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.types import Batch, LossFn, LossOut, Player, Variables
from reenax.core.updates import Gradient, jointly
from reenax.losses.adversarial import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from reenax.losses.perceptual import image_pyramid
from reenax.nn.patch_discriminator import Judged, PyramidDiscriminator

GAN_LOSSES = {
    "ls": (lsgan_generator_loss, lsgan_discriminator_loss),
    "hinge": (hinge_generator_loss, hinge_discriminator_loss),
}


@dataclasses.dataclass(frozen=True)
class PatchWeights:
    """Weights of the game; a weight of 0 leaves a term out.

    Attributes:
        generator_gan: with 0 neither this term nor feature matching is computed, and no discriminator trained.
        discriminator_gan: of the discriminators' own loss.
        gan: "ls", least squares, or "hinge".
        feature_matching: one weight per discriminator block.
    """

    generator_gan: float = 1.0
    discriminator_gan: float = 1.0
    gan: str = "ls"
    feature_matching: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0)

    def __post_init__(self) -> None:
        if self.gan not in GAN_LOSSES:
            raise UserError(f"config.model.losses.gan must be one of {', '.join(GAN_LOSSES)}, got {self.gan!r}")


@dataclasses.dataclass(frozen=True)
class PatchGame:
    """The discriminators, the variables' network "discriminator", with both sides' losses.

    Attributes:
        discriminator: the network.
        weights: of the losses.
    """

    discriminator: PyramidDiscriminator
    weights: PatchWeights

    @property
    def played(self) -> bool:
        """Whether there is a discriminator."""
        return self.weights.generator_gan > 0

    def judge(
        self,
        variables: Variables,
        prediction: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        keypoints: Float[Array, "b k 2"],
    ) -> tuple[list[Judged], list[Judged], dict[str, Any]]:
        """Verdicts on the made and on the real picture, in this order, and the moved spectral vectors."""
        current, verdicts = variables["discriminator"], []
        for picture in (prediction, driving):
            pyramid = image_pyramid(picture, self.discriminator.params.scales)
            verdict, moved = self.discriminator.apply(current, pyramid, keypoints, train=True, mutable=["spectral"])
            current = {**current, **moved}
            verdicts.append(verdict)
        return verdicts[0], verdicts[1], {k: v for k, v in current.items() if k != "params"}

    def generator_terms(
        self,
        variables: Variables,
        prediction: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        keypoints: Float[Array, "b k 2"],
    ) -> tuple[dict[str, Float[Array, ""]], dict[str, Any]]:
        """The weighted terms by which a prediction pleases the discriminators, and what moves in these.

        Pictures are in [0, 1]; nothing flows to the keypoints. Without a game both are empty.
        """
        w = self.weights
        if not self.played:
            return {}, {}
        fake, real, moved = self.judge(variables, prediction, driving, jax.lax.stop_gradient(keypoints))
        terms = {"gen_gan": w.generator_gan * GAN_LOSSES[w.gan][0]([v.score for v in fake])}
        if any(w.feature_matching):
            terms["feature_matching"] = feature_matching_loss(
                [v.features for v in real], [v.features for v in fake], w.feature_matching
            )
        return terms, {"discriminator": moved}

    def discriminator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The discriminators' loss on the prediction and keypoints from before the generator's move."""
        w, driving = self.weights, to_unit(batch["driving"])
        fake, real, moved = self.judge(variables, shared["prediction"], driving, shared["keypoints"])
        loss = w.discriminator_gan * GAN_LOSSES[w.gan][1]([v.score for v in real], [v.score for v in fake])
        return LossOut(loss, {"disc_gan": loss}, {"discriminator": moved})

    def players(
        self,
        generator_loss: LossFn,
        networks: tuple[str, ...],
        optim: Mapping[str, optax.GradientTransformation],
        accumulate: int,
        method: str,
    ) -> tuple[Player, ...]:
        """ "generator" by one backward pass, each of its networks with its own optimiser, then "discriminator".

        Args:
            generator_loss: shares "prediction" and "keypoints".
            networks: what it moves.
            optim: network -> optimiser.
            accumulate: see `Gradient`.
            method: a name, for messages.

        Raises:
            UserError: an optimiser is missing.
        """
        # The discriminators' spectral vectors also move when they judge for the generator.
        persists = (*networks, "discriminator") if self.played else networks
        update = Gradient(generator_loss, jointly(optim, networks, method), accumulate)
        generator = Player("generator", networks, update, persists=persists)
        if not self.played:
            return (generator,)
        update = Gradient(self.discriminator_loss, jointly(optim, ("discriminator",), method), accumulate)
        return generator, Player("discriminator", ("discriminator",), update)


def shared_with_discriminator(
    prediction: Float[Array, "b h w 3"], keypoints: Float[Array, "b k 2"]
) -> dict[str, Float[Array, "b *n"]]:
    """What the generator's loss hands to :meth:`PatchGame.discriminator_loss`; no gradient goes back through it."""
    return jax.lax.stop_gradient({"prediction": prediction, "keypoints": keypoints})
