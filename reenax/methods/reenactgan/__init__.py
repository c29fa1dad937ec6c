"""ReenactGAN: Learning to Reenact Faces via Boundary Transfer.

Wayne Wu, Yunxuan Zhang, Cheng Li, Chen Qian, Chen Change Loy. ECCV 2018, arXiv:1807.11079.

    @inproceedings{wu2018reenactgan,
      title={ReenactGAN: Learning to Reenact Faces via Boundary Transfer},
      author={Wu, Wayne and Zhang, Yunxuan and Li, Cheng and Qian, Chen and Loy, Chen Change},
      booktitle={Proceedings of the European Conference on Computer Vision},
      year={2018}
    }

Anybody drives one fixed person. An encoder draws the boundaries of the driver's face (contour, brows, nose, lids, lips)
as fifteen maps; a transformer, learned without pairs by a cycle game between that person and several others, turns them
into the person's own boundaries and keeps the pose; a decoder that has seen nobody else paints them. Appearance cannot
leak: nothing but boundaries passes.

What differs from the paper and its code:

- How the encoder was trained, and the order of its maps, is not public: here its maps are drawn from 68 landmarks
  (``boundaries``), and it learns as a first stage, as does the aligner, of which the published files hold weights
  alone.
  The components of the shape follow from running statistics of the landmarks (``shape``).
- While the other stages learn, encoder and aligner run in evaluation mode and stay as they are; the published code
  leaves them in training mode (``helper_batch_statistics``). In animation nothing is in training mode: the options
  ``batch_statistics`` and ``dropout`` bring back what the published test script does.
- Pictures are warped bilinearly; the published augmentation takes the nearest pixel (``affine.nearest``).
- The published transformers and their discriminators saw one sample on each of four GPUs: ``transformer.norm=sample``
  and ``discriminators.norm=sample`` normalise likewise.
- A transformer may begin as a copy of the maps that it is given (``transformer.residual``), for short trainings.
- All stages can be one run (``stages``).
- CelebV is published as folders of pictures. No command reads these: they first have to be made into videos, from which
  ``reenax prepare`` makes clips.

Training, stage by stage: FACES has landmarks; PEOPLE is clips with an identity, of the target and of others.

    reenax train --config configs/reenactgan.py:encoder256 --data FACES --run runs/bounds
    reenax train --config configs/reenactgan.py:transformer256 --data PEOPLE --run runs/maps --warm-start runs/bounds \\
        --config.data.people="('target','another','a third')"
    reenax train --config configs/reenactgan.py:decoder256 --data PEOPLE --run runs/target --warm-start runs/maps \\
        --config.data.people="('target',)" --config.frozen.vgg16=VGG16
    reenax animate --run runs/target --driving talk.mp4 --out out.mp4

The later stages cannot tell whether their encoder has ever learned: without ``--warm-start`` they learn from the maps
of a random one, and are worth nothing.

Read it in this order: ``boundaries``, ``encoder``, ``shape``, ``transformer``, ``decoder`` (the networks),
``augmentation``, ``encoder_game``, ``transformer_game``, ``decoder_game`` (the losses), ``game`` (the players),
``reenact`` (animation).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.core.errors import UserError
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.methods.reenactgan import reenact
from reenax.methods.reenactgan.augmentation import AffineParams
from reenax.methods.reenactgan.boundaries import COUNT, picture_of
from reenax.methods.reenactgan.decoder import Decoder, DecoderParams
from reenax.methods.reenactgan.decoder_game import DecoderGame
from reenax.methods.reenactgan.encoder import BoundaryEncoder, EncoderParams
from reenax.methods.reenactgan.encoder_game import EncoderGame, draw, frames_of, landmarks_of
from reenax.methods.reenactgan.game import Game, Stages
from reenax.methods.reenactgan.reenact import Chain
from reenax.methods.reenactgan.shape import Aligner, AlignerParams, initial_aligner
from reenax.methods.reenactgan.transformer import (
    BoundaryTransformer,
    TransformerParams,
    normal_kernels,
    normal_scales,
)
from reenax.methods.reenactgan.transformer_game import TransformerGame, stacked_init
from reenax.nn.patchgan import PatchGAN
from reenax.nn.vgg import frozen_vgg


@dataclasses.dataclass(frozen=True)
class LossParams:
    """Weights of the losses; that of maps and that of the transformers' adversarial terms is 1.

    Attributes:
        sigma: deviation of the drawn boundaries, in pixels of the maps.
        align: of the aligner's error, which is in pixels of the maps.
        cycle, shape: of the transformers' terms.
        adversarial, l1, perceptual: of the decoder's; without the perceptual one VGG-16 is not needed.
    """

    sigma: float = 1.0
    align: float = 0.01
    cycle: float = 50.0
    shape: float = 10.0
    adversarial: float = 1.0
    l1: float = 100.0
    perceptual: float = 10.0


@dataclasses.dataclass(frozen=True)
class DiscriminatorParams:
    """Sizes of the discriminators: features of the first layer, and how many layers halve what is seen.

    Attributes:
        features, layers: of the decoder's discriminator.
        map_features, map_layers: of the transformers' discriminators.
        norm: of all of them, "batch", "instance" or "sample", the last as of a transformer.
    """

    features: int = 64
    layers: int = 3
    map_features: int = 64
    map_layers: int = 3
    norm: Literal["batch", "instance", "sample"] = "batch"


@dataclasses.dataclass(frozen=True)
class ReenactGAN(Method):
    """The method with its hyper-parameters; the defaults are the published ones.

    Attributes:
        people: identities, the target's first, as in ``data.people``; the target is who is portrayed.
        size: side of the pictures in pixels.
        encoder, aligner, transformer, decoder, discriminators: sizes of the networks.
        losses: weights of the losses.
        affine: random warps of all training pictures.
        stages: which player moves when; see `Stages`.
        helper_batch_statistics: while other stages learn, encoder and aligner use the statistics of the batch and
            their running ones keep moving, as in the published code.
        unroll: the transformers' turns are compiled one after the other and not as loops: on CPUs, where the gradients
            of convolutions are slow inside loops, steps are several times as fast, and compiling takes longer.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    people: tuple[str, ...] = ()
    size: int = 256
    encoder: EncoderParams = dataclasses.field(default_factory=EncoderParams)
    aligner: AlignerParams = dataclasses.field(default_factory=AlignerParams)
    transformer: TransformerParams = dataclasses.field(default_factory=TransformerParams)
    decoder: DecoderParams = dataclasses.field(default_factory=DecoderParams)
    discriminators: DiscriminatorParams = dataclasses.field(default_factory=DiscriminatorParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    affine: AffineParams = dataclasses.field(default_factory=AffineParams)
    stages: Stages = dataclasses.field(default_factory=Stages)
    helper_batch_statistics: bool = False
    unroll: bool = False
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video"})
    options = reenact.OPTIONS

    @property
    def fields(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Landmarks are read where the encoder learns."""
        return frozenset({"frames", "landmarks"} if self.game.encodes else {"frames"})

    @property
    def portrays(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The target, where the config names people."""
        return self.people[0] if self.people else ""

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-16 where the decoder learns by a perceptual loss."""
        return {"vgg16": frozen_vgg("vgg16")} if self.game.decodes and self.losses.perceptual else {}

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses, stage by stage."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        w = self.losses
        layout: dict[str, Any] = {"dtype": dtype, "remat": self.remat}
        encoder, aligner = BoundaryEncoder(self.encoder, **layout), Aligner(self.aligner, dtype)
        transformer, decoder = BoundaryTransformer(self.transformer, **layout), Decoder(self.decoder, self.size, dtype)
        d = self.discriminators
        inits: dict[str, Any] = {"kernel_init": normal_kernels(), "scale_init": normal_scales()}
        judge = PatchGAN(d.features, d.layers, d.norm, dtype=dtype, **inits)
        map_judge = PatchGAN(d.map_features, d.map_layers, d.norm, dtype=dtype, **inits)
        helper = self.helper_batch_statistics
        return Game(
            EncoderGame(encoder, aligner, self.affine, w.sigma, w.align),
            TransformerGame(
                encoder, aligner, transformer, map_judge, self.affine, w.cycle, w.shape, helper, self.unroll
            ),
            DecoderGame(encoder, decoder, judge, self.affine, w.adversarial, w.l1, w.perceptual, helper, dtype),
            self.stages,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables of what a reenactor needs, and of what the stages of this training need beside it.

        ``batch`` has "frames" of several people, or "source", pictures of one each, in [-1, 1].
        """
        game, frames = self.game, frames_of(batch)
        side = self.encoder.map_size(self.size)
        picture, maps = jnp.zeros((1, self.size, self.size, 3)), jnp.zeros((1, side, side, COUNT))
        coding, maps_game, painting = game.encoding, game.transforming, game.decoding
        made: dict[str, Any] = {
            "encoder": coding.encoder.init(stream(rng, "encoder"), picture, train=False),
            "aligner": initial_aligner(coding.aligner, stream(rng, "aligner"), maps),
            "transformer": maps_game.transformer.init(stream(rng, "transformer"), maps, train=False),
            "decoder": painting.decoder.init(stream(rng, "decoder"), maps, train=False),
        }
        if game.transforms:
            others, judge = max(1, frames.shape[1] - 1), maps_game.discriminator
            for name, network in (("inverse_transformers", maps_game.transformer), ("other_discriminators", judge)):
                made[name] = stacked_init(network, stream(rng, name), others, maps)
            made["target_discriminator"] = judge.init(stream(rng, "target_discriminator"), maps, train=False)
        if game.decodes:
            seen = jnp.zeros((1, self.size, self.size, COUNT + 3))
            made["discriminator"] = painting.discriminator.init(stream(rng, "discriminator"), seen, train=False)
        return made

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """See `reenax.methods.reenactgan.game`.

        Raises:
            UserError: ``optim`` lacks a player, nobody would ever move, or a decoder would learn several people.
        """
        game = self.game
        if game.decodes and not (game.encodes or game.transforms) and len(self.people) != 1:
            raise UserError(
                f"config.data.people={self.people} names {len(self.people)} people, and a decoder learns to draw one: "
                "give --config.data.people=\"('NAME',)\" with the target's name alone"
            )
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """What the last of the stages makes that this training has: "prediction" beside "target".

        The decoder: the target painted from its own boundaries, and driven by the first other person where there is
        one. The transformers: the target's boundaries, turned into the first other person's and back. The encoder:
        boundaries that it draws beside those of the landmarks.
        """
        if not self.game.decodes:
            return (
                self._preview_turned(variables, batch)
                if self.game.transforms
                else self._preview_drawn(variables, batch)
            )
        frames, chain = frames_of(batch), self._chain()
        maps, _, face = chain._replace(transform=False).steps(variables, frames[:, 0])
        shown = {"boundaries": picture_of(maps, self.size), "prediction": face, "target": frames[:, 0]}
        if frames.shape[1] > 1:
            theirs, turned, driven = chain.steps(variables, frames[:, 1])
            pictures = {"their_boundaries": theirs, "turned_boundaries": turned}
            shown |= {"other": frames[:, 1]} | {n: picture_of(m, self.size) for n, m in pictures.items()}
            shown["driven"] = driven
        return shown

    def _preview_drawn(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        frames, coding = frames_of(batch)[:, 0], self.game.encoding
        drawn: Any = coding.encoder.apply(variables["encoder"], frames, train=False)
        wanted = coding.rendered(landmarks_of(batch)[:, 0], self.size)
        return {
            "picture": frames,
            "prediction": picture_of(drawn[-1], self.size, stretched=False),
            "target": picture_of(wanted, self.size, stretched=False),
        }

    def _preview_turned(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        frames, game = frames_of(batch)[:, :2], self.game.transforming
        maps, _ = draw(game.encoder, variables, frames, train=False)
        own, theirs = maps[:, 0], maps[:, 1]
        inverse = jax.tree.map(lambda x: x[0], variables["inverse_transformers"])

        def turn(network: Any, seen: Array) -> Any:
            return game.transformer.apply(network, seen, train=False)

        back, turned = (turn(variables["transformer"], m) for m in (turn(inverse, own), theirs))
        return {
            "picture": frames[:, 0],
            "prediction": picture_of(back, self.size, stretched=False),
            "target": picture_of(own, self.size, stretched=False),
            "other": frames[:, 1],
            "their_boundaries": picture_of(theirs, self.size),
            "turned_boundaries": picture_of(turned, self.size),
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """The target, whatever the source; see `reenax.methods.reenactgan.reenact`."""
        return reenact.reenactor(self._chain(**options), variables)

    def _chain(self, **options: Any) -> Chain:
        game = self.game
        return Chain(game.encoding.encoder, game.transforming.transformer, game.decoding.decoder, **options)


METHOD = ReenactGAN
