"""How First Order Motion is trained: a forward pass, its losses, and the players in the published code's order."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.rng import stream
from reenax.core.types import Batch, LossOut, Player, Variables
from reenax.geometry.tps import TPS, TransformParams, random_tps, transform_image, transform_jacobian, transform_points
from reenax.losses.equivariance import equivariance_jacobian_loss, equivariance_value_loss
from reenax.losses.patch_game import PatchGame, PatchWeights, shared_with_discriminator
from reenax.losses.terms import PictureWeights, landmark_terms, picture_terms, total
from reenax.methods.fomm.networks import Generated, Generator, KeypointDetector, Keypoints
from reenax.nn.patch_discriminator import PyramidDiscriminator

MOVED_TOGETHER = ("generator", "kp_detector")  # by one backward pass, each with its own optimiser


@dataclasses.dataclass(frozen=True)
class LossParams(PictureWeights, PatchWeights):
    """Weights of the losses; a weight of 0 leaves the term out.

    Attributes:
        equivariance_value, equivariance_jacobian: of the keypoints and of their frames.
        others: see the parents.
    """

    generator_gan: float = 0.0
    equivariance_value: float = 10.0
    equivariance_jacobian: float = 10.0


class Forward(NamedTuple):
    """One training forward pass.

    Attributes:
        kp_source, kp_driving: keypoints of both frames.
        transformed: the driving frame under the random warp.
        kp_transformed: its keypoints.
        generated: what the generator made.
        mutated: network -> moved running statistics.
    """

    kp_source: Keypoints
    kp_driving: Keypoints
    transformed: Float[Array, "b h w 3"]
    kp_transformed: Keypoints
    generated: Generated
    mutated: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        kp_detector, generator, discriminator: the networks.
        losses: weights.
        transform: the random warp.
        dtype: compute type of the perceptual network.
        remat: whether the perceptual network's activations are computed again in the backward pass.
    """

    kp_detector: KeypointDetector
    generator: Generator
    discriminator: PyramidDiscriminator
    losses: LossParams
    transform: TransformParams
    dtype: Any
    remat: bool

    @property
    def patches(self) -> PatchGame:
        """The discriminators' side."""
        return PatchGame(self.discriminator, self.losses)

    def forward(
        self,
        variables: Variables,
        source: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        tps: TPS,
    ) -> Forward:
        """Pictures in [0, 1] through detector and generator in training mode.

        The detector sees source, driving and transformed frame in this order, and its running statistics move thrice.
        """
        transformed = transform_image(tps, driving, align_corners=self.generator.align_corners)
        detector, found = variables["kp_detector"], []
        for picture in (source, driving, transformed):
            keypoints, moved = self.kp_detector.apply(detector, picture, train=True, mutable=["batch_stats"])
            detector = {**detector, **moved}
            found.append(keypoints)
        generated, moved = self.generator.apply(
            variables["generator"], source, found[0], found[1], train=True, mutable=["batch_stats"]
        )
        mutated = {"kp_detector": {"batch_stats": detector["batch_stats"]}, "generator": dict(moved)}
        return Forward(found[0], found[1], transformed, found[2], generated, mutated)  # pyright: ignore[reportArgumentType]

    def equivariance_terms(self, forward: Forward, tps: TPS) -> dict[str, Float[Array, ""]]:
        """The weighted terms that ask the detector to follow a known warp; nothing is detached in them."""
        w, terms = self.losses, {}
        driving, transformed = forward.kp_driving, forward.kp_transformed
        if w.equivariance_value:
            moved = transform_points(tps, transformed.value)
            terms["equivariance_value"] = w.equivariance_value * equivariance_value_loss(driving.value, moved)
        if w.equivariance_jacobian and driving.jacobian is not None and transformed.jacobian is not None:
            slope = transform_jacobian(tps, transformed.value)
            loss = equivariance_jacobian_loss(driving.jacobian, slope, transformed.jacobian)
            terms["equivariance_jacobian"] = w.equivariance_jacobian * loss
        return terms

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The loss of generator and keypoint detector; hands prediction and keypoints to the discriminator's move."""
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        tps = random_tps(stream(rng, "transform"), driving.shape[0], self.transform)
        return self.loss_under(variables, source, driving, tps, batch)[0]

    def loss_under(
        self,
        variables: Variables,
        source: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        tps: TPS,
        batch: Batch | None = None,
    ) -> tuple[LossOut, Forward]:
        """The same for pictures in [0, 1] and a given warp, with the forward pass itself; labels are in ``batch``."""
        forward = self.forward(variables, source, driving, tps)
        made, layout = forward.generated, {"dtype": self.dtype, "remat": self.remat}
        terms = picture_terms(self.losses, variables, made.prediction, made.deformed, driving, batch=batch, **layout)
        prediction, keypoints = wide(made.prediction), forward.kp_driving.value
        adversarial, moved = self.patches.generator_terms(variables, prediction, driving, keypoints)
        terms |= adversarial
        terms |= self.equivariance_terms(forward, tps)
        terms |= landmark_terms(self.losses, forward.kp_source.value, forward.kp_driving.value, batch)
        shared = shared_with_discriminator(prediction, keypoints)
        return LossOut(total(terms), terms, {**forward.mutated, **moved}, shared), forward

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """Generator and detector by one backward pass, then the discriminator.

        Raises:
            UserError: an optimiser is missing.
        """
        return self.patches.players(self.generator_loss, MOVED_TOGETHER, optim, accumulate, "fomm")
