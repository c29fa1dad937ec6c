"""Reenactment: the driver's expression on the source's neutral landmarks, drawn from one picture of the source.

The converter carries expressions over and leaves pose, place and size as they are in the neutral landmarks: heads keep
the pose of the source. Its neutral landmarks are a matter of what is known of the source (option ``neutral``):

- "source": the picture that is animated counts as neutral, as in the published demonstration. Where it is not, its
  expression stays in everything that is made and the driver's comes on top of it. Relative motion is then the better
  choice: it adds to the source's own landmarks what the driver has changed since the anchor, so that a source and a
  driver who both begin with a smile are at one.
- "last": the last of several pictures of the source is neutral, in the same pose and place as the first, which is the
  one that is animated. This is the published method in full.
- "estimated": the neutral face is solved for, which is not published. A trained converter puts a person's expression
  back on the person's neutral face (the identity loss asks for it): with landmarks s and neutral ones n,
  ``s = n + offset(s, n)``. So n is where ``n <- s - offset(s, n)`` comes to rest, which is at once. What that gains and
  costs is in experiments/runs/freenet.md.

Motion relative to an anchor is the difference of two conversions, so that what the converter does wrong at both is not
seen. Everything that depends on the source alone is computed once.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.drives import expect
from reenax.core.errors import UserError
from reenax.core.types import Drive, Option, Reenactor, Source, Variables, VideoDrive
from reenax.geometry.transfer import relative_points
from reenax.methods.freenet.game import Game
from reenax.methods.freenet.generator import GeometryAwareGenerator
from reenax.methods.freenet.landmark_map import Placement, landmark_map, placement, to_pixels
from reenax.methods.freenet.networks import Converted, LandmarkConverter

OPTIONS = {
    "mode": Option(
        "relative",
        "relative: the source's landmarks, moved as the driver's expression has changed since the anchor frame; "
        "absolute: the driver's expression on the source's neutral landmarks; direct: the driver's landmarks as they "
        "are, pose and shape included, for a driver who is the source",
        ("relative", "absolute", "direct"),
    ),
    "neutral": Option(
        "source",
        "the source without expression: source, the picture that is animated; last, the last picture given; estimated, "
        "found by the converter from the picture that is animated",
        ("source", "last", "estimated"),
    ),
    "crop": Option(
        "frame",
        "what the converter takes for the crop that it was trained on: frame, the frame; face, the square around the "
        "landmarks as the paper crops it, of each face by itself",
        ("frame", "face"),
    ),
}


SOLVING = 2  # times that a neutral face is estimated, each from the one before


class Prepared(NamedTuple):
    """A source ready to be animated.

    Attributes:
        picture: the one to animate.
        features: of it, as the generator goes on from them.
        landmarks: of the picture, in pixels of the frame as the paper counts them.
        neutral: neutral landmarks, in pixels of the crop.
        square: what of the frame the crop is; None where it is all of it.
    """

    picture: Float[Array, "1 h w 3"]
    features: Float[Array, "1 y x c"]
    landmarks: Float[Array, "1 p 2"]
    neutral: Float[Array, "1 p 2"]
    square: Placement | None


class Animator(NamedTuple):
    """The networks of reenactment; hashable, so that one compiled program serves every source.

    Attributes:
        converter, generator: as they are trained.
        unit: pixels of the crop that the converter counts as 1.
        canvas: side of the canvas on which landmarks are drawn.
        mode, neutral, crop: see ``OPTIONS``.
    """

    converter: LandmarkConverter
    generator: GeometryAwareGenerator
    unit: float
    canvas: int
    mode: str
    neutral: str
    crop: str

    def cropped(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
        """From pixels of the frame to those of the crop."""
        return landmarks if self.crop == "frame" else placement(landmarks).enter(landmarks)

    def prepare(
        self,
        variables: Variables,
        picture: Float[Array, "1 h w 3"],
        landmarks: Float[Array, "1 p 2"],
        neutral: Float[Array, "1 p 2"],
    ) -> Prepared:
        """All that depends on the source alone; landmarks are in pixels of the frame.

        Args:
            variables: of the networks.
            picture: the one to animate.
            landmarks: of it.
            neutral: what is taken for neutral, or what a neutral face is estimated from.
        """
        features: Any = self.generator.apply(variables["generator"], picture, train=False, method="encode")
        square = None if self.crop == "frame" else placement(neutral)
        inside = self.cropped(neutral)
        resting = inside
        for _ in range(SOLVING if self.neutral == "estimated" else 0):
            resting = inside - self._convert(variables, inside, resting).offset * self.unit
        return Prepared(picture, features, landmarks, resting, square)

    def _convert(
        self, variables: Variables, expressive: Float[Array, "b p 2"], neutral: Float[Array, "b p 2"]
    ) -> Converted:
        """What the converter makes of landmarks in pixels of the crop, in its own units."""
        made: Any = self.converter.apply(variables["converter"], expressive / self.unit, neutral / self.unit)
        return made

    def converted(
        self, variables: Variables, prepared: Prepared, driving: Float[Array, "b p 2"]
    ) -> Float[Array, "b p 2"]:
        """The driver's landmarks on the source's neutral ones, both in pixels of the frame."""
        driving = self.cropped(driving)
        neutral = jnp.broadcast_to(prepared.neutral, driving.shape)
        landmarks = self._convert(variables, driving, neutral).landmarks * self.unit
        return landmarks if prepared.square is None else prepared.square.leave(landmarks)

    def landmarks(
        self,
        variables: Variables,
        prepared: Prepared,
        anchor: Float[Array, "1 p 2"] | None,
        driving: Float[Array, "b p 2"],
    ) -> Float[Array, "b p 2"]:
        """The landmarks to draw, in pixels of the frame; with an anchor by relative motion."""
        if self.mode == "direct":
            return driving
        found = self.converted(variables, prepared, driving)
        if anchor is None:
            return found
        return relative_points(prepared.landmarks, found, self.converted(variables, prepared, anchor))

    def animate(
        self,
        variables: Variables,
        prepared: Prepared,
        anchor: Float[Array, "1 p 2"] | None,
        driving: Float[Array, "b p 2"],
    ) -> Float[Array, "b h w 3"]:
        """Pictures in [-1, 1]."""
        drawn = landmark_map(
            self.landmarks(variables, prepared, anchor, driving), prepared.features.shape[1], self.canvas
        )
        made: Any = self.generator.apply(
            variables["generator"], prepared.features, prepared.picture, drawn, train=False, method="decode"
        )
        return made


_prepare = jax.jit(Animator.prepare, static_argnums=0)
_animate = jax.jit(Animator.animate, static_argnums=0)


def reenactor(
    game: Game,
    variables: Variables,
    source: Source,
    *,
    points: int,
    anchor: Drive | None = None,
    mode: str = "relative",
    neutral: str = "source",
    crop: str = "frame",
) -> Reenactor:
    """Encodes the source and returns the function from driving frames with landmarks to pictures in [-1, 1].

    Args:
        game: the networks.
        variables: as trained.
        source: one picture with its landmarks; two where the last one is neutral.
        points: how many landmarks the networks read.
        anchor: the driver's first frame, or the one in which its expression is most like the source's; for mode
            "relative".
        mode, neutral, crop: see ``OPTIONS``.

    Raises:
        UserError: an unknown option, relative motion without an anchor, no or other landmarks, a neutral picture that
            is not given, or a model that has no generator.
    """
    for name, value in (("mode", mode), ("neutral", neutral), ("crop", crop)):
        if value not in OPTIONS[name].choices:
            raise UserError(f"{name} must be one of {', '.join(OPTIONS[name].choices)}, got {value!r}")
    if mode == "relative" and anchor is None:
        raise UserError('mode "relative" needs an anchor, the first driving frame: give one, or use mode "absolute"')
    if "generator" not in variables:
        raise UserError(
            "this model has a landmark converter alone and makes no pictures: train its second stage, with a config "
            "that sets model.stages.generator_start"
        )
    if neutral == "last" and source.frames.shape[0] < 2:
        raise UserError('neutral "last" needs two pictures of the source: the one to animate, and then a neutral one')
    read = functools.partial(_landmarks, points=points)
    own = to_pixels(read(source.landmarks, "the source"))
    animator = Animator(game.converter, game.generator, game.unit, game.canvas, mode, neutral, crop)
    resting = own[-1:] if neutral == "last" else own[:1]
    prepared = _prepare(animator, variables, source.frames[:1], own[:1], resting)
    start = None
    if mode == "relative":
        first = expect(anchor, VideoDrive, method="freenet").landmarks
        start = to_pixels(read(first, "the anchor frame")[:1])

    def run(drive: Drive) -> Float[Array, "t h w 3"]:
        found = expect(drive, VideoDrive, method="freenet").landmarks
        return _animate(animator, variables, prepared, start, to_pixels(read(found, "the driver")))

    return run


def _landmarks(landmarks: Float[Array, "t p 2"] | None, whose: str, *, points: int) -> Float[Array, "t p 2"]:
    """The landmarks, if they are there and as many as the networks read.

    Raises:
        UserError: they are not.
    """
    if landmarks is None:
        raise UserError(f"freenet reads landmarks, and {whose} has none; use --faces dlib")
    if landmarks.shape[1] != points:
        raise UserError(
            f"this model reads {points} landmarks, and {whose} has {landmarks.shape[1]}; use a model that was trained "
            f"with config.model.points={landmarks.shape[1]}"
        )
    return landmarks
