"""Keypoints in space: the canonical ones of a person, a head's pose and expression, and what both make together.

Coordinates are (x, y, z) in [-1, 1]: x to the right and y down along the picture, z along the depth of the feature
volume. Angles are in degrees. Submodules are called as in the published checkpoints, but for the outputs of the pose
estimator: there the layers of yaw and roll have each other's names, here their own.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.heatmaps import expected_points, spatial_softmax
from reenax.geometry.sampling import antialias_downsample
from reenax.nn.blocks import Down, Up, run_block
from reenax.nn.conv import Conv, uniform_fan_in
from reenax.nn.norm import BatchNorm

BIN_WIDTH, FIRST_BIN = 3.0, -99.0  # degrees


@dataclasses.dataclass(frozen=True)
class DetectorParams:
    """Sizes of the canonical keypoint detector.

    Attributes:
        block_expansion, num_blocks, max_features: of the halving (2-D) and the doubling (3-D) blocks.
        depth: of the volume of heatmaps.
        scale_factor: size of the picture that is seen, as a share of the input's. The paper sees all of it.
        temperature: of the spatial softmax.
        kernel_size: of the last convolution; 7 in the paper, 3 in the published checkpoints.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    depth: int = 16
    scale_factor: float = 0.25
    temperature: float = 0.1
    kernel_size: int = 7


@dataclasses.dataclass(frozen=True)
class EstimatorParams:
    """Sizes of the pose and expression estimator, a residual network.

    Attributes:
        block_expansion: channels of the first convolution; stage i has ``4 * block_expansion * 2 ** i``.
        max_features: upper bound of channels.
        blocks: residual blocks per stage, beside the halving one that every stage but the first begins with.
        num_bins: of every angle, three degrees each.
        gain: of the pooled features that the last layers see; 1 as published. These layers sum hundreds of features,
            and one step of Adam at a rate of 0.001 moves every output by a tenth of the picture: 0.1 steadies small
            models that are trained quickly.
    """

    block_expansion: int = 64
    max_features: int = 2048
    blocks: tuple[int, ...] = (3, 3, 5, 2)
    num_bins: int = 66
    gain: float = 1.0


@dataclasses.dataclass(frozen=True)
class RotationParams:
    """How three angles make a rotation ``R = Rx Ry Rz``.

    Attributes:
        axes: the angle around x, y and z, of "yaw", "pitch" and "roll". One early checkpoint of the published code
            has ("roll", "pitch", "yaw").
        half_turn: radians of 180 degrees; the published code takes 3.14 for pi, and its checkpoints were trained so.
    """

    axes: tuple[str, str, str] = ("pitch", "yaw", "roll")
    half_turn: float = math.pi


class HeadPose(NamedTuple):
    """Where a head is and what its face does.

    Attributes:
        yaw, pitch, roll: angles in degrees.
        translation: of the head.
        expression: of every keypoint.
    """

    yaw: Float[Array, " b"]
    pitch: Float[Array, " b"]
    roll: Float[Array, " b"]
    translation: Float[Array, "b 3"]
    expression: Float[Array, "b k 3"]


class Keypoints(NamedTuple):
    """Keypoints of one frame.

    Attributes:
        value: positions (x, y, z).
        rotation: of the head.
    """

    value: Float[Array, "b k 3"]
    rotation: Float[Array, "b 3 3"]


def expected_angle(logits: Float[Array, "b n"]) -> Float[Array, " b"]:
    """The mean angle in degrees under a softmax over bins of three degrees, the first at -99 (Ruiz et al., 2018)."""
    bins = BIN_WIDTH * jnp.arange(logits.shape[-1], dtype=logits.dtype) + FIRST_BIN
    return (nn.softmax(logits) * bins[None]).sum(axis=-1)


def rotation_matrix(pose: HeadPose, params: RotationParams) -> Float[Array, "b 3 3"]:
    """``Rx(a) Ry(b) Rz(c)`` for column vectors, each ``[[cos, -sin], [sin, cos]]`` in its plane yz, zx, xy."""
    angles = [getattr(pose, name) / 180 * params.half_turn for name in params.axes]
    (ca, cb, cc), (sa, sb, sc) = map(jnp.cos, angles), map(jnp.sin, angles)
    rows = [
        [cb * cc, -cb * sc, sb],
        [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
        [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_angles(rotation: Float[Array, "b 3 3"]) -> tuple[Float[Array, " b"], ...]:
    """The angles in radians around x, y and z of ``R = Rx Ry Rz``; that around y in [-pi / 2, pi / 2]."""
    sine = jnp.clip(rotation[:, 0, 2], -1, 1)
    return (
        jnp.arctan2(-rotation[:, 1, 2], rotation[:, 2, 2]),
        jnp.arcsin(sine),
        jnp.arctan2(-rotation[:, 0, 1], rotation[:, 0, 0]),
    )


def turned(rotation: Float[Array, "b 3 3"], points: Float[Array, "#b *n 3"]) -> Float[Array, "b *n 3"]:
    """A rotation times points as column vectors, in full float precision on every device."""
    between = (1,) * (points.ndim - 2)
    matrix = rotation.reshape(rotation.shape[0], *between, 3, 3)
    return (matrix * points[..., None, :]).sum(axis=-1)


def compose(canonical: Float[Array, "#b k 3"], pose: HeadPose, params: RotationParams) -> Keypoints:
    """``R p_c + t + e_k`` (equation 1): a person's keypoints in a pose; one person may serve a batch of poses."""
    rotation = rotation_matrix(pose, params)
    value = turned(rotation, canonical) + pose.translation[:, None] + pose.expression
    return Keypoints(value, rotation)


class _Lifter(nn.Module):
    """Halves a picture, turns channels into depth, and doubles the volume to the picture's size again."""

    params: DetectorParams
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b d h w e"]:
        p = self.params
        widths = [min(p.max_features, p.block_expansion * 2**i) for i in range(p.num_blocks + 1)]
        for i, width in enumerate(widths[1:]):
            x = Down(width, dtype=self.dtype, name=f"down_blocks_down{i}")(x, train=train)
        x = Conv(widths[-1] * p.depth, 1, dtype=self.dtype, name="conv")(x)
        x = to_volume(x, p.depth)
        for i, width in enumerate(widths[-2::-1]):
            x = Up(width, dtype=self.dtype, name=f"up_blocks_up{i}")(x, train=train)
        return x


def to_volume(x: Float[Array, "b h w e"], depth: int) -> Float[Array, "b {depth} h w c"]:
    """Channels into depth: channel ``c * depth + d`` of the picture is channel c at depth d."""
    x = x.reshape(*x.shape[:3], -1, depth)
    return jnp.transpose(x, (0, 4, 1, 2, 3))


def to_picture(x: Float[Array, "b d h w c"]) -> Float[Array, "b h w d*c"]:
    """The inverse of :func:`to_volume`."""
    batch, depth, height, width, channels = x.shape
    return jnp.transpose(x, (0, 2, 3, 4, 1)).reshape(batch, height, width, channels * depth)


class CanonicalDetector(nn.Module):
    """Finds keypoints of a person as if the head looked straight ahead with no expression (section 3.1).

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        dtype: compute type; None takes the widest of input and params. Keypoints are float32 at least.
        remat: compute activations again in the backward pass.
    """

    num_kp: int
    params: DetectorParams = DetectorParams()
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b {self.num_kp} 3"]:
        """Of pictures in [0, 1]."""
        p = self.params
        small = antialias_downsample(picture, p.scale_factor)
        features = run_block(_Lifter(p, self.dtype, name="predictor"), small, train, self.remat)
        logits = wide(Conv(self.num_kp, p.kernel_size, dtype=self.dtype, name="kp")(features))
        return expected_points(spatial_softmax(logits, p.temperature))


class _Bottleneck(nn.Module):
    """Residual block: 1x1 to a quarter of the channels, 3x3, 1x1 back, each with batch norm.

    Halves the size with ``stride`` 2, where the shortcut is a 1x1 convolution with batch norm.
    """

    stride: int
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j c"]:
        layers: dict[str, Any] = {"dtype": self.dtype}
        features, y = x.shape[-1], x
        shapes = ((features // 4, 1, 1), (features // 4, 3, self.stride), (features, 1, 1))
        for i, (width, side, stride) in enumerate(shapes, start=1):
            y = Conv(width, side, side // 2, stride, name=f"conv{i}", **layers)(y)
            y = BatchNorm(name=f"norm{i}", **layers)(y, train=train)
            y = nn.relu(y) if i < 3 else y
        if self.stride > 1:
            x = Conv(features, 1, 0, self.stride, name="skip", **layers)(x)
            x = BatchNorm(name="norm4", **layers)(x, train=train)
        return nn.relu(x + y)


class PoseEstimator(nn.Module):
    """Reads a head's angles, translation and expression from a picture (section 3.1).

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        dtype: compute type; None takes the widest of input and params. What is read is float32 at least.
        remat: compute activations again in the backward pass.
    """

    num_kp: int
    params: EstimatorParams = EstimatorParams()
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> HeadPose:
        """Of pictures in [0, 1]."""
        p = self.params
        layers: dict[str, Any] = {"dtype": self.dtype}

        def normed(x: Array, i: int) -> Array:
            return nn.relu(BatchNorm(name=f"norm{i}", **layers)(x, train=train))

        x = Conv(p.block_expansion, 7, 3, 2, name="conv1", **layers)(picture)
        x = jnp.pad(normed(x, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))  # nothing is below 0
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        for stage, blocks in enumerate(p.blocks):
            width = min(p.max_features, 4 * p.block_expansion * 2**stage)
            x = normed(Conv(width, 1, name=f"conv{stage + 2}", **layers)(x), stage + 2)
            if stage:
                x = run_block(_Bottleneck(2, self.dtype, name=f"block{2 * stage}"), x, train, self.remat)
            for i in range(blocks):
                name = f"block{2 * stage + 1}_b{2 * stage + 1}_{i}"
                x = run_block(_Bottleneck(1, self.dtype, name=name), x, train, self.remat)
        x = p.gain * wide(x).mean(axis=(1, 2))
        angles = {name: _dense(x, p.num_bins, f"fc_{name}") for name in ("yaw", "pitch", "roll")}
        for name, logits in angles.items():
            self.sow("intermediates", f"{name}_logits", logits)
        expression = _dense(x, 3 * self.num_kp, "fc_exp").reshape(-1, self.num_kp, 3)
        degrees = {name: expected_angle(logits) for name, logits in angles.items()}
        return HeadPose(**degrees, translation=_dense(x, 3, "fc_t"), expression=expression)


def _dense(x: Float[Array, "b c"], features: int, name: str) -> Float[Array, "b {features}"]:
    """A dense layer as PyTorch initialises it; called within a compact method."""
    init = uniform_fan_in(x.shape[-1])
    return nn.Dense(features, kernel_init=init, bias_init=init, precision="highest", name=name)(x)
