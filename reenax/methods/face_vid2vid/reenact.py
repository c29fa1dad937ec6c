"""Animation: the driver's motion carried over to a source that is encoded once, from any view (section 3.4).

Everything that depends on the source alone is computed when the reenactor is built: its canonical keypoints, its pose,
the volume of its features. A batch of driving frames then needs the pose estimator and, in the folded layout of
`reenax.nn.fold`, the motion field and the decoder; every warp reads the one volume without copying it.

Since pose is explicit, it can be changed: angles of one's own replace the driver's or turn the head further, the head
can be put elsewhere, looked at from the front, or kept in its depth.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.errors import UserError
from reenax.core.pictures import from_unit, to_unit
from reenax.core.reenact import TRANSFER_OPTIONS, transferring_reenactor
from reenax.core.types import Drive, Option, Reenactor, Source, Variables
from reenax.geometry.transfer import movement_scale, relative_points
from reenax.methods.face_vid2vid.game import MEAN_DEPTH, Game
from reenax.methods.face_vid2vid.keypoints import (
    CanonicalDetector,
    HeadPose,
    Keypoints,
    PoseEstimator,
    RotationParams,
    compose,
    rotation_matrix,
    turned,
)
from reenax.methods.face_vid2vid.networks import Encoded, Generator
from reenax.nn.fold import fold

ANGLES = ("yaw", "pitch", "roll")
SHIFTS = ("x", "y", "z")
VIEWS, PLACES = ("replace", "turn"), ("driver", "source", "middle")

OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        **TRANSFER_OPTIONS,
        "yaw": Option(None, "degrees to the side, instead of the driver's; the models know about -45 to 45"),
        "pitch": Option(None, "degrees up or down, instead of the driver's; about -20 to 20"),
        "roll": Option(None, "degrees in the picture, instead of the driver's; about -20 to 20"),
        "view": Option("replace", "whether given angles replace the driver's or turn the head further", VIEWS),
        "frontal": Option(False, "look straight ahead: all angles that are not given are 0"),
        "place": Option("driver", "where the head is: at the driver's place, the source's, or in the middle", PLACES),
        "x": Option(0.0, "moves the head to the right, 1 is half of the picture"),
        "y": Option(0.0, "moves the head down, 1 is half of the picture"),
        "z": Option(0.0, "moves the head in depth, 1 is half of the volume"),
        "recentre": Option(False, "turn expressions with a given view, and keep the head's mean depth"),
    }
)

_fold = jax.jit(fold)


class Prepared(NamedTuple):
    """A source made ready.

    Attributes:
        encoded: what the generator needs of it.
        canonical: its keypoints without pose and expression.
        pose: its own.
        keypoints: where it is.
    """

    encoded: Encoded
    canonical: Float[Array, "1 k 3"]
    pose: HeadPose
    keypoints: Keypoints


@dataclasses.dataclass(frozen=True)
class View:
    """How the view is chosen; its numbers are among the variables, so that a change compiles nothing.

    Attributes:
        angles: names of the angles that are given.
        turns: whether they turn the head further.
        place: one of ``PLACES``.
        recentre: whether expressions turn with the view and the mean depth is kept.
    """

    angles: tuple[str, ...] = ()
    turns: bool = False
    place: str = "driver"
    recentre: bool = False


class FreeViewAnimator(NamedTuple):
    """The networks, the generator twice: as trained to encode, folded to decode; see `reenax.core.reenact.Animator`."""

    detector: CanonicalDetector
    estimator: PoseEstimator
    generator: Generator
    folded: Generator
    rotation: RotationParams
    view: View

    def prepare(self, variables: Variables, source: Float[Array, "1 h w 3"]) -> Prepared:
        picture = to_unit(source)
        encoded: Any = self.generator.apply(variables["generator"], picture, train=False, method="encode")
        canonical: Any = self.detector.apply(variables["kp_detector"], picture, train=False)
        pose = self._estimate(variables, picture)
        return Prepared(encoded, canonical, pose, compose(canonical, pose, self.rotation))

    def read(self, variables: Variables, prepared: Prepared, frames: Float[Array, "b h w 3"]) -> HeadPose:
        return self._estimate(variables, to_unit(frames))

    def scale(self, prepared: Prepared, anchor: HeadPose) -> float:
        start = compose(prepared.canonical, anchor, self.rotation)
        return movement_scale(prepared.keypoints.value[0], start.value[0])

    def animate(
        self,
        variables: Variables,
        prepared: Prepared,
        motion: HeadPose,
        anchor: HeadPose | None,
        scale: Float[Array, ""],
    ) -> Float[Array, "b h w 3"]:
        moved = self.keypoints(prepared, motion, anchor, scale, variables["view"])
        made: Any = self.folded.apply(
            variables["folded"], prepared.encoded, prepared.keypoints, moved, train=False, method="decode"
        )
        return from_unit(made.prediction)

    def keypoints(
        self,
        prepared: Prepared,
        motion: HeadPose,
        anchor: HeadPose | None,
        scale: Float[Array, ""],
        given: Mapping[str, Float[Array, ""]],
    ) -> Keypoints:
        """The source's keypoints in the driver's motion, seen as was asked for.

        The view changes the driver's keypoints of every frame, not those of the anchor.
        """
        moved = self._viewed(prepared, motion, given)
        if anchor is None:
            return moved
        start = compose(prepared.canonical, anchor, self.rotation)
        value = relative_points(prepared.keypoints.value, moved.value, start.value, scale)
        since = (moved.rotation[:, :, None, :] * start.rotation[:, None, :, :]).sum(axis=-1)  # R_t R_0^T
        rotation = turned(since, prepared.keypoints.rotation.swapaxes(1, 2)).swapaxes(1, 2)
        return Keypoints(value, rotation)

    def _viewed(self, prepared: Prepared, motion: HeadPose, given: Mapping[str, Float[Array, ""]]) -> Keypoints:
        angles = {n: jnp.broadcast_to(given[n], motion.yaw.shape) for n in self.view.angles}
        asked = motion._replace(**angles)
        old, new = rotation_matrix(motion, self.rotation), rotation_matrix(asked, self.rotation)
        if self.view.turns:
            still = motion._replace(**dict.fromkeys(ANGLES, jnp.zeros_like(motion.yaw)))
            own = rotation_matrix(still._replace(**angles), self.rotation)
            new = (own[:, :, :, None] * old[:, None]).sum(axis=2)  # R_u R_d
        place = {"driver": motion.translation, "source": prepared.pose.translation}.get(self.view.place)
        shift = jnp.stack([given[n] for n in SHIFTS])[None]
        translation = shift if place is None else place + shift
        expression = motion.expression
        if self.view.recentre and self.view.angles:
            change = (new[:, :, None, :] * old[:, None, :, :]).sum(axis=-1)  # R_new R_old^T
            expression = turned(change, expression)
        value = turned(new, prepared.canonical) + translation[:, None] + expression
        if self.view.recentre and self.view.angles:
            away = MEAN_DEPTH - value[..., 2].mean(axis=1)
            value = value.at[..., 2].add(away[:, None])
        return Keypoints(value, new)

    def _estimate(self, variables: Variables, picture: Float[Array, "b h w 3"]) -> HeadPose:
        pose: Any = self.estimator.apply(variables["he_estimator"], picture, train=False)
        return pose


def _chosen(options: Mapping[str, Any]) -> tuple[View, dict[str, Float[Array, ""]]]:
    """What was asked for, and its numbers.

    Raises:
        UserError: an unknown choice.
    """
    for name in ("view", "place"):
        if options[name] not in OPTIONS[name].choices:
            raise UserError(f"{name} must be one of {', '.join(OPTIONS[name].choices)}, got {options[name]!r}")
    numbers = {n: options[n] for n in (*ANGLES, *SHIFTS) if options[n] is not None}
    if options["frontal"]:
        numbers = {**dict.fromkeys(ANGLES, 0.0), **numbers}
    angles = tuple(n for n in ANGLES if n in numbers)
    view = View(angles, options["view"] == "turn", options["place"], bool(options["recentre"]))
    return view, {n: jnp.asarray(v, jnp.float32) for n, v in numbers.items()}


def reenactor(
    game: Game, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
) -> Reenactor:
    """From driving frames to animated frames: see `reenax.core.reenact.transferring_reenactor`.

    Args:
        game: the networks.
        variables: what they read.
        source: its first picture is animated.
        anchor: the driver's first frame.
        options: those of ``OPTIONS``. A view is exactly the one asked for in mode "absolute"; in mode "relative" it
            adds to how the source's pose differs from the anchor's.

    Raises:
        UserError: an unknown option, or an unknown choice.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise UserError(f"face_vid2vid has no option {unknown[0]!r}; it has {', '.join(OPTIONS)}")
    options = {**{name: option.default for name, option in OPTIONS.items()}, **options}
    view, numbers = _chosen(options)
    generator = game.generator
    animator = FreeViewAnimator(
        game.kp_detector, game.he_estimator, generator, generator.clone(folded=True), game.rotation, view
    )
    trained = {name: variables[name] for name in ("kp_detector", "he_estimator", "generator")}
    known = {**trained, "folded": _fold(variables["generator"]), "view": numbers}
    return transferring_reenactor(animator, known, source, anchor, **{n: options[n] for n in TRANSFER_OPTIONS})
