"""The networks of Monkey-Net: keypoint detector, dense motion, generator, discriminator.

All take pictures in [0, 1]. Submodules are called as in the published checkpoints, but for the hourglasses' last
convolutions, which stand beside them. ``folded`` is the inference layout of :mod:`reenax.nn.fold`; ``dtype`` the
compute type (None: that of the params); keypoints, flows, masks and whatever leaves a network are float32 at least.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import spatial_softmax
from reenax.geometry.sampling import resize_bilinear, resize_nearest, warp
from reenax.methods.monkey_net.embedding import Embedding, Keypoints, displacements, heatmaps, keypoints_of
from reenax.nn.blocks import Decoder, Encoder, Hourglass, Res, run_block
from reenax.nn.conv import Conv, uniform_fan_in
from reenax.nn.norm import BatchNorm
from reenax.nn.patch_discriminator import Judged, PatchDiscriminator, PatchParams

RESIZES = {"nearest": resize_nearest, "bilinear": resize_bilinear}


@dataclasses.dataclass(frozen=True)
class DetectorParams:
    """Sizes of the keypoint detector.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        scale_factor: size of the picture that the hourglass sees, as a share of the input's.
        temperature: of the spatial softmax.
        variance: of a keypoint: "matrix", "single" or a number, see `keypoints_of`.
        clip_variance: lower bound of the covariance's smaller eigenvalue; 0 for none.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    temperature: float = 0.1
    variance: str | float = "matrix"
    clip_variance: float = 0.001


@dataclasses.dataclass(frozen=True)
class MotionParams:
    """Sizes of the dense motion network.

    Attributes:
        block_expansion, num_blocks, max_features, scale_factor: as in :class:`DetectorParams`.
        num_group_blocks: 1x1 convolutions of each keypoint's maps alone, before the hourglass.
        displacement: whether the network also sees how far each keypoint moves.
        norm: what heatmaps are divided by; 0 for each by its own sum.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    num_group_blocks: int = 2
    displacement: bool = False
    norm: float = 100.0


@dataclasses.dataclass(frozen=True)
class GeneratorParams:
    """Sizes of the generator.

    Attributes:
        block_expansion, num_blocks, max_features: of encoder and decoder, as in an hourglass.
        num_refinement_blocks: residual blocks behind them.
        scale_factor: size at which the heatmaps are drawn that join every skip, as a share of the input's.
        interpolation: how flow and heatmaps come to the size of a skip, "nearest" or "bilinear".
        norm: what heatmaps are divided by; 0 for each by its own sum.
        dense_motion: the network that finds the flow.
        blend: a mask decides where the output is the warped source and where it is painted. Not published: it lets
            small models keep the source's detail within minutes of training.
    """

    block_expansion: int = 32
    num_blocks: int = 7
    max_features: int = 1024
    num_refinement_blocks: int = 4
    scale_factor: float = 0.25
    interpolation: str = "bilinear"
    norm: float = 100.0
    dense_motion: MotionParams = MotionParams()
    blend: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in RESIZES:
            raise ValueError(f"interpolation must be one of {', '.join(RESIZES)}, got {self.interpolation!r}")


@dataclasses.dataclass(frozen=True)
class DiscriminatorParams(PatchParams):
    """Sizes of the discriminator.

    Attributes:
        norm: what heatmaps are divided by; 0 for each by its own sum.
        others: as in :class:`reenax.nn.patch_discriminator.PatchParams`.
    """

    block_expansion: int = 32
    num_blocks: int = 4
    max_features: int = 256
    sn: bool = False
    pool_last: bool = True
    norm: float = 100.0


def _size(x: Float[Array, "b h w c"]) -> tuple[int, int]:
    return x.shape[1], x.shape[2]


def reduced(picture: Float[Array, "b h w c"], scale: float) -> Float[Array, "b i j c"]:
    """Every ``1 / scale``-th pixel, without a blur."""
    return resize_nearest(picture, (int(picture.shape[1] * scale), int(picture.shape[2] * scale)))


class KeypointDetector(nn.Module):
    """Finds keypoints without labels: means and covariances of heatmaps (section 3.1).

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        folded, dtype, remat: see the module.
    """

    num_kp: int
    params: DetectorParams = DetectorParams()
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w 3"], *, train: bool) -> Keypoints:
        p = self.params
        hourglass = Hourglass(
            p.block_expansion, p.num_blocks, p.max_features, folded=self.folded, dtype=self.dtype, name="predictor"
        )
        features = run_block(hourglass, reduced(picture, p.scale_factor), train, self.remat)
        logits = wide(Conv(self.num_kp, dtype=self.dtype, name="kp")(features))
        return keypoints_of(spatial_softmax(logits, p.temperature), p.variance, p.clip_variance)


class GroupConv(nn.Module):
    """A 1x1 convolution of each group of channels by itself; kernel [1, 1, channels of a group, features].

    Attributes:
        groups: number of groups; divides the channels, which are kept.
        dtype: compute type; None takes the widest of input and params.
    """

    groups: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        each = x.shape[-1] // self.groups
        kernel = self.param("kernel", uniform_fan_in(each), (1, 1, each, x.shape[-1]))
        bias = self.param("bias", uniform_fan_in(each), (x.shape[-1],))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        grouped = x.reshape(*x.shape[:3], self.groups, each)
        made = jnp.einsum("bhwgi,igo->bhwgo", grouped, kernel.reshape(each, self.groups, each))
        return made.reshape(x.shape) + bias[None, None, None]


class GroupBlock(nn.Module):
    """Grouped 1x1 convolution, batch norm, ReLU. Attributes as in :class:`GroupConv` and :class:`KeypointDetector`."""

    groups: int
    folded: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        x = GroupConv(self.groups, dtype=self.dtype, name="conv")(x)
        if not self.folded:
            x = BatchNorm(dtype=self.dtype, name="norm")(x, train=train)
        return nn.relu(x)


class Motion(NamedTuple):
    """Where each pixel of the driving frame comes from in the source.

    Attributes:
        flow: source positions in [-1, 1], a backward flow.
        mask: weight of the background and of every keypoint's displacement.
    """

    flow: Float[Array, "b i j 2"]
    mask: Float[Array, "b i j m"]


class DenseMotion(nn.Module):
    """Blends the displacements of background and keypoints into one flow and corrects it (section 3.2).

    Attributes:
        params: sizes.
        align_corners: the convention of the warps.
        folded, dtype, remat: see the module.
    """

    params: MotionParams = MotionParams()
    align_corners: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, small: Float[Array, "s i j 3"], kp_source: Keypoints, kp_driving: Keypoints, *, train: bool
    ) -> Motion:
        """``small`` and ``kp_source`` may be of one source for a batch of driving frames."""
        p, size = self.params, _size(small)
        layout = {"folded": self.folded, "dtype": self.dtype}
        shown = Embedding(displacement=p.displacement, deformed_source=True, background=True, norm=p.norm)
        x = shown(kp_source, kp_driving, size, small, self.align_corners)
        self.sow("intermediates", "mask_embedding", x)
        shift = displacements(kp_source, kp_driving, background=True)
        count = shift.shape[1]
        for i in range(p.num_group_blocks):
            x = run_block(GroupBlock(count, name=f"group_blocks_{i}", **layout), x, train, self.remat)
        hourglass = Hourglass(p.block_expansion, p.num_blocks, p.max_features, name="hourglass", **layout)
        features = run_block(hourglass, x, train, self.remat)
        found = wide(
            Conv(count + 2, dtype=self.dtype, kernel_init=nn.initializers.zeros, bias_init=_still, name="masks")(
                features
            )
        )
        mask = nn.softmax(found[..., :count])
        # sums of products: a matrix product would be rounded on some devices
        moved = (mask[..., None] * shift[:, None, None]).sum(axis=-2)
        grid = coordinate_grid(*size, dtype=moved.dtype)[None]
        return Motion(grid + moved + found[..., count:], mask)


def _still(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """The bias of the last convolution: at the start the background wins, and nothing is corrected."""
    return jnp.zeros(shape, dtype).at[0].set(2)


class Encoded(NamedTuple):
    """A source made ready to be animated any number of times.

    Attributes:
        small: the source at the dense motion network's size.
        levels: the source in [0, 1] and every level of the encoder, largest first.
    """

    small: Float[Array, "s i j 3"]
    levels: list[Float[Array, "s _ _ _"]]


class Generated(NamedTuple):
    """What the generator makes.

    Attributes:
        prediction: the driving frame with the source's looks, in [0, 1].
        deformed: the source warped and nothing painted.
        motion: how it was warped.
    """

    prediction: Float[Array, "b h w 3"]
    deformed: Float[Array, "b h w 3"]
    motion: Motion


class Refinement(nn.Module):
    """Residual blocks and a 1x1 convolution.

    Attributes:
        features: output channels.
        num_blocks: number of residual blocks.
        folded, dtype, remat: see the module.
    """

    features: int
    num_blocks: int
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w {self.features}"]:
        for i in range(self.num_blocks):
            x = run_block(Res(folded=self.folded, dtype=self.dtype, name=f"r{i}"), x, train, self.remat)
        return Conv(self.features, kernel_size=1, padding=0, dtype=self.dtype, name="conv-last")(x)


class Generator(nn.Module):
    """Encodes the source, warps every level by the flow, tells the decoder where keypoints go (section 3.3).

    Attributes:
        params: sizes.
        align_corners: the convention of the warps; True is that of the published checkpoints.
        folded, dtype, remat: see the module.
    """

    params: GeneratorParams = GeneratorParams()
    align_corners: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    def setup(self) -> None:
        p = self.params
        layout: dict[str, Any] = {"folded": self.folded, "dtype": self.dtype}
        sizes = {"block_expansion": p.block_expansion, "max_features": p.max_features}
        self.dense_motion_module = DenseMotion(p.dense_motion, self.align_corners, remat=self.remat, **layout)
        self.appearance_encoder = Encoder(num_blocks=p.num_blocks, **sizes, **layout)
        self.video_decoder = Decoder(**sizes, **layout)
        outputs = 4 if p.blend else 3
        self.refinement_module = Refinement(outputs, p.num_refinement_blocks, remat=self.remat, **layout)

    def __call__(
        self, source: Float[Array, "b h w 3"], kp_source: Keypoints, kp_driving: Keypoints, *, train: bool
    ) -> Generated:
        """The source (in [0, 1]) moved from its own keypoints to the driving ones.

        Raises:
            ValueError: sides that the encoder cannot halve as often as it should.
        """
        return self.decode(self.encode(source, train=train), kp_source, kp_driving, train=train)

    def encode(self, source: Float[Array, "s h w 3"], *, train: bool) -> Encoded:
        """The part that depends on the source alone."""
        p = self.params
        if source.shape[1] % 2**p.num_blocks or source.shape[2] % 2**p.num_blocks:
            raise ValueError(
                f"a generator of {p.num_blocks} blocks needs sides that are multiples of {2**p.num_blocks}, "
                f"got {source.shape[1]} x {source.shape[2]}"
            )
        levels = run_block(self.appearance_encoder, source, train, self.remat)
        return Encoded(reduced(source, p.dense_motion.scale_factor), levels)

    def decode(self, encoded: Encoded, kp_source: Keypoints, kp_driving: Keypoints, *, train: bool) -> Generated:
        """The part that depends on the driving frame; one encoded source may serve a batch of driving frames."""
        p, resize = self.params, RESIZES[self.params.interpolation]
        full = _size(encoded.levels[0])
        motion = self.dense_motion_module(encoded.small, kp_source, kp_driving, train=train)
        drawn = (int(full[0] * p.scale_factor), int(full[1] * p.scale_factor))
        heat = Embedding(norm=p.norm)(kp_source, kp_driving, drawn)
        self.sow("intermediates", "kp_embedding", heat)
        skips, deformed = [], []
        for level in encoded.levels:
            deformed.append(warp(level, resize(motion.flow, _size(level)), self.align_corners))
            joined = resize(heat, _size(level)).astype(level.dtype)
            skips.append(jnp.concatenate([deformed[-1], joined], axis=-1))
        painted = wide(self.refinement_module(self._decoded(skips, train), train=train))
        if not p.blend:
            return Generated(nn.sigmoid(painted), deformed[0], motion)
        kept = nn.sigmoid(painted[..., 3:])
        prediction = kept * wide(deformed[0]) + (1 - kept) * nn.sigmoid(painted[..., :3])
        return Generated(prediction, deformed[0], motion)

    def _decoded(self, skips: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w c"]:
        def call(module: nn.Module, levels: list[Array]) -> Array:
            return module(levels, train=train)  # pyright: ignore[reportCallIssue]

        made: Any = nn.remat(call)(self.video_decoder, skips) if self.remat else call(self.video_decoder, skips)
        return made


class Discriminator(nn.Module):
    """Judges a picture together with the driving keypoints' heatmaps (section 3.4).

    Attributes:
        params: sizes.
        dtype: see the module.
    """

    params: DiscriminatorParams = DiscriminatorParams()
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        self.patches = PatchDiscriminator(self.params, self.dtype)
        nn.share_scope(self, self.patches)  # published checkpoints have no level between

    def __call__(self, picture: Float[Array, "b h w 3"], keypoints: Keypoints, *, train: bool) -> Judged:
        heat = heatmaps(keypoints, _size(picture), self.params.norm).astype(picture.dtype)
        return self.patches(jnp.concatenate([picture, heat], axis=-1), train=train)
