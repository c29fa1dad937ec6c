"""The networks of X2Face, and how their outputs move pixels. Pictures are in [0, 1].

Both large networks are U-Nets of `reenax.nn.unet` without biases. The embedding network has three outputs: the offsets
of a sampling grid and the logarithm of a confidence; its skips pass what the narrow middle cannot. The driving network
has none: all it knows of a frame must pass through the driving vector [b 1 1 e].
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.core.types import Variables
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.sampling import grid_sample
from reenax.nn.conv import Initializer
from reenax.nn.norm import BatchNorm
from reenax.nn.unet import UNet, UNetParams

ANGLES = 3  # of a pose code: roll, pitch, yaw in radians
OF_CODE = (2, 0, 1)  # where they are in pitch, yaw, roll
# One object, so that equal networks have equal hashes. Flax's own xavier_normal cuts the normal's tails.
XAVIER: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


@dataclasses.dataclass(frozen=True)
class SizeParams:
    """Sizes of the two large networks.

    Attributes:
        features: channels of their outermost level.
        levels: how often a picture is halved; its side must be 2^levels.
        vector: length of the driving vector.
        scale_init: how the scales of batch norms begin: "uniform" in (0.02, 1), as published, or "normal" around 1 with
            deviation 0.02, as probably meant.
        last_gain: of the kernels that make the offsets, against those of Xavier's rule. Below 1 training begins near
            grids that move nothing; not published.
    """

    features: int = 64
    levels: int = 8
    vector: int = 128
    scale_init: Literal["uniform", "normal"] = "uniform"
    last_gain: float = 1.0


def uniform_scale(key: Any, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """U(0.02, 1): the published scales, ``uniform(1.0, 0.02)`` where ``normal(1.0, 0.02)`` was meant."""
    return jax.random.uniform(key, shape, dtype, 0.02, 1.0)


def normal_scale(key: Any, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """N(1, 0.02)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def embedding_network(size: SizeParams, dtype: DTypeLike | None = None) -> UNet:
    """Source frame to offsets (2) and the logarithm of a confidence (1)."""
    return _unet(UNetParams(size.features, size.levels, out=3, skips=True), size, dtype)


def driving_network(size: SizeParams, dtype: DTypeLike | None = None) -> UNet:
    """Driving frame to driving vector, and driving vector to offsets (2)."""
    params = UNetParams(size.features, size.levels, out=2, inner=size.vector, skips=False)
    return _unet(params, size, dtype)


def _unet(params: UNetParams, size: SizeParams, dtype: DTypeLike | None) -> UNet:
    scale_init = {"uniform": uniform_scale, "normal": normal_scale}[size.scale_init]
    return UNet(params, dtype, kernel_init=XAVIER, scale_init=scale_init)


class VectorFromPose(nn.Module):
    """Q: pose codes to driving vectors, a linear map, zero until it has been fitted, and a batch norm.

    Attributes:
        features: length of the driving vector.
    """

    features: int

    @nn.compact
    def __call__(self, codes: Float[Array, "b 3"], *, train: bool) -> Float[Array, "b {self.features}"]:
        zero = nn.initializers.zeros_init()
        x = nn.Dense(self.features, use_bias=False, kernel_init=zero, precision="highest", name="dense")(codes)
        return BatchNorm(name="norm")(x, train=train)


def linear(features: int) -> nn.Dense:
    """A linear map with a bias, zero until it has been fitted: P, R, and what finds landmarks."""
    return nn.Dense(features, kernel_init=nn.initializers.zeros_init(), precision="highest")


class Embedded(NamedTuple):
    """What becomes of source frames.

    Attributes:
        face: the embedded face.
        grid: where every pixel of it lies in each source frame.
        confidence: the logarithm of how much each source frame counts there.
    """

    face: Float[Array, "b h w 3"]
    grid: Float[Array, "b k h w 2"]
    confidence: Float[Array, "b k h w 1"]


def moved_grid(offsets: Float[Array, "b h w 2"]) -> Float[Array, "b h w 2"]:
    """The grid of pixel centres plus the tangens hyperbolicus of raw offsets: any point of the frame can be reached."""
    offsets = wide(offsets)
    return coordinate_grid(*offsets.shape[1:3], dtype=offsets.dtype)[None] + jnp.tanh(offsets)


def embed(
    frames: Float[Array, "b k h w 3"], outputs: Float[Array, "b k h w 3"], bias: float | Float[Array, ""]
) -> Embedded:
    """The embedded face: the mean of the warped source frames, weighted by their confidences.

    Args:
        frames: source frames.
        outputs: of the embedding network: raw offsets and logarithms of confidences.
        bias: what is added to every confidence, not below 0.
    """
    b, k = frames.shape[:2]
    outputs = wide(outputs)
    grid = moved_grid(outputs[..., :2].reshape(b * k, *outputs.shape[2:4], 2))
    warped = grid_sample(frames.reshape(b * k, *frames.shape[2:]), grid).reshape(frames.shape)
    confidence = outputs[..., 2:]
    # the largest summand is taken out of numerator and denominator, so that none overflows
    least = jnp.log(jnp.asarray(bias, confidence.dtype))
    top = jax.lax.stop_gradient(jnp.maximum(jnp.max(confidence, axis=1, keepdims=True), least))
    weight = jnp.exp(confidence - top) + jnp.exp(least - top)
    face = jnp.sum(weight * warped, axis=1) / jnp.sum(weight, axis=1)
    return Embedded(face, grid.reshape(b, k, *grid.shape[1:]), confidence)


def driven_grid(outputs: Float[Array, "b h w 2"]) -> Float[Array, "b h w 2"]:
    """Where every pixel of the result lies in the embedded face, from the raw output of the driving network.

    The driving network ends with a tangens hyperbolicus of its own: offsets stay below tanh(1) = 0.76.
    """
    return moved_grid(jnp.tanh(wide(outputs)))


def with_overlay(face: Float[Array, "b h w 3"], overlay: Float[Array, "h w 4"]) -> Float[Array, "b h w 3"]:
    """A picture with transparency (RGBA in [0, 1]) laid on embedded faces."""
    opacity = overlay[None, ..., 3:]
    return (1 - opacity) * face + opacity * overlay[None, ..., :3]


@dataclasses.dataclass(frozen=True)
class Networks:
    """All networks, and how they are run in evaluation mode.

    Attributes:
        embedder, driver: the two large networks.
        pose_from_vector, vector_from_pose, vector_from_audio: the maps P, Q and R.
        landmark_head: finds landmarks by the driving vector; None where no loss asks for them.
        confidence_bias: added to the confidences of source frames.
    """

    embedder: UNet
    driver: UNet
    pose_from_vector: nn.Dense
    vector_from_pose: VectorFromPose
    vector_from_audio: nn.Dense
    landmark_head: nn.Dense | None
    confidence_bias: float

    @property
    def large(self) -> tuple[str, ...]:
        """The names of those that learn together."""
        return ("embedder", "driver", *(() if self.landmark_head is None else ("landmark_head",)))

    def embedded(
        self, variables: Variables, frames: Float[Array, "b k h w 3"], bias: float | Float[Array, ""] | None = None
    ) -> Embedded:
        """The embedded face of some source frames of one person each."""
        flat = frames.reshape(-1, *frames.shape[2:])
        outputs: Any = self.embedder.apply(variables["embedder"], flat, train=False)
        return embed(frames, outputs[0].reshape(frames.shape), self.confidence_bias if bias is None else bias)

    def vectors(self, variables: Variables, frames: Float[Array, "b h w 3"]) -> Float[Array, "b e"]:
        """The driving vectors of frames, before the ReLU that the way up begins with."""
        vector, _ = self.driver.apply(variables["driver"], frames, train=False, method="encode")  # pyright: ignore[reportGeneralTypeIssues]
        return wide(vector[:, 0, 0])

    def grids(self, variables: Variables, vectors: Float[Array, "b e"]) -> Float[Array, "b h w 2"]:
        """The sampling grids that driving vectors stand for."""
        outputs: Any = self.driver.apply(variables["driver"], vectors[:, None, None], (), train=False, method="decode")
        return driven_grid(outputs)

    def codes(self, variables: Variables, vectors: Float[Array, "b e"]) -> Float[Array, "b 3"]:
        """P: pose codes of driving vectors."""
        found: Any = self.pose_from_vector.apply(variables["pose_from_vector"], vectors)
        return found

    def from_codes(self, variables: Variables, codes: Float[Array, "b 3"]) -> Float[Array, "b e"]:
        """Q: driving vectors of pose codes, up to what poses do not say."""
        found: Any = self.vector_from_pose.apply(variables["vector_from_pose"], codes, train=False)
        return found

    def from_sound(self, variables: Variables, features: Float[Array, "b f"]) -> Float[Array, "b e"]:
        """R: driving vectors of features of sound, up to what sound does not say."""
        found: Any = self.vector_from_audio.apply(variables["vector_from_audio"], features)
        return found

    def landmarks(self, variables: Variables, vectors: Float[Array, "b e"]) -> Float[Array, "b p 2"]:
        """Where the driving vectors say that landmarks are."""
        assert self.landmark_head is not None
        found: Any = self.landmark_head.apply(variables["landmark_head"], nn.relu(vectors))
        return found.reshape(found.shape[0], -1, 2)
