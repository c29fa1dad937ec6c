"""How Monkey-Net is trained: a forward pass, its losses, and the players in the published code's order."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.types import Batch, LossOut, Player, Variables
from reenax.core.updates import Gradient, jointly
from reenax.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss
from reenax.losses.terms import PictureWeights, landmark_terms, picture_terms, total
from reenax.methods.monkey_net.embedding import Keypoints
from reenax.methods.monkey_net.networks import Discriminator, Generated, Generator, KeypointDetector
from reenax.nn.patch_discriminator import Judged

MOVED_TOGETHER = ("generator", "kp_detector")  # by one backward pass, each with its own optimiser


@dataclasses.dataclass(frozen=True)
class LossParams(PictureWeights):
    """Weights of the losses; a weight of 0 leaves the term out.

    Attributes:
        reconstruction: of the mean absolute difference of the pictures, then of the features of each of the
            discriminator's blocks.
        reconstruction_deformed: of the mean absolute difference between the warped source and the driving frame.
        generator_gan, discriminator_gan: of the least-squares adversarial terms. Without ``generator_gan`` and
            features to compare no discriminator is trained.
        others: not published, for small models; see :class:`reenax.losses.terms.PictureWeights`.
    """

    perceptual: tuple[float, ...] = ()
    reconstruction: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 1.0)
    reconstruction_deformed: float = 0.0
    generator_gan: float = 1.0
    discriminator_gan: float = 1.0

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.generator_gan > 0 or any(self.reconstruction[1:])


class Forward(NamedTuple):
    """One training forward pass.

    Attributes:
        kp_source, kp_driving: keypoints of both frames.
        generated: what the generator made.
        mutated: network -> moved running statistics.
    """

    kp_source: Keypoints
    kp_driving: Keypoints
    generated: Generated
    mutated: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        kp_detector, generator, discriminator: the networks.
        losses: weights.
        dtype: compute type of the perceptual network.
        remat: whether the perceptual network's activations are computed again in the backward pass.
    """

    kp_detector: KeypointDetector
    generator: Generator
    discriminator: Discriminator
    losses: LossParams
    dtype: Any = None
    remat: bool = False

    def forward(
        self, variables: Variables, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"]
    ) -> Forward:
        """Pictures in [0, 1] through detector and generator in training mode.

        The detector sees source and driving frames together, as one batch: its running statistics move once.
        """
        # row by row, so that no row leaves its device
        both = jnp.stack([source, driving], axis=1).reshape(-1, *source.shape[1:])
        found, seen = self.kp_detector.apply(variables["kp_detector"], both, train=True, mutable=["batch_stats"])
        kp_source, kp_driving = (Keypoints(*(x[i::2] for x in found)) for i in (0, 1))
        generated, moved = self.generator.apply(
            variables["generator"], source, kp_source, kp_driving, train=True, mutable=["batch_stats"]
        )
        return Forward(kp_source, kp_driving, generated, {"kp_detector": dict(seen), "generator": dict(moved)})  # pyright: ignore[reportArgumentType]

    def judge(self, variables: Variables, picture: Float[Array, "b h w 3"], keypoints: Keypoints) -> Judged:
        """The discriminator's verdict on a picture in [0, 1]."""
        judged: Any = self.discriminator.apply(variables["discriminator"], picture, keypoints, train=True)
        return judged

    def reconstruction_terms(
        self, variables: Variables, forward: Forward, driving: Float[Array, "b h w 3"]
    ) -> dict[str, Float[Array, ""]]:
        """The weighted terms of the paper. Nothing is detached: keypoints also learn through the heatmaps.

        Terms have the published logs' names.
        """
        w, terms = self.losses, {}
        prediction = wide(forward.generated.prediction)
        if w.reconstruction_deformed:
            away = jnp.abs(wide(forward.generated.deformed) - driving)
            terms["rec_def"] = w.reconstruction_deformed * jnp.mean(away)
        made, real = [prediction], [driving]
        if w.adversarial:
            fake_verdict, verdict = (self.judge(variables, x, forward.kp_driving) for x in (prediction, driving))
            made, real = [prediction, *fake_verdict.features], [driving, *verdict.features]
            if w.generator_gan:
                terms["gen_gan"] = w.generator_gan * lsgan_generator_loss([fake_verdict.score])
        for i, (x, y, weight) in enumerate(zip(made, real, w.reconstruction, strict=False)):
            if weight:
                terms[f"layer-{i}_rec"] = weight * jnp.mean(jnp.abs(x - y))
        return terms

    def other_terms(
        self, variables: Variables, forward: Forward, driving: Float[Array, "b h w 3"], batch: Batch
    ) -> dict[str, Float[Array, ""]]:
        """The weighted terms that are not the paper's."""
        w, made = self.losses, forward.generated
        terms = picture_terms(
            w, variables, made.prediction, made.deformed, driving, batch=batch, dtype=self.dtype, remat=self.remat
        )
        terms |= landmark_terms(w, forward.kp_source.mean, forward.kp_driving.mean, batch)
        return terms

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The loss of generator and keypoint detector; hands prediction and keypoints to the discriminator's move."""
        return self.loss_and_forward(variables, batch)[0]

    def loss_and_forward(self, variables: Variables, batch: Batch) -> tuple[LossOut, Forward]:
        """The same, and the forward pass behind it; the step has no randomness."""
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        forward = self.forward(variables, source, driving)
        terms = self.reconstruction_terms(variables, forward, driving)
        terms |= self.other_terms(variables, forward, driving, batch)
        shared = {"prediction": wide(forward.generated.prediction), "keypoints": forward.kp_driving}
        return LossOut(total(terms), terms, forward.mutated, jax.lax.stop_gradient(shared)), forward

    def discriminator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The discriminator's loss on the prediction and keypoints from before the generator's move."""
        pictures = (to_unit(batch["driving"]), shared["prediction"])
        real, fake = (self.judge(variables, x, shared["keypoints"]).score for x in pictures)
        loss = self.losses.discriminator_gan * lsgan_discriminator_loss([real], [fake])
        return LossOut(loss, {"disc_gan": loss})

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """Generator and detector by one backward pass, then the discriminator.

        Raises:
            UserError: an optimiser is missing.
        """
        tx = jointly(optim, MOVED_TOGETHER, "monkey_net")
        generator = Player("generator", MOVED_TOGETHER, Gradient(self.generator_loss, tx, accumulate))
        if not self.losses.adversarial:
            return (generator,)
        if "discriminator" not in optim:
            raise UserError("config.optim.discriminator is missing; the losses of monkey_net ask for a discriminator")
        tx = optim["discriminator"]
        return generator, Player("discriminator", ("discriminator",), Gradient(self.discriminator_loss, tx, accumulate))
