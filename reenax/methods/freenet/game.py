"""How the method is trained: the converter among landmarks alone, then the generator with the converter as it is.

Four players. "converter" moves first, against the discriminators as they are; "landmark_discriminators" moves both of
these by one backward pass on the same converted landmarks. In the second stage "discriminator" moves before
"generator".

Below, a is the person of the pictures "source" and "driving" and b that of "other"; see `data_pipelines.acted`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.rng import stream
from reenax.core.types import Batch, Every, LossOut, Player, Variables
from reenax.core.updates import Gradient, jointly
from reenax.losses.adversarial import binary_loss, least_squares_loss
from reenax.losses.reconstruction import pyramid_gradient_loss, region_l1_loss, ssim_loss
from reenax.losses.terms import EYES, MOUTH, total
from reenax.methods.freenet.generator import GeometryAwareGenerator
from reenax.methods.freenet.landmark_map import CROP, from_pixels, landmark_map, to_pixels
from reenax.methods.freenet.networks import (
    Converted,
    IdentityDiscriminator,
    LandmarkConverter,
    RealismDiscriminator,
)
from reenax.nn.patchgan import PatchGAN
from reenax.nn.vgg import MEAN, STD, vgg_features

TAPS = ("relu1_2", "relu2_2", "relu3_3")
UNTRAINED = 25.0  # mean error, in pixels of the crop, above which a converter in use has not learned yet


@dataclasses.dataclass(frozen=True)
class LossParams:
    """Weights of the losses; a weight of 0 leaves a term out of the generator's loss.

    Attributes:
        pixel, cycle, identity: of the converter's mean absolute errors, in the units that it computes in.
        fool_identity, fool_realism: of what its two discriminators think of its landmarks.
        identity_discriminator, realism_discriminator: of these discriminators' own losses.
        gan, l1: of the generator's adversarial loss, and of its mean absolute error in [-1, 1].
        triplet: of the triplet perceptual loss; with 0 no VGG-16 is needed.
        margin: of the triplet, in squared units of VGG's features.
        gradient, ssim, mouth, eyes: see `reenax.losses.terms.PictureWeights`, of single-scale pictures in [0, 1]. Not
            published: for small models. The last two need the usual 68 landmarks.
    """

    pixel: float = 100.0
    cycle: float = 10.0
    identity: float = 10.0
    fool_identity: float = 0.1
    fool_realism: float = 0.1
    identity_discriminator: float = 0.1
    realism_discriminator: float = 1.0
    gan: float = 0.1
    l1: float = 100.0
    triplet: float = 0.1
    margin: float = 0.3
    gradient: float = 0.0
    ssim: float = 0.0
    mouth: float = 0.0
    eyes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Stages:
    """Which players move when, in steps. The published training is two runs.

    Attributes:
        converter_stop: the first step on which the converter stays as it is; None for never, 0 for always.
        generator_start: the first step on which the generator moves; None for never: there is no generator then.
    """

    converter_stop: int | None = None
    generator_start: int | None = None


def triplet_distances(
    made: Mapping[str, Float[Array, "n h w c"]], count: int
) -> tuple[dict[str, Float[Array, ""]], dict[str, Float[Array, ""]]]:
    """By layer the mean squared distances of features to the other expression of the person, and to another person.

    Args:
        made: features of one batch of ``3 count`` pictures: the anchors, the same people with other expressions, other
            people with the anchors' expressions.
        count: how many anchors there are.
    """
    near, far = {}, {}
    for layer, features in made.items():
        anchor, same, other = (wide(features[i * count : (i + 1) * count]) for i in range(3))
        near[layer], far[layer] = jnp.mean((same - anchor) ** 2), jnp.mean((other - anchor) ** 2)
    return near, far


def triplet_loss(near: Float[Array, ""], far: Float[Array, ""], margin: float) -> Float[Array, ""]:
    """``near - far`` where that is above ``-margin``, else nothing.

    The paper has ``max(near - far + margin, 0)``, which is the margin more and has the same gradient.
    """
    away = near - far
    return jnp.where(away + margin > 0, away, 0.0)


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        converter, realism_discriminator, identity_discriminator: the networks of the first stage.
        generator, discriminator: those of the second.
        losses: weights.
        stages: which players move when.
        unit: pixels of the crop that the converter counts as 1.
        label: the field of landmarks in batches.
        canvas: side of the canvas on which landmarks are drawn.
        dtype: compute type of the perceptual network.
        remat: whether the perceptual network's activations are computed again in the backward pass.
    """

    converter: LandmarkConverter
    realism_discriminator: RealismDiscriminator
    identity_discriminator: IdentityDiscriminator
    generator: GeometryAwareGenerator
    discriminator: PatchGAN
    losses: LossParams
    stages: Stages
    unit: float
    label: str
    canvas: int
    dtype: Any
    remat: bool

    # --- landmarks

    def enter(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
        """From [-1, 1] of the frame to the units of the converter."""
        return to_pixels(landmarks) / self.unit

    def leave(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
        """Back again."""
        return from_pixels(landmarks * self.unit)

    def row(self, batch: Batch, role: str) -> Float[Array, "b p 2"]:
        """The landmarks called ``role`` of a batch, in the units of the converter."""
        return self.enter(batch[f"{self.label}_{role}"])

    def convert(
        self, variables: Variables, expressive: Float[Array, "b p 2"], neutral: Float[Array, "b p 2"]
    ) -> Converted:
        """The face of ``neutral`` with the expression of ``expressive``, in the units of the converter."""
        made: Any = self.converter.apply(variables["converter"], expressive, neutral)
        return made

    def draw(self, landmarks: Float[Array, "b p 2"], side: int) -> Float[Array, "b y x 3"]:
        """The map that the generator reads, of landmarks in the units of the converter.

        Args:
            landmarks: of the face to make.
            side: of the picture to make.
        """
        size = side // 2**self.generator.params.down_blocks
        return landmark_map(landmarks * self.unit, size, self.canvas)

    def pixel_error(self, found: Float[Array, "b p 2"], wanted: Float[Array, "b p 2"]) -> Float[Array, ""]:
        """Mean distance in pixels of the paper's crop."""
        return self.unit * jnp.mean(jnp.linalg.norm(found - wanted, axis=-1))

    # --- first stage

    def converter_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The converter's loss (section 3.2.2): a's expression on b, back again, and on a's own neutral face."""
        expressive, truth = self.row(batch, "driving"), self.row(batch, "truth")
        own, neutral = self.row(batch, "driving_neutral"), self.row(batch, "neutral")
        made = self.convert(variables, expressive, neutral).landmarks
        again = self.convert(variables, made, own).landmarks
        same = self.convert(variables, expressive, own).landmarks
        alike: Any = self.identity_discriminator.apply(
            variables["identity_discriminator"], made, self.row(batch, "random")
        )
        real: Any = self.realism_discriminator.apply(variables["realism_discriminator"], made)
        w = self.losses
        terms = {
            "fool_identity": w.fool_identity * least_squares_loss(alike, 1.0),
            "fool_realism": w.fool_realism * least_squares_loss(real, 1.0),
            "identity": w.identity * jnp.mean(jnp.abs(same - expressive)),
            "cycle": w.cycle * jnp.mean(jnp.abs(again - expressive)),
            "pixel": w.pixel * jnp.mean(jnp.abs(made - truth)),
        }
        measured = {"error": self.pixel_error(made, truth), "neutral_error": self.pixel_error(neutral, truth)}
        return LossOut(
            total(terms), terms | jax.lax.stop_gradient(measured), shared={"converted": jax.lax.stop_gradient(made)}
        )

    def landmark_discriminators_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Both discriminators' losses on the landmarks that the converter made before its move."""
        made, truth, random = shared["converted"], self.row(batch, "truth"), self.row(batch, "random")

        def halves(network: Any, name: str, true: tuple[Array, ...], false: tuple[Array, ...]) -> Float[Array, ""]:
            scores = [network.apply(variables[name], *landmarks) for landmarks in (true, false)]
            return (least_squares_loss(scores[0], 1.0) + least_squares_loss(scores[1], 0.0)) / 2

        w = self.losses
        terms = {
            "identity": w.identity_discriminator
            * halves(self.identity_discriminator, "identity_discriminator", (truth, random), (made, random)),
            "realism": w.realism_discriminator
            * halves(self.realism_discriminator, "realism_discriminator", (truth,), (made,)),
        }
        return LossOut(total(terms), terms)

    # --- second stage

    def generate(
        self,
        variables: Variables,
        picture: Float[Array, "b h w 3"],
        landmarks: Float[Array, "b y x 3"],
        rng: Key[Array, ""] | None = None,
    ) -> Float[Array, "b h w 3"]:
        """The person of the picture with the landmarks of a map; in training mode where there is a random key."""
        rngs = None if rng is None else {"dropout": stream(rng, "dropout")}
        made: Any = self.generator.apply(variables["generator"], picture, landmarks, train=rng is not None, rngs=rngs)
        return made

    def judge(
        self, variables: Variables, reference: Float[Array, "b h w 3"], picture: Float[Array, "b h w 3"]
    ) -> Float[Array, "b y x"]:
        """The patch discriminator's logits of a picture beside the one that it was made from."""
        both = jnp.concatenate([reference, picture], axis=-1)
        logits: Any = self.discriminator.apply(variables["discriminator"], both, train=True)
        return wide(logits)

    def discriminator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The patch discriminator's loss. The made picture drops features of its own, not those of the generator's."""
        source, driving = batch["source"], batch["driving"]
        landmarks = self.draw(self.row(batch, "driving"), source.shape[1])
        made = jax.lax.stop_gradient(self.generate(variables, source, landmarks, rng))
        return self.discriminator_loss_of(variables, source, driving, made)

    def discriminator_loss_of(
        self,
        variables: Variables,
        source: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        made: Float[Array, "b h w 3"],
    ) -> LossOut:
        """The same for a given picture of the person of ``source`` that should be ``driving``."""
        terms = {
            "fake": binary_loss(self.judge(variables, source, made), 0.0) / 2,
            "real": binary_loss(self.judge(variables, source, driving), 1.0) / 2,
        }
        return LossOut(total(terms), terms)

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The generator's loss (section 3.3): a from one picture to another, and a triplet with b."""
        side, driving = batch["source"].shape[1], self.row(batch, "driving")
        maps = [self.draw(driving, side)]
        own = self.convert(variables, driving, self.row(batch, "driving_neutral")).landmarks
        if self.losses.triplet:
            pairs = (("other", "source_neutral"), ("driving", "other_neutral"))
            made = [self.convert(variables, *(self.row(batch, role) for role in pair)).landmarks for pair in pairs]
            maps += [self.draw(landmarks, side) for landmarks in made]
        out, _ = self.generator_loss_of(variables, batch, maps, rng)
        error = jax.lax.stop_gradient(self.pixel_error(own, driving))
        return out._replace(metrics={**out.metrics, "converter_error": error})

    def generator_loss_of(
        self, variables: Variables, batch: Batch, maps: list[Float[Array, "b y x 3"]], rng: Key[Array, ""]
    ) -> tuple[LossOut, Float[Array, "n h w 3"]]:
        """The same for given maps, with the pictures that are made, one after the other.

        The maps are those of the driving frame and, where the triplet weighs, for a with b's expression and for b with
        that of the driving frame.
        """
        w, source, driving = self.losses, batch["source"], batch["driving"]
        people = [source, source, batch["other"]] if w.triplet else [source]
        count = source.shape[0]
        pictures = self.generate(variables, jnp.concatenate(people), jnp.concatenate(maps[: len(people)]), rng)
        made = pictures[:count]
        terms = {"l1": w.l1 * jnp.mean(jnp.abs(made - driving))}
        if w.gan:
            terms["gan"] = w.gan * binary_loss(self.judge(variables, source, made), 1.0)
        if w.triplet:
            terms["triplet"] = w.triplet * self._triplet(variables, pictures, count)
        terms |= self._small_terms(to_unit(made), to_unit(driving), batch)
        return LossOut(total(terms), terms), pictures

    def _triplet(self, variables: Variables, pictures: Float[Array, "n h w 3"], count: int) -> Float[Array, ""]:
        """Summed over layers of VGG-16, which sees pictures in [-1, 1] as they are."""
        features = vgg_features(variables["vgg16"], TAPS, "vgg16", self.dtype)
        features = jax.checkpoint(features) if self.remat else features
        mean, deviation = (jnp.asarray(x, pictures.dtype)[None, None, None] for x in (MEAN, STD))
        near, far = triplet_distances(features(pictures * deviation + mean), count)  # undoes what the trunk does first
        return total({layer: triplet_loss(near[layer], far[layer], self.losses.margin) for layer in TAPS})

    def _small_terms(
        self, made: Float[Array, "b h w 3"], wanted: Float[Array, "b h w 3"], batch: Batch
    ) -> dict[str, Float[Array, ""]]:
        """The weighted terms that are not published, of pictures in [0, 1]."""
        w, terms = self.losses, {}
        if w.gradient:
            terms["gradient"] = w.gradient * pyramid_gradient_loss(made, wanted, (1.0,))
        if w.ssim:
            terms["ssim"] = w.ssim * ssim_loss(made, wanted)
        for name, weight, regions in (("mouth", w.mouth, MOUTH), ("eyes", w.eyes, EYES)):
            if weight:
                points = batch[f"{self.label}_driving"]
                losses = [region_l1_loss(made, wanted, points[:, slice(*region)]) for region in regions]
                terms[name] = weight * jnp.mean(jnp.stack(losses))
        return terms

    # --- players

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """Those of the stages that there are, each network with its own optimiser.

        Raises:
            UserError: an optimiser is missing, or nobody would ever move.
        """
        made = []

        def add(name: str, owns: tuple[str, ...], loss: Any, when: Every) -> None:
            made.append(Player(name, owns, Gradient(loss, jointly(optim, owns, "freenet"), accumulate), when))

        stop, start = self.stages.converter_stop, self.stages.generator_start
        if stop != 0:
            when = Every() if stop is None else Every(stop=stop)
            both = ("realism_discriminator", "identity_discriminator")
            add("converter", ("converter",), self.converter_loss, when)
            add("landmark_discriminators", both, self.landmark_discriminators_loss, when)
        if start is not None:
            when = Every(start=start)
            if self.losses.gan:
                add("discriminator", ("discriminator",), self.discriminator_loss, when)
            add("generator", ("generator",), self.generator_loss, when)
        if not made:
            raise UserError("config.model.stages leaves nothing to train: raise converter_stop or set generator_start")
        return tuple(made)


def converter_remark(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Whether a converter that nobody trains has ever been trained, from the metrics of the second stage."""
    error = metrics.get("generator/converter_error", 0.0)
    if "converter/error" in metrics or error < UNTRAINED:
        return ()
    return (
        f"the landmark converter is off by {error:.0f} pixels of {CROP} where it should change nothing: it seems to be "
        f"untrained; start the second stage with --warm-start from a run of the first",
    )
