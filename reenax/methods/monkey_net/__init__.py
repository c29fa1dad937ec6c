"""Monkey-Net: Animating Arbitrary Objects via Deep Motion Transfer.

Aliaksandr Siarohin, Stéphane Lathuilière, Sergey Tulyakov, Elisa Ricci, Nicu Sebe. CVPR 2019, arXiv:1812.08861.

    @inproceedings{siarohin2019animating,
      title={Animating Arbitrary Objects via Deep Motion Transfer},
      author={Siarohin, Aliaksandr and Lathuili{\\`e}re, St{\\'e}phane and Tulyakov, Sergey and Ricci, Elisa
              and Sebe, Nicu},
      booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year={2019}
    }

A picture follows a driving video of the same kind of thing. A detector finds keypoints, each with an ellipse, without
labels. How they move from source to driving frame is shown to one network as maps, which blends the displacements into
a flow; a generator warps every level of the source's encoder by the flow and decodes it, while a discriminator that
also sees the keypoints compares the result with the true frame. A recurrent network can go on with the keypoints of a
single picture, which makes a video of it.

Where this differs from the paper it follows the published code: heatmaps are divided by a constant and not by their
sum, covariances are bounded from below, every block of the discriminator's features has a weight of its own, and the
keypoints of both frames are found in one batch. Own choices: the smaller eigenvalue of a covariance is computed without
cancellation; ``predict_variance`` does what its name says; the predictor is trained on windows of frames that go
through the detector in every step, instead of on keypoints that were stored before, and its learning rate follows a
cosine instead of a plateau.

    reenax train --config configs/monkey_net.py:vox256 --data DATA --run runs/monkey
    reenax animate --run runs/monkey --source me.jpg --driving talk.mp4 --out me_talking.mp4

    reenax train --config configs/monkey_net.py:nemo64_prediction --data DATA64 --run runs/goes_on \\
        --warm-start runs/nemo64
    reenax animate --run runs/goes_on --source me.jpg --frames 32 --out me_going_on.mp4

Read it in this order: ``embedding`` (keypoints and their maps), ``networks``, ``game`` (losses and players),
``transfer`` (animation), ``prediction`` (a video from one picture).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, FrozenNetwork, Method, Player, Reenactor, Source, Variables
from reenax.geometry.heatmaps import mark_points
from reenax.methods.monkey_net import transfer
from reenax.methods.monkey_net.embedding import Keypoints
from reenax.methods.monkey_net.game import Game, LossParams
from reenax.methods.monkey_net.networks import (
    DetectorParams,
    Discriminator,
    DiscriminatorParams,
    Generator,
    GeneratorParams,
    KeypointDetector,
)
from reenax.methods.monkey_net.prediction import Forecast, KeypointPredictor, PredictorParams, go_on, imagine
from reenax.nn.vgg import frozen_vgg

STAGES = ("animation", "prediction")


@dataclasses.dataclass(frozen=True)
class MonkeyNet(Method):
    """The method with its hyper-parameters; the defaults are those of the published face model (vox).

    Attributes:
        num_kp: number of keypoints.
        kp_detector, generator, discriminator: sizes of the networks.
        losses: weights of the losses.
        predictor: the network that goes on with keypoints.
        stage: "animation" trains detector, generator and discriminator on pairs of frames; "prediction" trains the
            predictor alone, on windows of frames, and should be started with ``--warm-start`` from the first.
        align_corners: the convention of all warps. True is that of the published checkpoints, False what later
            versions of PyTorch do by default.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    num_kp: int = 10
    kp_detector: DetectorParams = dataclasses.field(default_factory=DetectorParams)
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    discriminator: DiscriminatorParams = dataclasses.field(default_factory=DiscriminatorParams)
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    predictor: PredictorParams = dataclasses.field(default_factory=PredictorParams)
    stage: str = "animation"
    align_corners: bool = True
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video"})
    fields = frozenset({"frames"})
    options = transfer.OPTIONS

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UserError(f"config.model.stage={self.stage!r} is unknown; use {' or '.join(STAGES)}")

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-19 where a perceptual loss has a weight, which no published config has."""
        return {"vgg19": frozen_vgg()} if self.stage == "animation" and any(self.losses.perceptual) else {}

    @functools.cached_property
    def game(self) -> Game:
        """The networks of the animation with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        layout = {"dtype": dtype, "remat": self.remat}
        return Game(
            KeypointDetector(self.num_kp, self.kp_detector, **layout),
            Generator(self.generator, self.align_corners, **layout),
            Discriminator(self.discriminator, dtype),
            self.losses,
            **layout,
        )

    @functools.cached_property
    def forecast(self) -> Forecast:
        """The predictor with its loss."""
        return Forecast(self.game.kp_detector, KeypointPredictor(self.predictor.features), self.predictor)

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` and ``driving``, or ``frames`` [b t h w 3], in [-1, 1]."""
        source = to_unit(batch["frames"][:, 0] if "frames" in batch else batch["source"])
        kp_detector = self.game.kp_detector.init(stream(rng, "kp_detector"), source, train=False)
        keypoints: Any = self.game.kp_detector.apply(kp_detector, source, train=False)
        generator = self.game.generator.init(stream(rng, "generator"), source, keypoints, keypoints, train=False)
        made: dict[str, Any] = {"generator": generator, "kp_detector": kp_detector}
        if self.stage == "prediction":
            given = jax.tree.map(lambda x: x[:, None], keypoints)
            made["predictor"] = self.forecast.predictor.init(stream(rng, "predictor"), *given)
        elif self.losses.adversarial:
            key = stream(rng, "discriminator")
            made["discriminator"] = self.game.discriminator.init(key, source, keypoints, train=False)
        return {n: {k: c for k, c in v.items() if k != "intermediates"} for n, v in made.items()}

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "generator" (generator and keypoint detector, each with its own optimiser), then "discriminator".

        In the stage "prediction" there is "predictor" alone.

        Raises:
            UserError: ``optim`` lacks a network.
        """
        stage = self.game if self.stage == "animation" else self.forecast
        return stage.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Both frames with their keypoints, the warped source, the prediction and its target.

        In the stage "prediction" the first frame of every window, and its middle and last one as imagined and as they
        were.
        """
        if self.stage == "prediction":
            return self._preview_of_windows(variables, batch["frames"])
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        detect = functools.partial(self.game.kp_detector.apply, variables["kp_detector"], train=False)
        kp_source: Any = detect(source)
        kp_driving: Any = detect(driving)
        made: Any = self.game.generator.apply(variables["generator"], source, kp_source, kp_driving, train=False)
        return {
            "source": from_unit(mark_points(source, kp_source.mean)),
            "driving": from_unit(mark_points(driving, kp_driving.mean)),
            "warped": from_unit(made.deformed),
            "prediction": from_unit(made.prediction),
            "target": batch["driving"],
        }

    def _preview_of_windows(
        self, variables: Variables, frames: Float[Array, "b t h w 3"]
    ) -> Mapping[str, Float[Array, "b h w 3"]]:
        found = self.forecast.keypoints(variables, frames)
        length = frames.shape[1]
        made = go_on(self.forecast.predictor, self.predictor, variables, found, length)

        # halfway and at the end, in one batch
        when = jnp.asarray([length // 2, length - 1])
        then = jax.tree.map(lambda x: x[:, when].reshape(-1, *x.shape[2:]), made)
        first = jax.tree.map(lambda x: jnp.repeat(x[:, 0], 2, axis=0), found)
        pictures = jnp.repeat(to_unit(frames[:, 0]), 2, axis=0)
        painted: Any = self.game.generator.apply(variables["generator"], pictures, first, then, train=False)
        prediction = from_unit(painted.prediction)
        return {
            "source": frames[:, 0],
            "halfway": prediction[::2],
            "halfway_target": frames[:, length // 2],
            "prediction": prediction[1::2],
            "target": frames[:, -1],
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.monkey_net.transfer.reenactor`."""
        return transfer.reenactor(self.game, variables, source, anchor=anchor, **options)

    def imagine(
        self, variables: Variables, source: Source, length: int, *, mode: str = "relative", batch_size: int = 8
    ) -> Float[Array, "t h w 3"]:
        """A video from one picture: see `reenax.methods.monkey_net.prediction.imagine`.

        Raises:
            UserError: the predictor is not trained, or see there.
        """
        if "predictor" not in variables:
            raise UserError(
                'this run has no predictor: train one with model.stage "prediction" and --warm-start from this run'
            )
        animator = transfer.KeypointAnimator(self.game.kp_detector, self.game.generator.clone(folded=True))
        return imagine(
            animator,
            self.forecast.predictor,
            self.predictor,
            variables,
            source,
            length,
            mode=mode,
            batch_size=batch_size,
        )


METHOD = MonkeyNet

__all__ = ["METHOD", "Keypoints", "MonkeyNet"]
