"""Estimators: small networks that read a face picture, for measuring what methods make.

They are trained on pictures whose landmarks, pose, expression and shape are known exactly, which only a rendered
dataset has, and are meant for pictures of that kind. No published model stands behind them. Three networks:

- "landmarks": an hourglass with one heatmap per point; the point is the heatmap's mean position.
- "motion": pitch, yaw, roll, translation and expression coefficients of the head.
- "identity": the coefficients of the head's shape. The cosine of two of them is the likeness of two people. Shape and
  not a label is learnt, so that it means something for people that training has not seen; and colours are disturbed,
  so that skin and hair, which every method keeps, do not stand for the person.

The last two see the points and the face cut out upright by them; the points alone tell most of pose and shape.
Made pictures are softer than true ones. The pictures are therefore blurred, tinted and made noisy while training.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.rng import stream
from reenax.core.types import Batch, Drive, LossOut, Method, Player, Reenactor, Source, Variables
from reenax.core.updates import Gradient
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import expected_points, gaussian_heatmap, spatial_softmax
from reenax.geometry.sampling import grid_sample
from reenax.nn.blocks import Down, Hourglass
from reenax.nn.conv import Conv
from reenax.nn.norm import BatchNorm

NETWORKS = ("landmarks", "motion", "identity")
LABELS = ("landmarks", "pose", "expression", "identity_coefficients")
POINTS = 68
REACH = 2.2  # half the side of a face that is cut out, in units of the points' spread


class Readings(NamedTuple):
    """What is read from pictures.

    Attributes:
        landmarks: x, y of the 68 points; -1 and 1 are the centres of the first and last pixel.
        pose: pitch, yaw, roll in radians and translation in cm.
        expression: coefficients in [0, 1].
        identity: coefficients of the head's shape.
    """

    landmarks: Float[Array, "b 68 2"]
    pose: Float[Array, "b 6"]
    expression: Float[Array, "b e"]
    identity: Float[Array, "b i"]


@dataclasses.dataclass(frozen=True)
class HourglassParams:
    """The network "landmarks".

    Attributes:
        downs: how often the picture is halved before.
        border: cells that are added on every side then, for points beyond the picture (a chin that is cut off).
        width, num_blocks, max_features: of the hourglass.
        temperature: of the heatmaps' softmax.
    """

    downs: int = 1
    border: int = 4
    width: int = 16
    num_blocks: int = 3
    max_features: int = 64
    temperature: float = 0.1


@dataclasses.dataclass(frozen=True)
class TrunkParams:
    """The networks "motion" and "identity".

    Attributes:
        crop: side in pixels that the face is cut out at.
        width: channels of the first of the halving blocks, doubled by each up to ``max_features``.
        num_blocks: how many there are.
        code: how many numbers they make of the face, beside the points.
        hidden: width of the two layers behind that.
    """

    crop: int = 48
    width: int = 16
    num_blocks: int = 3
    max_features: int = 64
    code: int = 128
    hidden: int = 256


@dataclasses.dataclass(frozen=True)
class Units:
    """How large an error counts as one in the losses of pose (rad, cm) and expression."""

    rotation: float = 0.1
    translation: float = 0.5
    expression: float = 0.05


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What training does to the pictures; 0 leaves a change out.

    Attributes:
        gain, offset: of every channel, half the width of their uniform ranges around 1 and 0.
        blur: largest share of the blurred in the picture.
        noise: largest standard deviation.
    """

    gain: float = 0.3
    offset: float = 0.2
    blur: float = 0.7
    noise: float = 0.05


class LandmarkReader(nn.Module):
    """Heatmaps to points."""

    params: HourglassParams
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b 68 2"]:
        p = self.params
        for i in range(p.downs):
            x = Down(p.width, dtype=self.dtype, name=f"down_{i}")(x, train=train)
        x = jnp.pad(x, ((0, 0), (p.border, p.border), (p.border, p.border), (0, 0)), mode="edge")
        hourglass = Hourglass(p.width, p.num_blocks, p.max_features, dtype=self.dtype, name="hourglass")
        logits = Conv(POINTS, 1, dtype=self.dtype, name="points")(hourglass(x, train=train))
        points = expected_points(spatial_softmax(logits.astype(jnp.float32), p.temperature))
        # from the centres of the first and last of `cells` cells to those of the picture's pixels
        scale, cells = 2**p.downs, jnp.asarray((logits.shape[2], logits.shape[1]), jnp.float32)
        return points * (scale * (cells - 1) / (scale * (cells - 2 * p.border) - 1))[None, None]


class Trunk(nn.Module):
    """A picture and its points to ``features`` numbers."""

    features: int
    params: TrunkParams
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], points: Float[Array, "b 68 2"], *, train: bool
    ) -> Float[Array, "b {self.features}"]:
        p = self.params
        frame = face_frame(points)
        x = upright(x, frame, p.crop)
        for i in range(p.num_blocks):
            x = Down(min(p.max_features, p.width * 2**i), dtype=self.dtype, name=f"down_{i}")(x, train=train)
        code = nn.relu(nn.Dense(p.code, dtype=self.dtype, name="code")(x.reshape(x.shape[0], -1)))
        shape = jnp.concatenate([to_frame(points, frame).reshape(points.shape[0], -1), *frame], axis=-1)
        # a norm brings the points' small differences to one size
        shape = BatchNorm(dtype=self.dtype, name="norm")(shape[:, None, None], train=train)[:, 0, 0]
        y = jnp.concatenate([code, shape], axis=-1)
        for i in range(2):
            y = nn.relu(nn.Dense(p.hidden, dtype=self.dtype, name=f"hidden_{i}")(y))
        return nn.Dense(self.features, dtype=self.dtype, name="out")(y).astype(jnp.float32)


class Frame(NamedTuple):
    """Where a face is, how large and how tilted.

    Attributes:
        centre: the mean of the points without the jaw.
        axis: from the eye at the picture's left to the other one, as long as the points' spread.
    """

    centre: Float[Array, "b 2"]
    axis: Float[Array, "b 2"]


def face_frame(points: Float[Array, "b 68 2"]) -> Frame:
    """The frame of a face's points."""
    inner = points[:, 17:]
    centre = inner.mean(axis=1)
    spread = jnp.sqrt(((inner - centre[:, None]) ** 2).sum(axis=-1).mean(axis=1))
    across = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    length = jnp.sqrt((across**2).sum(axis=-1))
    return Frame(centre, across * (spread / jnp.maximum(length, 1e-4))[:, None])


def to_frame(points: Float[Array, "b p 2"], frame: Frame) -> Float[Array, "b p 2"]:
    """Points moved, turned and scaled so that the frame is upright, of spread 1 and in the middle."""
    offset, (cos, sin) = points - frame.centre[:, None], jnp.moveaxis(frame.axis, -1, 0)
    turned = (cos[:, None] * offset[..., 0] + sin[:, None] * offset[..., 1],
              cos[:, None] * offset[..., 1] - sin[:, None] * offset[..., 0])  # fmt: skip
    return jnp.stack(turned, axis=-1) / jnp.maximum(cos**2 + sin**2, 1e-4)[:, None, None]


def upright(pictures: Float[Array, "b h w c"], frame: Frame, size: int) -> Float[Array, "b s s c"]:
    """The face cut out of every picture, upright and of one size."""
    grid = REACH * coordinate_grid(size, size)[None]
    cos, sin = (x[:, None, None] for x in jnp.moveaxis(frame.axis, -1, 0))
    turned = (cos * grid[..., 0] - sin * grid[..., 1], sin * grid[..., 0] + cos * grid[..., 1])
    return grid_sample(pictures, jnp.stack(turned, axis=-1) + frame.centre[:, None, None], padding="border")


@dataclasses.dataclass(frozen=True)
class Estimators(Method):
    """The three networks with their losses.

    Attributes:
        expressions, identities: how many coefficients the dataset's head model has.
        landmarks, motion, identity: sizes of the networks.
        units: of the losses.
        disturbance: what training does to the pictures.
        dtype: "float32" or "bfloat16", what the networks compute in; params and losses stay float32.
        remat: compute activations again in the backward pass, to save memory.
    """

    expressions: int = 52
    identities: int = 80
    landmarks: HourglassParams = dataclasses.field(default_factory=HourglassParams)
    motion: TrunkParams = dataclasses.field(default_factory=TrunkParams)
    identity: TrunkParams = dataclasses.field(default_factory=TrunkParams)
    units: Units = dataclasses.field(default_factory=Units)
    disturbance: Disturbance = dataclasses.field(default_factory=Disturbance)
    dtype: str = "float32"
    remat: bool = False

    drives = frozenset()
    fields = frozenset({"frames", *LABELS})

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables; ``batch`` has pictures ``source`` in [-1, 1] and the labels.

        Raises:
            UserError: the labels have other sizes than the config says.
        """
        for field, key in (("expression", "expressions"), ("identity_coefficients", "identities")):
            if field in batch and batch[field].shape[-1] != getattr(self, key):
                raise UserError(
                    f"config.model.{key}={getattr(self, key)}, but the dataset's {field} has {batch[field].shape[-1]} "
                    f"numbers; pass --config.model.{key}={batch[field].shape[-1]}"
                )
        pictures = batch["source"]
        points = jnp.zeros((pictures.shape[0], POINTS, 2))
        return {
            n: self._network(n).init(
                stream(rng, n), *((pictures,) if n == "landmarks" else (pictures, points)), train=False
            )
            for n in NETWORKS
        }

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """One player per network.

        Raises:
            UserError: ``optim`` lacks a network.
        """
        losses = {"landmarks": self.landmark_loss, "motion": self.motion_loss, "identity": self.identity_loss}
        for network in NETWORKS:
            if network not in optim:
                raise UserError(f"config.optim.{network} is missing; estimators needs {', '.join(NETWORKS)}")
        return tuple(Player(n, (n,), Gradient(losses[n], optim[n], accumulate)) for n in NETWORKS)

    def landmark_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean absolute difference of the points. Pictures and points are shared with the other players."""
        seen = self._look(variables, batch, rng)
        loss = jnp.abs(seen.points - batch["landmarks"]).mean()
        return LossOut(loss, {}, {"landmarks": seen.moved}, jax.lax.stop_gradient(seen._replace(moved={})))

    def motion_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean squared differences of rotation, translation and expression, each in its unit."""
        made, moved = self._infer("motion", variables, batch, rng, shared)
        errors = {
            "rotation": (made[:, :3] - batch["pose"][:, :3]) / self.units.rotation,
            "translation": (made[:, 3:6] - batch["pose"][:, 3:]) / self.units.translation,
            "expression": (made[:, 6:] - batch["expression"]) / self.units.expression,
        }
        terms = {name: jnp.mean(error**2) for name, error in errors.items()}
        return LossOut(jnp.sum(jnp.stack(list(terms.values()))), terms, {"motion": moved})

    def identity_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean squared difference of the coefficients."""
        made, moved = self._infer("identity", variables, batch, rng, shared)
        loss = jnp.mean((made - batch["identity_coefficients"]) ** 2)
        return LossOut(loss, {}, {"identity": moved})

    def read(self, variables: Variables, pictures: Float[Array, "b h w 3"]) -> Readings:
        """Reads pictures in [-1, 1] of the size that the networks were trained on."""
        pictures = pictures.astype(jnp.float32)
        points: Any = self._network("landmarks").apply(variables["landmarks"], pictures, train=False)
        motion, identity = (
            self._network(n).apply(variables[n], pictures, points, train=False) for n in ("motion", "identity")
        )
        made: Any = motion
        return Readings(points, made[:, :6], jnp.clip(made[:, 6:], 0, 1), identity)  # pyright: ignore[reportArgumentType]

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """The pictures, and the same with the points that are read ("prediction") and the true ones ("target")."""
        read = self.read(variables, batch["source"])
        return {
            "source": batch["source"],
            "prediction": marked(batch["source"], read.landmarks),
            "target": marked(batch["source"], batch["landmarks"]),
        }

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError("estimators read faces and make none; give a run of a method that video drives")

    def _network(self, name: str) -> nn.Module:
        dtype = None if self.dtype == "float32" else jnp.dtype(self.dtype)
        if name == "landmarks":
            return LandmarkReader(self.landmarks, dtype)
        if name == "motion":
            return Trunk(6 + self.expressions, self.motion, dtype)
        return Trunk(self.identities, self.identity, dtype)

    def _look(self, variables: Variables, batch: Batch, rng: Key[Array, ""]) -> "Seen":
        """The points of disturbed pictures, in training mode."""
        pictures = disturbed(batch["source"], rng, self.disturbance)
        points, moved = self._train("landmarks", variables, pictures)
        return Seen(pictures, points, moved)

    def _infer(
        self, name: str, variables: Variables, batch: Batch, rng: Key[Array, ""], shared: PyTree
    ) -> tuple[Float[Array, "b n"], Mapping[str, Any]]:
        """One of the other networks in training mode, and its moved statistics."""
        seen = self._look(variables, batch, rng) if shared is None else shared
        return self._train(name, variables, seen.pictures, jax.lax.stop_gradient(seen.points))

    def _train(self, name: str, variables: Variables, *inputs: Array) -> tuple[Array, Mapping[str, Any]]:
        def run(v: Any, *x: Array) -> Any:
            return self._network(name).apply(v, *x, train=True, mutable=["batch_stats"])

        return (jax.checkpoint(run) if self.remat else run)(variables[name], *inputs)


class Seen(NamedTuple):
    """What the player "landmarks" hands to those after it.

    Attributes:
        pictures: as they were disturbed.
        points: what it read from them.
        moved: its moved statistics.
    """

    pictures: Float[Array, "b h w 3"]
    points: Float[Array, "b 68 2"]
    moved: Mapping[str, Any]


def disturbed(pictures: Float[Array, "b h w 3"], rng: Key[Array, ""], by: Disturbance) -> Float[Array, "b h w 3"]:
    """Pictures in [-1, 1] with other colours, softer and noisy, each in its own way."""
    gain, offset, blur, level, noise = jax.random.split(rng, 5)
    count = pictures.shape[0]
    softness = jax.random.uniform(blur, (count, 1, 1, 1), maxval=by.blur)
    pictures = pictures + softness * (blurred(pictures) - pictures)
    pictures = pictures * (1 + by.gain * jax.random.uniform(gain, (count, 1, 1, 3), minval=-1))
    pictures = pictures + by.offset * jax.random.uniform(offset, (count, 1, 1, 3), minval=-1)
    strength = by.noise * jax.random.uniform(level, (count, 1, 1, 1))
    return jnp.clip(pictures + strength * jax.random.normal(noise, pictures.shape), -1, 1)


def blurred(pictures: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The binomial filter 1 4 6 4 1 along both axes, borders repeated."""
    x = jnp.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    height, width = pictures.shape[1], pictures.shape[2]
    taps = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    rows = [tap * x[:, k : k + height] for k, tap in enumerate(taps)]
    x = jnp.sum(jnp.stack(rows), axis=0)
    return jnp.sum(jnp.stack([tap * x[:, :, k : k + width] for k, tap in enumerate(taps)]), axis=0)


def marked(pictures: Float[Array, "b h w 3"], points: Float[Array, "b p 2"]) -> Float[Array, "b h w 3"]:
    """Pictures in [-1, 1] with a green dot at every point."""
    heat = gaussian_heatmap(points, (pictures.shape[1], pictures.shape[2]), 1.2 / pictures.shape[1] ** 2)
    dots = (heat.max(axis=-1) > 0.4)[..., None]
    return jnp.where(dots, jnp.asarray((-1.0, 1.0, -1.0))[None, None, None], pictures)


METHOD = Estimators
