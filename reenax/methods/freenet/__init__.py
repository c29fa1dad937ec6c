"""FReeNet: Multi-Identity Face Reenactment.

Jiangning Zhang, Xianfang Zeng, Mengmeng Wang, Yusu Pan, Liang Liu, Yong Liu, Yu Ding, Changjie Fan. CVPR 2020,
arXiv:1905.11805.

    @inproceedings{zhang2020freenet,
      title={FReeNet: Multi-Identity Face Reenactment},
      author={Zhang, Jiangning and Zeng, Xianfang and Wang, Mengmeng and Pan, Yusu and Liu, Liang and Liu, Yong and
              Ding, Yu and Fan, Changjie},
      booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year={2020}
    }

Any person drives any other with one model. A converter of landmarks (ULC) takes one person's landmarks with any
expression and another's neutral ones, and finds the second person's landmarks with that expression; it learns from
people who act the same expressions. A generator (GAG) draws a person from one picture and a drawing of landmarks.
Between them no pixel of the driver is seen.

What differs from the paper and its code:

- The converter runs inside the training step of the generator, and not in the loader.
- The discriminator of the second stage judges pictures with dropout of their own; without dropout they are those of the
  generator's step.
- Neutral landmarks can be those of the source's own picture, and motion can be relative to the driver's beginning,
  which is the default as of the other methods here; the paper's is mode "absolute". See ``reenact`` for which to take.
- Landmarks can be the usual 68 instead of the 106 of a commercial service (``points``), divided by any number of pixels
  (``unit``) and taken less a mean face (``centred``); they need not come from a crop around the face (``crop``, an
  option of reenactment).
- Models of 106 landmarks are not driven from files, in which only the 68 are found: they are evaluated on data that has
  them (``reenax evaluate``).
- The person b whom a drives is always somebody else; the published pairs are drawn from all, and can be one person.
- The generator can do without VGG-16 (weight ``triplet`` of 0) and without biases that a norm takes out again, and can
  paint changes of the source's picture (``residual``).

The converter leaves the pose of a head as it is: people who turn their heads drive expressions, not poses.

Training, both stages, and driving with 68 landmarks (VGG16 is what ``reenax import vgg16`` makes):

    reenax train --config configs/freenet.py:rafd256_ulc --data DATA --run runs/ulc \
        --config.model.points=68 --config.data.labels=landmarks
    reenax train --config configs/freenet.py:rafd256 --data DATA --run runs/rafd --warm-start runs/ulc \
        --config.frozen.vgg16=VGG16 --config.model.points=68 --config.data.labels=landmarks
    reenax animate --run runs/rafd --source me.jpg --driving talk.mp4 --out out.mp4 --option mode=absolute

Without the last two keys they have the published 106 landmarks, and ``reenax evaluate`` measures them.

Read it in this order: ``networks`` (what reads landmarks), ``landmark_map`` (units, and the drawing), ``generator``
(what paints), ``game`` (losses and players), ``reenact``.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.core.errors import UserError
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.methods.freenet import reenact
from reenax.methods.freenet.game import Game, LossParams, Stages, converter_remark
from reenax.methods.freenet.generator import (
    DiscriminatorParams,
    GeneratorParams,
    GeometryAwareGenerator,
    patch_discriminator,
)
from reenax.methods.freenet.landmark_map import CROP, enlarged
from reenax.methods.freenet.networks import (
    ConverterParams,
    IdentityDiscriminator,
    LandmarkConverter,
    RealismDiscriminator,
)
from reenax.nn.vgg import frozen_vgg

LABELS = {68: "landmarks", 106: "landmarks_106"}
"""Number of landmarks to the field of records that has them."""


@dataclasses.dataclass(frozen=True)
class FReeNet(Method):
    """The method with its hyper-parameters; the defaults are those of the published code for RaFD.

    Attributes:
        points: number of landmarks, 106 or 68.
        unit: pixels of the crop of 512 that the converter counts as 1: 1 as published, 512 for parts of the crop.
        canvas: side of the canvas on which landmarks are drawn as blobs of a fixed size, before it is reduced.
        converter: sizes of the converter and its discriminators.
        generator, discriminator: sizes of those.
        losses: weights of the losses.
        stages: which players move when; by default the converter alone.
        dtype: "float32" or "bfloat16", what generator and discriminator compute in; the converter, params and losses
            stay float32.
        remat: compute activations again in the backward pass, to save memory.

    Raises:
        UserError: a number of landmarks of which no field is known.
    """

    points: int = 106
    unit: float = 1.0
    canvas: int = CROP
    converter: ConverterParams = dataclasses.field(default_factory=ConverterParams)
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    discriminator: DiscriminatorParams = dataclasses.field(default_factory=DiscriminatorParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    stages: Stages = dataclasses.field(default_factory=Stages)
    dtype: str = "float32"
    remat: bool = False

    max_sources = 2
    options = reenact.OPTIONS

    def __post_init__(self) -> None:
        if self.points not in LABELS:
            raise UserError(f"config.model.points={self.points}: there are {' and '.join(map(str, LABELS))}")
        if self.points != 68 and (self.losses.mouth or self.losses.eyes):
            raise UserError("config.model.losses.mouth and eyes need config.model.points=68")

    @property
    def drives(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Video, but nothing where there is a converter alone: it makes no pictures."""
        return frozenset() if self.stages.generator_start is None else frozenset({"video"})

    @property
    def fields(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Frames with landmarks of people who act the same things."""
        return frozenset({"frames", "acted", LABELS[self.points]})

    @property
    def reads(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The landmarks that its networks read."""
        return frozenset({LABELS[self.points]})

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-16 where the triplet loss has a weight and is ever computed."""
        needed = self.losses.triplet and self.stages.generator_start is not None
        return {"vgg16": frozen_vgg("vgg16")} if needed else {}

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        return Game(
            LandmarkConverter(self.converter),
            RealismDiscriminator(self.converter),
            IdentityDiscriminator(self.converter),
            GeometryAwareGenerator(self.generator, dtype, self.remat),
            patch_discriminator(self.discriminator, dtype),
            self.losses,
            self.stages,
            self.unit,
            LABELS[self.points],
            self.canvas,
            dtype,
            self.remat,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables of the networks of the stages that there are.

        Nothing of ``batch`` matters but, where the converter is centred, the mean of its neutral landmarks.
        """
        game, points = self.game, jnp.zeros((1, self.points, 2))
        if self.converter.centred and f"{game.label}_neutral" in batch:
            points = game.row(batch, "neutral")
        made: dict[str, Any] = {"converter": game.converter.init(stream(rng, "converter"), points, points)}
        if self.stages.converter_stop != 0:
            made["realism_discriminator"] = game.realism_discriminator.init(
                stream(rng, "realism_discriminator"), points
            )
            made["identity_discriminator"] = game.identity_discriminator.init(
                stream(rng, "identity_discriminator"), points, points
            )
        if self.stages.generator_start is None:
            return made
        side = 64
        small = side // 2**self.generator.down_blocks
        picture, drawn = jnp.zeros((1, side, side, 3)), jnp.zeros((1, small, small, 3))
        made["generator"] = game.generator.init(stream(rng, "generator"), picture, drawn, train=False)
        if self.losses.gan:
            both = jnp.zeros((1, side, side, 6))
            made["discriminator"] = game.discriminator.init(stream(rng, "discriminator"), both, train=True)
        return made

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "converter" and "landmark_discriminators", then "discriminator" and "generator"; those of a stage that is
        never played are left out.

        Raises:
            UserError: ``optim`` lacks a network, or nobody would ever move.
        """
        return self.game.players(optim, accumulate)

    def remarks(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """Of a second stage whose converter seems to be untrained."""
        return converter_remark(metrics)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """The source with the driving frame's landmarks, which is what the generator learns; and b as a drives it.

        The driving frame's own landmarks are drawn for "prediction"; "converted" are its landmarks on the neutral ones
        of b, of whom "other" is any picture and "reenacted" is made. Without a generator the prediction is the drawing
        of the converted landmarks, and the target that of the true ones.
        """
        game, side = self.game, batch["source"].shape[1]
        shown = {name: batch[name] for name in ("source", "driving", "other")}
        driving = game.row(batch, "driving")
        if self.stages.generator_start is None:
            neutral, true = game.row(batch, "neutral"), game.row(batch, "truth")
            made = game.convert(variables, driving, neutral).landmarks
            drawn = {"neutral": neutral, "prediction": made, "target": true}
            return shown | {name: enlarged(game.draw(landmarks, side), side) for name, landmarks in drawn.items()}
        own = game.draw(driving, side)
        converted = game.draw(game.convert(variables, driving, game.row(batch, "other_neutral")).landmarks, side)
        return {
            **shown,
            "landmarks": enlarged(own, side),
            "prediction": game.generate(variables, batch["source"], own),
            "target": batch["driving"],
            "converted": enlarged(converted, side),
            "reenacted": game.generate(variables, batch["other"], converted),
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.freenet.reenact`."""
        return reenact.reenactor(self.game, variables, source, points=self.points, anchor=anchor, **options)


METHOD = FReeNet
