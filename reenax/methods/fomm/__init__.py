"""First Order Motion Model for Image Animation.

Aliaksandr Siarohin, Stéphane Lathuilière, Sergey Tulyakov, Elisa Ricci, Nicu Sebe. NeurIPS 2019, arXiv:2003.00196.

    @inproceedings{siarohin2019first,
      title={First Order Motion Model for Image Animation},
      author={Siarohin, Aliaksandr and Lathuili{\\`e}re, St{\\'e}phane and Tulyakov, Sergey and Ricci, Elisa
              and Sebe, Nicu},
      booktitle={Advances in Neural Information Processing Systems},
      year={2019}
    }

A picture follows a driving video of the same kind of thing. A detector finds keypoints and the affine frames around
them without labels; those of source and driving frame define local motions, which one network blends into a flow and an
occlusion map; the generator warps the source's features by it and paints what was hidden.

Read it in this order: ``networks`` (the modules), ``game`` (losses and players), ``reenact`` (animation).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.core.pictures import from_unit, to_unit
from reenax.core.reenact import TRANSFER_OPTIONS
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.geometry.heatmaps import mark_points
from reenax.geometry.tps import TransformParams
from reenax.losses.perceptual import image_pyramid
from reenax.methods.fomm import reenact
from reenax.methods.fomm.game import Game, LossParams
from reenax.methods.fomm.networks import (
    DetectorParams,
    Generator,
    GeneratorParams,
    KeypointDetector,
)
from reenax.nn.patch_discriminator import PyramidDiscriminator, PyramidParams
from reenax.nn.vgg import frozen_vgg


@dataclasses.dataclass(frozen=True)
class FirstOrderMotion(Method):
    """The method with its hyper-parameters; the defaults are those of the paper's face model (vox-256).

    Attributes:
        num_kp: number of keypoints.
        estimate_jacobian: whether keypoints have affine frames; without them motion is pure translation.
        kp_detector, generator, discriminator: sizes of the networks.
        losses: weights of the losses.
        transform: the random warp of the equivariance losses.
        align_corners: the convention of all warps. True is that of the published checkpoints, False what later
            versions of PyTorch do by default.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    num_kp: int = 10
    estimate_jacobian: bool = True
    kp_detector: DetectorParams = dataclasses.field(default_factory=DetectorParams)
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    discriminator: PyramidParams = dataclasses.field(default_factory=PyramidParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    transform: TransformParams = dataclasses.field(default_factory=TransformParams)
    align_corners: bool = True
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video"})
    fields = frozenset({"frames"})
    options = TRANSFER_OPTIONS

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-19 where the perceptual loss has a weight."""
        return {"vgg19": frozen_vgg()} if any(self.losses.perceptual) else {}

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        layout = {"dtype": dtype, "remat": self.remat}
        return Game(
            KeypointDetector(self.num_kp, self.kp_detector, self.estimate_jacobian, **layout),
            Generator(self.generator, self.align_corners, **layout),
            PyramidDiscriminator(self.discriminator, dtype),
            self.losses,
            self.transform,
            **layout,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` and ``driving`` pictures in [-1, 1]."""
        source = to_unit(batch["source"])
        kp_detector = self.game.kp_detector.init(stream(rng, "kp_detector"), source, train=False)
        keypoints: Any = self.game.kp_detector.apply(kp_detector, source, train=False)
        generator = self.game.generator.init(stream(rng, "generator"), source, keypoints, keypoints, train=False)
        made = {"generator": generator, "kp_detector": kp_detector}
        if self.discriminator.scales:
            pyramid = image_pyramid(source, self.discriminator.scales)
            key = stream(rng, "discriminator")
            made["discriminator"] = self.game.discriminator.init(key, pyramid, keypoints.value, train=False)
        return {n: {k: c for k, c in v.items() if k != "intermediates"} for n, v in made.items()}

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "generator" (generator and keypoint detector, each with its own optimiser), then "discriminator".

        Raises:
            UserError: ``optim`` lacks a network.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Both frames with their keypoints, the warped source, the occlusion map, the prediction and its target."""
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        detect = functools.partial(self.game.kp_detector.apply, variables["kp_detector"], train=False)
        kp_source: Any = detect(source)
        kp_driving: Any = detect(driving)
        made: Any = self.game.generator.apply(variables["generator"], source, kp_source, kp_driving, train=False)
        occlusion = jax.image.resize(made.motion.occlusion, (*source.shape[:3], 1), "nearest")
        return {
            "source": from_unit(mark_points(source, kp_source.value)),
            "driving": from_unit(mark_points(driving, kp_driving.value)),
            "warped": from_unit(made.deformed),
            "occlusion": from_unit(jnp.broadcast_to(occlusion, source.shape)),
            "prediction": from_unit(made.prediction),
            "target": batch["driving"],
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.fomm.reenact`."""
        return reenact.reenactor(self.game, variables, source, anchor=anchor, **options)


METHOD = FirstOrderMotion
