"""How face vid2vid is trained: a forward pass, its losses, and the players in the published code's order."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.rng import stream
from reenax.core.types import Batch, LossOut, Player, Variables
from reenax.geometry.tps import TPS, TransformParams, random_tps, transform_image, transform_points
from reenax.losses.equivariance import equivariance_value_loss
from reenax.losses.patch_game import PatchGame, PatchWeights, shared_with_discriminator
from reenax.losses.perceptual import perceptual_loss
from reenax.losses.terms import PictureWeights, landmark_terms, picture_terms, total
from reenax.methods.face_vid2vid.keypoints import (
    CanonicalDetector,
    HeadPose,
    Keypoints,
    PoseEstimator,
    RotationParams,
    compose,
    expected_angle,
)
from reenax.methods.face_vid2vid.labels import LabelParams, labelled_pose
from reenax.methods.face_vid2vid.networks import Generated, Generator
from reenax.nn.hopenet import Hopenet
from reenax.nn.patch_discriminator import PyramidDiscriminator
from reenax.nn.vgg import FIRST_OF_STAGE, vgg_features

MOVED_TOGETHER = ("generator", "kp_detector", "he_estimator")  # by one backward pass, each with its own optimiser
MEAN_DEPTH, LEAST_DISTANCE = 0.33, 0.1  # of the keypoint prior; the distance is a squared one


@dataclasses.dataclass(frozen=True)
class LossParams(PictureWeights, PatchWeights):
    """Weights of the losses; a weight of 0 leaves the term out. The defaults are the paper's.

    Attributes:
        equivariance_value: of the driving keypoints' (x, y) against a random warp.
        keypoint: of the prior that keeps keypoints apart and their mean depth at 0.33.
        headpose: of the angles, in degrees, against those that Hopenet reads; 0: no Hopenet is needed.
        expression: of the prior that keeps expressions small.
        face: one weight per layer (relu1_1 .. relu5_1) of VGG-Face, which compares the prediction as it is with the
            driving frame; all 0 or none: no VGG-Face is needed. Its features are those of pictures in 0..255, and
            their differences are divided by 255. Not in the published implementation.
        pose: of the angles of both frames, in degrees, against labels. Not published: for synthetic heads, instead of
            ``headpose``.
        translation: of both frames' translation (x, y) against labels. Not published. Which part of a position is the
            person's and which the translation's is else left open, and may differ from person to person.
        depth: of the depths of both frames' first keypoints about their mean, against those of 3-D landmarks. Not
            published. Where depths are wrong, expressions carry the turns of the head, which no view can change.
        label: what the labels mean.
        landmarks: here of the keypoints' (x, y) and each frame's own landmarks: the canonical keypoints come from the
            source, so that the shape of the driver leaks into nothing.
        others: see the parents.
    """

    gan: str = "hinge"
    equivariance_value: float = 20.0
    keypoint: float = 10.0
    headpose: float = 20.0
    expression: float = 5.0
    face: tuple[float, ...] = ()
    pose: float = 0.0
    translation: float = 0.0
    depth: float = 0.0
    label: LabelParams = dataclasses.field(default_factory=LabelParams)


class Forward(NamedTuple):
    """One training forward pass.

    Attributes:
        pose_source, pose_driving: what the estimator read from both frames.
        kp_source, kp_driving: keypoints of both frames, of the source's person.
        transformed: the driving frame under the random warp.
        kp_transformed: its keypoints.
        generated: what the generator made.
        mutated: network -> moved collections.
    """

    pose_source: HeadPose
    pose_driving: HeadPose
    kp_source: Keypoints
    kp_driving: Keypoints
    transformed: Float[Array, "b h w 3"]
    kp_transformed: Keypoints
    generated: Generated
    mutated: Mapping[str, Any]


def keypoint_prior(points: Float[Array, "b k 3"]) -> Float[Array, ""]:
    """Keeps keypoints apart, and their mean depth where it was meant to be.

    The sum over ordered pairs, each with itself among them, of the batch mean of ``max(0, 0.1 - |p_i - p_j|^2)``, and
    the batch mean of ``|mean z - 0.33|``. The pairs of a keypoint with itself add 0.1 each: the published code counts
    them too.
    """
    offset = points[:, :, None] - points[:, None] + 1e-6
    close = jax.nn.relu(LEAST_DISTANCE - (offset**2).sum(axis=-1))
    return close.mean(axis=0).sum() + jnp.abs(points[..., 2].mean(axis=1) - MEAN_DEPTH).mean()


def expression_prior(expression: Float[Array, "b k 3"]) -> Float[Array, ""]:
    """The batch mean of the sum of absolute values."""
    return jnp.abs(expression).sum(axis=(1, 2)).mean()


def depth_loss(depth: Float[Array, "b k"], known: Float[Array, "b k"]) -> Float[Array, ""]:
    """Mean absolute difference of depths, each about the mean of its frame."""
    offset = depth - known
    return jnp.abs(offset - offset.mean(axis=1, keepdims=True)).mean()


def angles_loss(pose: HeadPose, angles: Mapping[str, Float[Array, " b"]]) -> Float[Array, ""]:
    """The sum of the mean absolute errors of yaw, pitch and roll, in degrees."""
    errors = [jnp.abs(getattr(pose, name) - angle).mean() for name, angle in angles.items()]
    return jnp.sum(jnp.stack(errors))


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        kp_detector, he_estimator, generator, discriminator: the networks.
        rotation: how angles make a rotation.
        losses: weights.
        transform: the random warp.
        dtype: compute type of the perceptual network.
        remat: whether the perceptual network's activations are computed again in the backward pass.
    """

    kp_detector: CanonicalDetector
    he_estimator: PoseEstimator
    generator: Generator
    discriminator: PyramidDiscriminator
    rotation: RotationParams
    losses: LossParams
    transform: TransformParams
    dtype: Any
    remat: bool

    @property
    def patches(self) -> PatchGame:
        """The discriminators' side."""
        return PatchGame(self.discriminator, self.losses)

    def forward(
        self, variables: Variables, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"], tps: TPS
    ) -> Forward:
        """Pictures in [0, 1] through all networks in training mode.

        The estimator sees source, driving and transformed frame in this order, and its running statistics move thrice;
        the detector sees the source alone.
        """
        transformed = transform_image(tps, driving, align_corners=self.generator.align_corners)
        canonical, moved = self.kp_detector.apply(variables["kp_detector"], source, train=True, mutable=["batch_stats"])
        mutated: dict[str, Any] = {"kp_detector": dict(moved)}
        estimator, poses = variables["he_estimator"], []
        for picture in (source, driving, transformed):
            pose, moved = self.he_estimator.apply(estimator, picture, train=True, mutable=["batch_stats"])
            estimator = {**estimator, **moved}
            poses.append(pose)
        mutated["he_estimator"] = {"batch_stats": estimator["batch_stats"]}
        found = [compose(canonical, pose, self.rotation) for pose in poses]  # pyright: ignore[reportArgumentType]
        generated, moved = self.generator.apply(
            variables["generator"], source, found[0], found[1], train=True, mutable=["batch_stats", "spectral"]
        )
        mutated["generator"] = dict(moved)
        return Forward(poses[0], poses[1], found[0], found[1], transformed, found[2], generated, mutated)  # pyright: ignore[reportArgumentType]

    def keypoint_terms(
        self, variables: Variables, forward: Forward, driving: Float[Array, "b h w 3"], tps: TPS
    ) -> dict[str, Float[Array, ""]]:
        """The weighted terms on keypoints, pose and expression; nothing but Hopenet is detached in them."""
        w, terms = self.losses, {}
        if w.equivariance_value:
            moved = transform_points(tps, forward.kp_transformed.value[..., :2])
            loss = equivariance_value_loss(forward.kp_driving.value[..., :2], moved)
            terms["equivariance_value"] = w.equivariance_value * loss
        if w.keypoint:
            terms["keypoint"] = w.keypoint * keypoint_prior(forward.kp_driving.value)
        if w.headpose:
            read: Any = Hopenet().apply(variables["hopenet"], driving)
            angles = {name: jax.lax.stop_gradient(expected_angle(logits)) for name, logits in read.items()}
            terms["headpose"] = w.headpose * angles_loss(forward.pose_driving, angles)
        if w.expression:
            terms["expression"] = w.expression * expression_prior(forward.pose_driving.expression)
        return terms

    def labelled_terms(self, forward: Forward, batch: Batch) -> dict[str, Float[Array, ""]]:
        """The weighted terms that read labels of the batch: none of them is the paper's."""
        w, terms = self.losses, {}
        frames = (
            ("source", forward.pose_source, forward.kp_source),
            ("driving", forward.pose_driving, forward.kp_driving),
        )
        if w.pose or w.translation:
            known = [labelled_pose(batch[f"{name}_pose"], w.label, self.rotation) for name, _, _ in frames]
            errors = [angles_loss(pose, label.angles) for (_, pose, _), label in zip(frames, known, strict=True)]
            away = [
                jnp.abs(pose.translation[:, :2] - label.translation[:, :2]).mean()
                for (_, pose, _), label in zip(frames, known, strict=True)
            ]
            terms["pose"] = w.pose * jnp.mean(jnp.stack(errors))
            terms["translation"] = w.translation * jnp.mean(jnp.stack(away))
        points = (forward.kp_source.value[..., :2], forward.kp_driving.value[..., :2])
        terms |= landmark_terms(w, *points, batch, "landmarks")
        if w.depth:
            chosen = jnp.asarray(w.landmark_points, jnp.int32)
            off = [
                depth_loss(kp.value[:, : chosen.size, 2], batch[f"{name}_landmarks_3d"][:, chosen, 2])
                for name, _, kp in frames
            ]
            terms["depth"] = w.depth * jnp.mean(jnp.stack(off))
        return terms

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The loss of all but the discriminator, to whose move it hands prediction and keypoints."""
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
        prediction, keypoints = wide(made.prediction), forward.kp_driving.value[..., :2]
        if any(self.losses.face):
            features = vgg_features(variables["vggface"], arch="vggface", dtype=self.dtype)
            layers: dict[str, float] = dict(zip(FIRST_OF_STAGE, self.losses.face, strict=True))
            terms["face"] = perceptual_loss(features, prediction, driving, layers) / 255
        adversarial, moved = self.patches.generator_terms(variables, prediction, driving, keypoints)
        terms |= adversarial
        terms |= self.keypoint_terms(variables, forward, driving, tps)
        if batch is not None:
            terms |= self.labelled_terms(forward, batch)
        shared = shared_with_discriminator(prediction, keypoints)
        return LossOut(total(terms), terms, {**forward.mutated, **moved}, shared), forward

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """Generator, detector and estimator by one backward pass, then the discriminator.

        Raises:
            UserError: an optimiser is missing.
        """
        return self.patches.players(self.generator_loss, MOVED_TOGETHER, optim, accumulate, "face_vid2vid")
