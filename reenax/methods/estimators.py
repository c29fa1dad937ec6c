"""Estimators: small networks that read a face picture, for measuring what methods make.

They are trained on pictures whose landmarks, pose, expression and shape are known exactly, which only a rendered
dataset has, and are meant for pictures of that kind. No published model stands behind them. Three networks:

- "landmarks": an hourglass with one heatmap per point; the point is the heatmap's mean position.
- "motion": pitch, yaw, roll, translation and expression coefficients of the head.
- "identity": the coefficients of the head's shape. The cosine of two of them is the likeness of two people. Shape and
  not a label is learnt, so that it means something for people that training has not seen; and colours are disturbed,
  so that skin and hair, which every method keeps, do not stand for the person.

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
from reenax.geometry.heatmaps import expected_points, gaussian_heatmap, spatial_softmax
from reenax.nn.blocks import Down, Hourglass
from reenax.nn.conv import Conv

NETWORKS = ("landmarks", "motion", "identity")
LABELS = ("landmarks", "pose", "expression", "identity_coefficients")
POINTS = 68


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
    """The network "landmarks"; it works on the picture halved ``downs`` times."""

    downs: int = 1
    width: int = 16
    num_blocks: int = 3
    max_features: int = 64
    temperature: float = 0.1


@dataclasses.dataclass(frozen=True)
class TrunkParams:
    """The networks "motion" and "identity": ``num_blocks`` halvings, then a hidden dense layer.

    Attributes:
        width: channels of the first block, doubled by each up to ``max_features``.
        hidden: width of the dense layer.
        dropout: share of its inputs that training leaves out.
    """

    width: int = 16
    num_blocks: int = 4
    max_features: int = 128
    hidden: int = 256
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class Units:
    """How large an error counts as one in the losses of pose (rad, cm) and expression."""

    rotation: float = 0.1
    translation: float = 0.5
    expression: float = 0.1


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
    blur: float = 1.0
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
        hourglass = Hourglass(p.width, p.num_blocks, p.max_features, dtype=self.dtype, name="hourglass")
        logits = Conv(POINTS, 1, dtype=self.dtype, name="points")(hourglass(x, train=train))
        points = expected_points(spatial_softmax(logits.astype(jnp.float32), p.temperature))
        # the first and last position stand for `scale` pixels each: move from their centres to those of the pixels
        scale, side = 2**p.downs, jnp.asarray((logits.shape[2], logits.shape[1]), jnp.float32)
        return points * ((scale * side - scale) / (scale * side - 1))[None, None]


class Trunk(nn.Module):
    """A picture to ``features`` numbers."""

    features: int
    params: TrunkParams
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b {self.features}"]:
        p = self.params
        for i in range(p.num_blocks):
            x = Down(min(p.max_features, p.width * 2**i), dtype=self.dtype, name=f"down_{i}")(x, train=train)
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(p.dropout, deterministic=not train)(x)
        x = nn.relu(nn.Dense(p.hidden, dtype=self.dtype, name="hidden")(x))
        return nn.Dense(self.features, dtype=self.dtype, name="out")(x).astype(jnp.float32)


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
        return {n: self._network(n).init(stream(rng, n), batch["source"], train=False) for n in NETWORKS}

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
        """Mean absolute difference of the points."""
        made, moved = self._apply("landmarks", variables, batch, rng)
        loss = jnp.abs(made - batch["landmarks"]).mean()
        return LossOut(loss, {}, {"landmarks": moved})

    def motion_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Mean squared differences of rotation, translation and expression, each in its unit."""
        made, moved = self._apply("motion", variables, batch, rng)
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
        """Mean squared difference of the coefficients, whose own mean square is 1."""
        made, moved = self._apply("identity", variables, batch, rng)
        loss = jnp.mean((made - batch["identity_coefficients"]) ** 2)
        return LossOut(loss, {}, {"identity": moved})

    def read(self, variables: Variables, pictures: Float[Array, "b h w 3"]) -> Readings:
        """Reads pictures in [-1, 1] of the size that the networks were trained on."""
        points, motion, identity = (
            self._network(n).apply(variables[n], pictures.astype(jnp.float32), train=False) for n in NETWORKS
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

    def _apply(
        self, name: str, variables: Variables, batch: Batch, rng: Key[Array, ""]
    ) -> tuple[Float[Array, "b ..."], Mapping[str, Any]]:
        """A network on disturbed pictures in training mode, and its moved statistics."""
        disturb, dropout = jax.random.split(rng)
        pictures = disturbed(batch["source"], disturb, self.disturbance)

        def run(v: Any, x: Array) -> Any:
            return self._network(name).apply(v, x, train=True, mutable=["batch_stats"], rngs={"dropout": dropout})

        return (jax.checkpoint(run) if self.remat else run)(variables[name], pictures)


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
