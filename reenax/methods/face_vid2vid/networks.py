"""The generator: a source as a volume of features, moved in space, and painted as a picture.

It takes pictures in [0, 1]. Submodules are called as in the published checkpoints. ``folded`` is the inference layout
of :mod:`reenax.nn.fold`; ``dtype`` the compute type (None: that of the params); keypoints, flows, masks and whatever
leaves a network are float32 at least.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.sampling import resize_bilinear, warp
from reenax.geometry.volumes import warp_volume
from reenax.methods.face_vid2vid.keypoints import Keypoints, to_picture, to_volume
from reenax.methods.face_vid2vid.motion import Motion, MotionField, MotionParams
from reenax.nn.blocks import ConvNorm, Down, Res, Up, run_block
from reenax.nn.conv import Conv
from reenax.nn.spade import SpadeDecoder


@dataclasses.dataclass(frozen=True)
class GeneratorParams:
    """Sizes of the generator.

    Attributes:
        block_expansion, max_features: level i has ``min(max_features, block_expansion * 2 ** i)`` channels.
        num_down_blocks: halvings of the encoder.
        channels, depth: of the volume, which has the height and width of the lowest level.
        num_resblocks: residual blocks of the volume, and as many of the picture behind the warp.
        spade: paint by modulated blocks instead of residual ones, and begin with a 3x3 instead of a 7x7 kernel.
        spade_width, spade_blocks, spade_hidden: see :class:`reenax.nn.spade.SpadeDecoder`.
        dense_motion: the network that finds flow and occlusion.
        blend: the output is ``occlusion * warped source + (1 - occlusion) * painted``, where the warped source is the
            picture under the flow of those depths that a further head of the motion network calls visible. Not
            published: a skip that lets small models keep the source's detail within minutes of training.
    """

    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    channels: int = 32
    depth: int = 16
    num_resblocks: int = 6
    spade: bool = False
    spade_width: int = 512
    spade_blocks: int = 6
    spade_hidden: int = 128
    dense_motion: MotionParams = dataclasses.field(default_factory=MotionParams)
    blend: bool = False


class Encoded(NamedTuple):
    """A source made ready to be animated any number of times.

    Attributes:
        picture: the source in [0, 1].
        volume: its features in space.
        compressed: the few channels that the motion network warps.
    """

    picture: Float[Array, "s y x 3"]
    volume: Float[Array, "s d h w c"]
    compressed: Float[Array, "s d h w e"]


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


class Generator(nn.Module):
    """Encodes the source as a volume, warps it by the motion field, masks it by the occlusion and paints the picture.

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        rotate_flow: whether motions turn with the head, see :func:`reenax.methods.face_vid2vid.motion.proposals`.
        align_corners: the convention of the warps; False is that of the published checkpoints.
        folded, dtype, remat: see the module.
    """

    num_kp: int
    params: GeneratorParams = GeneratorParams()
    rotate_flow: bool = True
    align_corners: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    def setup(self) -> None:
        p, layout = self.params, {"folded": self.folded, "dtype": self.dtype}
        widths = [min(p.max_features, p.block_expansion * 2**i) for i in range(p.num_down_blocks + 1)]
        self.dense_motion_network = MotionField(
            self.num_kp,
            p.dense_motion,
            self.rotate_flow,
            self.align_corners,
            depths=p.depth if p.blend else 0,
            remat=self.remat,
            **layout,
        )
        self.first = ConvNorm(widths[0], 3 if p.spade else 7, **layout)
        self.down_blocks = [Down(width, **layout) for width in widths[1:]]
        self.second = Conv(p.channels * p.depth, 1, dtype=self.dtype)
        self.resblocks_3d = [Res(**layout) for _ in range(p.num_resblocks)]
        self.third = ConvNorm(widths[-1], slope=0.01, **layout)
        self.fourth = Conv(widths[-1], 1, dtype=self.dtype)
        if p.spade:
            ups = (*widths[:1:-1], widths[0])
            self.decoder = SpadeDecoder(p.spade_width, p.spade_blocks, ups, p.spade_hidden, **layout)
            return
        self.resblocks_2d = [Res(**layout) for _ in range(p.num_resblocks)]
        self.up_blocks = [Up(width, **layout) for width in widths[-2::-1]]
        self.final = Conv(3, 7, dtype=self.dtype)

    def __call__(
        self, source: Float[Array, "b h w 3"], kp_source: Keypoints, kp_driving: Keypoints, *, train: bool
    ) -> Generated:
        """The source (in [0, 1]) moved from its own keypoints to the driving ones."""
        return self.decode(self.encode(source, train=train), kp_source, kp_driving, train=train)

    def encode(self, source: Float[Array, "s h w 3"], *, train: bool) -> Encoded:
        """The part that depends on the source alone."""
        features = run_block(self.first, source, train, self.remat)
        for block in self.down_blocks:
            features = run_block(block, features, train, self.remat)
        volume = to_volume(self.second(features), self.params.depth)
        for block in self.resblocks_3d:
            volume = run_block(block, volume, train, self.remat)
        return Encoded(source, volume, self.dense_motion_network.compressed(volume, train=train))

    def decode(self, encoded: Encoded, kp_source: Keypoints, kp_driving: Keypoints, *, train: bool) -> Generated:
        """The part that depends on the driving frame; one encoded source may serve a batch of driving frames."""
        motion = self.dense_motion_network(encoded.compressed, kp_source, kp_driving, train=train)
        volume = warp_volume(encoded.volume, motion.flow, align_corners=self.align_corners)
        features = run_block(self.third, to_picture(volume), train, self.remat)
        features = self.fourth(features) * motion.occlusion.astype(features.dtype)
        painted = nn.sigmoid(wide(self._paint(features, train)))
        size = (encoded.picture.shape[1], encoded.picture.shape[2])
        flow = jnp.clip(resize_bilinear(_flow_of_front(motion), size), -1, 1)  # no black from outside the picture
        deformed = warp(encoded.picture, flow, self.align_corners)
        if not self.params.blend:
            return Generated(painted, deformed, motion)
        occlusion = resize_bilinear(motion.occlusion, size)
        return Generated(occlusion * deformed + (1 - occlusion) * painted, deformed, motion)

    def _paint(self, features: Float[Array, "b h w c"], train: bool) -> Float[Array, "b y x 3"]:
        if self.params.spade:
            return run_block(self.decoder, features, train, self.remat)
        for block in (*self.resblocks_2d, *self.up_blocks):
            features = run_block(block, features, train, self.remat)
        return self.final(features)


def _flow_of_front(motion: Motion) -> Float[Array, "b h w 2"]:
    """Where each pixel comes from: the flow's mean over the depths that are seen, or over all."""
    flow = motion.flow[..., :2]
    if motion.seen is None:
        return flow.mean(axis=1)
    return (motion.seen.transpose(0, 3, 1, 2)[..., None] * flow).sum(axis=1)
