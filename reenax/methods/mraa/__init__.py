"""Motion Representations for Articulated Animation.

Aliaksandr Siarohin, Oliver J. Woodford, Jian Ren, Menglei Chai, Sergey Tulyakov. CVPR 2021, arXiv:2104.11280.

    @inproceedings{siarohin2021motion,
      title={Motion Representations for Articulated Animation},
      author={Siarohin, Aliaksandr and Woodford, Oliver J. and Ren, Jian and Chai, Menglei and Tulyakov, Sergey},
      booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year={2021}
    }

First Order Motion with three changes. The affine frame of each moving part is measured instead of regressed: a part is
a region of the picture, and the principal axes of its heatmap are its frame. A separate network finds one motion of the
background for a pair of frames, so that the regions need not follow the camera. And a small network, trained afterwards
on regions alone, puts the shape of one person into the pose of another (animation via disentanglement, AVD).

What differs from the paper and its code:

- The principal axes have a closed form with the signs that the published code gets from LAPACK; its gradient is bounded
  where a region is isotropic or has collapsed (see ``principal_axes``).
- While the AVD network learns, the region predictor runs in evaluation mode and stays as it is; the published code
  leaves it in training mode (``avd_batch_statistics``).
- Both stages can be one run (``stages``).
- Relative motion is the default of animation, as of the other methods here; the paper's is mode "avd".

Training, both stages (VGG19 is what ``reenax import vgg19`` makes):

    reenax train --config configs/mraa.py:vox256 --data DATA --run runs/mraa --config.frozen.vgg19=VGG19
    reenax train --config configs/mraa.py:vox256_avd --data DATA --run runs/mraa_avd --warm-start runs/mraa
    reenax animate --run runs/mraa_avd --source me.jpg --driving talk.mp4 --out out.mp4 --option mode=avd

Read it in this order: ``principal_axes``, ``networks`` (what reads motion), ``generator`` (what paints), ``game``
(losses and players), ``reenact`` (animation).
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
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.geometry.heatmaps import mark_points
from reenax.geometry.tps import TransformParams
from reenax.methods.mraa import reenact
from reenax.methods.mraa.game import Game, LossParams, Stages
from reenax.methods.mraa.generator import Generator, GeneratorParams
from reenax.methods.mraa.networks import (
    AVDNetwork,
    AVDParams,
    BackgroundParams,
    BackgroundPredictor,
    RegionParams,
    RegionPredictor,
)
from reenax.nn.vgg import frozen_vgg


@dataclasses.dataclass(frozen=True)
class MotionRepresentations(Method):
    """The method with its hyper-parameters; the defaults are those of the paper's face model (vox256).

    Attributes:
        num_regions: number of regions.
        revert_axis_swap: motions and AVD inputs are free of the common sign of a region's axes.
        region_predictor, bg_predictor, generator, avd_network: sizes of the networks.
        losses: weights of the losses.
        transform: the random warp of the equivariance losses.
        stages: which player moves when; by default the reconstruction alone.
        avd_scale: largest relative change of size of the poses that the AVD network learns from.
        avd_batch_statistics: while the AVD network learns, the region predictor uses the statistics of the batch and
            its running ones keep moving, as in the published code.
        align_corners: the convention of all warps; False is that of the published checkpoints.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    num_regions: int = 10
    revert_axis_swap: bool = True
    region_predictor: RegionParams = dataclasses.field(default_factory=RegionParams)
    bg_predictor: BackgroundParams = dataclasses.field(default_factory=BackgroundParams)
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    avd_network: AVDParams = dataclasses.field(default_factory=AVDParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    transform: TransformParams = dataclasses.field(default_factory=TransformParams)
    stages: Stages = dataclasses.field(default_factory=Stages)
    avd_scale: float = 0.25
    avd_batch_statistics: bool = False
    align_corners: bool = False
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video"})
    fields = frozenset({"frames"})
    options = reenact.OPTIONS

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-19 where the perceptual loss has a weight and is ever computed."""
        needed = any(self.losses.perceptual) and self.stages.reconstruction_stop != 0
        return {"vgg19": frozen_vgg()} if needed else {}

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        layout = {"dtype": dtype, "remat": self.remat}
        moves = self.bg_predictor.bg_type != "zero"
        return Game(
            RegionPredictor(self.num_regions, self.region_predictor, **layout),
            BackgroundPredictor(self.bg_predictor, **layout) if moves else None,
            Generator(self.generator, self.align_corners, revert_axis_swap=self.revert_axis_swap, **layout),
            AVDNetwork(self.num_regions, self.avd_network, self.revert_axis_swap),
            self.losses,
            self.transform,
            self.stages,
            self.avd_scale,
            self.avd_batch_statistics,
            **layout,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` and ``driving`` pictures in [-1, 1]."""
        source, game = to_unit(batch["source"]), self.game
        predictor = game.region_predictor.init(stream(rng, "region_predictor"), source, train=False)
        regions: Any = game.region_predictor.apply(predictor, source, train=False)
        generator = game.generator.init(stream(rng, "generator"), source, regions, regions, None, train=False)
        made = {
            "generator": generator,
            "region_predictor": predictor,
            "avd_network": game.avd_network.init(stream(rng, "avd_network"), regions, regions, train=False),
        }
        if game.bg_predictor is not None:
            made["bg_predictor"] = game.bg_predictor.init(stream(rng, "bg_predictor"), source, source, train=False)
        return {n: {k: c for k, c in v.items() if k != "intermediates"} for n, v in made.items()}

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "reconstruction" and "avd", each with its own optimiser; one that never moves is left out.

        Raises:
            UserError: ``optim`` lacks a player, or nobody would ever move.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Both frames with their regions, the warped source, the occlusion map, the prediction and its target."""
        source, driving, game = to_unit(batch["source"]), to_unit(batch["driving"]), self.game
        find = functools.partial(game.region_predictor.apply, variables["region_predictor"], train=False)
        theirs: Any = find(source)
        ours: Any = find(driving)
        background = game.background(variables, source, driving)
        made: Any = game.generator.apply(variables["generator"], source, theirs, ours, background, train=False)
        occlusion = jax.image.resize(made.motion.occlusion, (*source.shape[:3], 1), "nearest")
        return {
            "source": from_unit(mark_points(source, theirs.shift)),
            "driving": from_unit(mark_points(driving, ours.shift)),
            "warped": from_unit(made.deformed),
            "occlusion": from_unit(jnp.broadcast_to(occlusion, source.shape)),
            "prediction": from_unit(made.prediction),
            "target": batch["driving"],
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.mraa.reenact`."""
        return reenact.reenactor(self.game, variables, source, anchor=anchor, **options)


METHOD = MotionRepresentations
