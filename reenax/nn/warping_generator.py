"""The generator of First Order Motion and of its successor for articulated motion: features warped, masked, repainted.

A subclass adds the network that finds flow and occlusion. Submodules are called as in the published checkpoints.
Pictures are in [0, 1]; ``folded`` is the inference layout of :mod:`reenax.nn.fold`.
"""

import dataclasses
from typing import NamedTuple

from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.sampling import antialias_downsample, resize_bilinear, warp
from reenax.nn.blocks import ConvNorm, Down, Res, Up, run_block
from reenax.nn.conv import Conv
from reenax.nn.motion_blend import Motion


@dataclasses.dataclass(frozen=True)
class WarpingParams:
    """Sizes of the generator.

    Attributes:
        block_expansion, max_features: level i has ``min(max_features, block_expansion * 2 ** i)`` channels.
        num_down_blocks: halvings of the encoder.
        num_bottleneck_blocks: residual blocks behind the warp.
        skips: the warped features of every level, and at last the warped source, are blended in by the occlusion.
        blend: the warped source alone is. Not published: it lets small models keep the source's detail within minutes
            of training.
    """

    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    num_bottleneck_blocks: int = 6
    skips: bool = False
    blend: bool = False


class Encoded(NamedTuple):
    """A source made ready to be animated any number of times.

    Attributes:
        picture: the source in [0, 1].
        small: the source at the motion network's size.
        levels: features of the encoder, largest first: all of them where ``skips`` is set, else the deepest alone.
    """

    picture: Float[Array, "s h w 3"]
    small: Float[Array, "s i j 3"]
    levels: tuple[Float[Array, "s _ _ _"], ...]


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


class WarpingGenerator(nn.Module):
    """Encodes the source, warps its features by a flow, masks them by an occlusion map and paints the rest.

    Attributes:
        params: sizes.
        align_corners: the convention of the warps.
        folded, dtype, remat: see the module.
    """

    params: WarpingParams = WarpingParams()
    align_corners: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    def setup(self) -> None:
        p = self.params
        layout = {"folded": self.folded, "dtype": self.dtype}
        widths = [min(p.max_features, p.block_expansion * 2**i) for i in range(p.num_down_blocks + 1)]
        self.first = ConvNorm(widths[0], kernel_size=7, **layout)
        self.down_blocks = [Down(width, **layout) for width in widths[1:]]
        self.bottleneck = [Res(**layout) for _ in range(p.num_bottleneck_blocks)]
        self.up_blocks = [Up(width, **layout) for width in widths[-2::-1]]
        self.final = Conv(3, kernel_size=7, dtype=self.dtype)

    def encoded(self, source: Float[Array, "s h w 3"], scale: float, *, train: bool) -> Encoded:
        """The part that depends on the source alone; ``scale`` is the share of its size that finds the motion."""
        levels = [run_block(self.first, source, train, self.remat)]
        for block in self.down_blocks:
            levels.append(run_block(block, levels[-1], train, self.remat))
        kept = tuple(levels) if self.params.skips else (levels[-1],)
        return Encoded(source, antialias_downsample(source, scale), kept)

    def painted(self, source: Encoded, motion: Motion, *, train: bool) -> Generated:
        """Pictures; one source may serve a batch of motions, and is then not copied."""
        levels, flow, occlusion = source.levels, motion.flow, motion.occlusion

        def warped(level: Float[Array, "s h w c"]) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w 1"]]:
            size = (level.shape[1], level.shape[2])
            moved = warp(level, resize_bilinear(flow, size), self.align_corners)
            return moved, resize_bilinear(occlusion, size).astype(level.dtype)

        def blended(level: Float[Array, "s h w c"], x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
            moved, keep = warped(level)
            return keep * moved + (1 - keep) * x

        moved, keep = warped(levels[-1])
        x = moved * keep
        for block in self.bottleneck:
            x = run_block(block, x, train, self.remat)
        for i, block in enumerate(self.up_blocks):
            x = blended(levels[-1 - i], x) if self.params.skips else x
            x = run_block(block, x, train, self.remat)
        x = blended(levels[0], x) if self.params.skips else x
        x = nn.sigmoid(wide(self.final(x)))
        deformed, keep = warped(source.picture)
        if self.params.skips or self.params.blend:
            x = keep * deformed + (1 - keep) * x
        return Generated(x, deformed, motion)
