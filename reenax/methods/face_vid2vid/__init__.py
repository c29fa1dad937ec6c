"""One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing (face vid2vid).

Ting-Chun Wang, Arun Mallya, Ming-Yu Liu. CVPR 2021, arXiv:2011.15126.

    @inproceedings{wang2021one,
      title={One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing},
      author={Wang, Ting-Chun and Mallya, Arun and Liu, Ming-Yu},
      booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year={2021}
    }

A picture follows a driving video, and can be looked at from another side. The source becomes a volume of features and
keypoints in space as if its head looked straight ahead; of source and driving frame an estimator reads the head's
rotation, translation and expression. Both make the keypoints of either frame, these a flow in space that warps the
volume, and a generator paints the picture. Since pose is a few numbers, the user may change them.

The defaults are the paper's third version. The published checkpoints come from another implementation, whose choices
are switches here and together in the config ``vox256``: 15 keypoints, smaller kernels at the end of the keypoint
detector, one more convolution in the motion network, flows that do not turn with the head (``rotate_flow``), warps by
``align_corners=False``, one discriminator, 3.14 for pi. What neither has: see ``LossParams`` (labels of synthetic
heads, losses without pretrained networks) and ``GeneratorParams.blend``. Left out: the keypoint Jacobians of the
paper's first version.

    reenax train --config configs/face_vid2vid.py:vox256 --data DATA --run RUN --config.frozen.vgg19=VGG19 \
        --config.frozen.hopenet=HOPENET
    reenax train --config configs/face_vid2vid.py:synth64 --data HEADS64 --run RUN
    reenax animate --run RUN --source me.jpg --driving talk.mp4 --out side.mp4 --mode absolute --option yaw=20

Read it in this order: ``keypoints`` (what is estimated), ``motion``, ``networks`` (the generator), ``game`` (losses and
players), ``labels`` (of synthetic heads), ``reenact`` (animation and free view).
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
from reenax.losses.perceptual import image_pyramid
from reenax.methods.face_vid2vid import reenact
from reenax.methods.face_vid2vid.game import Game, LossParams
from reenax.methods.face_vid2vid.keypoints import (
    CanonicalDetector,
    DetectorParams,
    EstimatorParams,
    PoseEstimator,
    RotationParams,
    compose,
)
from reenax.methods.face_vid2vid.networks import Generator, GeneratorParams
from reenax.nn.hopenet import frozen_hopenet
from reenax.nn.patch_discriminator import PyramidDiscriminator, PyramidParams
from reenax.nn.vgg import frozen_vgg


@dataclasses.dataclass(frozen=True)
class FaceVid2Vid(Method):
    """The method with its hyper-parameters; the defaults are the paper's.

    Attributes:
        num_kp: number of keypoints.
        kp_detector, he_estimator, generator, discriminator: sizes of the networks.
        rotation: how three angles make a rotation.
        rotate_flow: whether the keypoints' motions turn with the head.
        losses: weights of the losses.
        transform: the random warp of the equivariance loss.
        align_corners: the convention of all warps. False is that of the published checkpoints; grids are built by the
            other one, so that with False every warp shrinks the volume by half a voxel towards its middle.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    num_kp: int = 20
    kp_detector: DetectorParams = dataclasses.field(default_factory=DetectorParams)
    he_estimator: EstimatorParams = dataclasses.field(default_factory=EstimatorParams)
    generator: GeneratorParams = dataclasses.field(default_factory=GeneratorParams)
    discriminator: PyramidParams = dataclasses.field(default_factory=lambda: PyramidParams(scales=(1.0, 0.5)))
    rotation: RotationParams = dataclasses.field(default_factory=RotationParams)
    rotate_flow: bool = True
    losses: LossParams = dataclasses.field(default_factory=LossParams)
    transform: TransformParams = dataclasses.field(default_factory=TransformParams)
    align_corners: bool = True
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset({"video"})
    fields = frozenset({"frames"})
    options = reenact.OPTIONS

    @property
    def frozen(self) -> Mapping[str, FrozenNetwork]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """VGG-19 and VGG-Face where the perceptual losses have a weight, Hopenet where that of the head's pose has."""
        wanted = {}
        if any(self.losses.perceptual):
            wanted["vgg19"] = frozen_vgg()
        if any(self.losses.face):
            wanted["vggface"] = frozen_vgg("vggface")
        if self.losses.headpose:
            wanted["hopenet"] = frozen_hopenet()
        return wanted

    @functools.cached_property
    def game(self) -> Game:
        """The networks with their losses."""
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        layout = {"dtype": dtype, "remat": self.remat}
        return Game(
            CanonicalDetector(self.num_kp, self.kp_detector, **layout),
            PoseEstimator(self.num_kp, self.he_estimator, **layout),
            Generator(self.num_kp, self.generator, self.rotate_flow, self.align_corners, **layout),
            PyramidDiscriminator(self.discriminator, dtype),
            self.rotation,
            self.losses,
            self.transform,
            **layout,
        )

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has ``source`` and ``driving`` pictures in [-1, 1]."""
        source, game = to_unit(batch["source"]), self.game
        made = {
            name: network.init(stream(rng, name), source, train=False)
            for name, network in (("kp_detector", game.kp_detector), ("he_estimator", game.he_estimator))
        }
        canonical: Any = game.kp_detector.apply(made["kp_detector"], source, train=False)
        pose: Any = game.he_estimator.apply(made["he_estimator"], source, train=False)
        points = compose(canonical, pose, self.rotation)
        made["generator"] = game.generator.init(stream(rng, "generator"), source, points, points, train=False)
        if self.discriminator.scales:
            pyramid = image_pyramid(source, self.discriminator.scales)
            key = stream(rng, "discriminator")
            made["discriminator"] = game.discriminator.init(key, pyramid, points.value[..., :2], train=False)
        return {n: {k: c for k, c in v.items() if k != "intermediates"} for n, v in made.items()}

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """ "generator" (generator, keypoint detector, pose estimator, each with its own optimiser), "discriminator".

        Raises:
            UserError: ``optim`` lacks a network.
        """
        return self.game.players(optim, accumulate)

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Both frames with their keypoints, the warped source, the occlusion map, the prediction and its target."""
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        canonical: Any = self.game.kp_detector.apply(variables["kp_detector"], source, train=False)
        poses: Any = [
            self.game.he_estimator.apply(variables["he_estimator"], picture, train=False)
            for picture in (source, driving)
        ]
        kp_source, kp_driving = (compose(canonical, pose, self.rotation) for pose in poses)
        made: Any = self.game.generator.apply(variables["generator"], source, kp_source, kp_driving, train=False)
        occlusion = jax.image.resize(made.motion.occlusion, (*source.shape[:3], 1), "nearest")
        return {
            "source": from_unit(mark_points(source, kp_source.value[..., :2])),
            "driving": from_unit(mark_points(driving, kp_driving.value[..., :2])),
            "warped": from_unit(made.deformed),
            "occlusion": from_unit(jnp.broadcast_to(occlusion, source.shape)),
            "prediction": from_unit(made.prediction),
            "target": batch["driving"],
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """See `reenax.methods.face_vid2vid.reenact`."""
        return reenact.reenactor(self.game, variables, source, anchor=anchor, **options)


METHOD = FaceVid2Vid
