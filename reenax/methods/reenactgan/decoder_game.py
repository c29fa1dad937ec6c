"""The third stage: pix2pix between the target's boundary maps and pictures."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt

from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.rng import stream
from reenax.core.types import Batch, LossOut, Variables
from reenax.geometry.sampling import resize_bilinear
from reenax.losses.adversarial import binary_loss
from reenax.methods.reenactgan.augmentation import AffineParams, random_affine, warp_pictures
from reenax.methods.reenactgan.decoder import Decoder
from reenax.methods.reenactgan.encoder import BoundaryEncoder
from reenax.methods.reenactgan.encoder_game import draw, frames_of
from reenax.nn.patchgan import PatchGAN
from reenax.nn.vgg import vgg_features

TAPS = ("relu2_2", "relu3_3")  # of VGG-16, whose features are compared


@dataclasses.dataclass(frozen=True)
class DecoderGame:
    """Decoder and discriminator with their losses.

    Attributes:
        encoder: a network that the game reads.
        decoder, discriminator: the networks that play.
        affine: random warps of the pictures.
        adversarial, l1, perceptual: weights of the decoder's terms.
        helper_batch_statistics: the encoder runs in training mode, and its running statistics move.
        dtype: compute type of the perceptual network.
    """

    encoder: BoundaryEncoder
    decoder: Decoder
    discriminator: PatchGAN
    affine: AffineParams
    adversarial: float
    l1: float
    perceptual: float
    helper_batch_statistics: bool
    dtype: Any

    def discriminator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Half the cross entropies of real and made pictures; hands pictures, maps and seed to the decoder's move."""
        faces = frames_of(batch)[:, 0]
        affine = random_affine(stream(rng, "affine"), faces.shape[0], faces.shape[1], self.affine)
        faces = warp_pictures(faces, affine, nearest=self.affine.nearest)
        maps, drawn = draw(self.encoder, variables, faces[:, None], train=self.helper_batch_statistics)
        # one row per picture, so that it is cut with the batch; the first one counts
        seed = jnp.broadcast_to(jax.random.bits(stream(rng, "dropout")), faces.shape[:1])
        made, _ = self.decode(variables, maps[:, 0], seed)
        terms = self.judged(variables, maps[:, 0], faces, lax.stop_gradient(made))
        handed = {"faces": faces, "maps": maps[:, 0], "seed": seed}
        return LossOut(terms["real"] + terms["fake"], terms, drawn, handed)

    def judged(
        self,
        variables: Variables,
        maps: Float[Array, "b m m 15"],
        faces: Float[Array, "b h w 3"],
        made: Float[Array, "b h w 3"],
    ) -> dict[str, Float[Array, ""]]:
        """The discriminator's terms."""
        condition = self.condition(maps, faces.shape[1])
        fake, real = (self._judge(variables["discriminator"], condition, picture) for picture in (made, faces))
        return {"fake": 0.5 * binary_loss(fake, 0.0), "real": 0.5 * binary_loss(real, 1.0)}

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The decoder's loss for the pictures and the dropped units that the discriminator has seen."""
        made, mutated = self.decode(variables, shared["maps"], shared["seed"])
        terms = self.painted(variables, shared["maps"], shared["faces"], made)
        return LossOut(sum(terms.values(), jnp.zeros(())), terms, mutated)

    def painted(
        self,
        variables: Variables,
        maps: Float[Array, "b m m 15"],
        faces: Float[Array, "b h w 3"],
        made: Float[Array, "b h w 3"],
    ) -> dict[str, Float[Array, ""]]:
        """The weighted terms of a made picture."""
        score = self._judge(variables["discriminator"], self.condition(maps, faces.shape[1]), made)
        terms = {
            "adversarial": self.adversarial * binary_loss(score, 1.0),
            "l1": self.l1 * jnp.mean(jnp.abs(made - faces)),
        }
        if self.perceptual:
            features = vgg_features(variables["vgg16"], TAPS, "vgg16", self.dtype)
            seen, wanted = features(to_unit(made)), features(to_unit(lax.stop_gradient(faces)))
            errors = (jnp.mean((seen[tap] - wanted[tap]).astype(made.dtype) ** 2) for tap in TAPS)
            terms["perceptual"] = self.perceptual * sum(errors, jnp.zeros((), made.dtype))
        return terms

    def condition(self, maps: Float[Array, "b m m 15"], size: int) -> Float[Array, "b {size} {size} 15"]:
        """What the discriminator sees of the maps: clipped at 0, as the decoder's first ReLU leaves them, enlarged."""
        return resize_bilinear(jnp.maximum(maps, 0), (size, size))

    def decode(
        self, variables: Variables, maps: Float[Array, "b m m 15"], seed: UInt[Array, " b"] | None
    ) -> tuple[Float[Array, "b h w 3"], dict[str, Any]]:
        """A picture in training mode, and the decoder's moved statistics; without a seed no unit is dropped."""
        streams = {} if seed is None else {"dropout": jax.random.key(seed[0])}
        made, moved = self.decoder.apply(
            variables["decoder"], maps, train=True, dropout=seed is not None, rngs=streams, mutable=["batch_stats"]
        )
        return jnp.asarray(made), {"decoder": {"batch_stats": moved["batch_stats"]}}

    def _judge(self, network: Any, condition: Array, picture: Array) -> Array:
        """Scores of a picture. Nothing ever reads the discriminator's running statistics: they stay as they are."""
        seen = jnp.concatenate([condition, picture], axis=-1)
        score, _ = self.discriminator.apply(network, seen, train=True, mutable=["batch_stats"])
        return wide(jnp.asarray(score))
