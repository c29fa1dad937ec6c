"""Many motions of a picture blended into one flow, by a network that sees what each of them would do to the source.

First Order Motion's dense motion network (section 3.2), and that of its successor for articulated motion. A subclass
says which motions there are. Submodules are called as in the published checkpoints.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.sampling import warp
from reenax.nn.blocks import Hourglass, run_block
from reenax.nn.conv import Conv


@dataclasses.dataclass(frozen=True)
class MotionParams:
    """Sizes of the network.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        scale_factor: size of the picture that the hourglass sees, as a share of the input's.
        kernel_size: of the two heads; 7 as published, 3 is faster in small models.
    """

    block_expansion: int = 64
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    kernel_size: int = 7


class Motion(NamedTuple):
    """Where each pixel of the driving frame comes from in the source.

    Attributes:
        flow: source positions in [-1, 1], a backward flow.
        occlusion: 1 where the warped source may be kept, 0 where it must be painted.
        mask: weight of every motion.
        sparse_deformed: the small source warped by every motion.
    """

    flow: Float[Array, "b i j 2"]
    occlusion: Float[Array, "b i j 1"]
    mask: Float[Array, "b i j m"]
    sparse_deformed: Float[Array, "b m i j 3"]


class MotionBlend(nn.Module):
    """Weighs motions at every pixel, and finds what is occluded.

    Attributes:
        params: sizes.
        align_corners: the convention of the warps.
        folded: the inference layout of :mod:`reenax.nn.fold`.
        dtype: compute type; None takes the widest of input and params. What is found is float32 at least.
        remat: compute activations again in the backward pass.
    """

    params: MotionParams = MotionParams()
    align_corners: bool = True
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def blend(
        self,
        small: Float[Array, "s i j 3"],
        motions: Float[Array, "b m i j 2"],
        heat: Float[Array, "b i j m"],
        *,
        train: bool,
    ) -> Motion:
        """One motion from many.

        Args:
            small: the source in [0, 1]; may be of one source for a batch of motions.
            motions: source positions in [-1, 1], the background's first.
            heat: what else is known of every motion, as maps.
            train: whether the norms use the batch's statistics.
        """
        p = self.params
        batch, count, height, width = motions.shape[:4]
        rows = motions.reshape(batch, count * height, width, 2)
        deformed = warp(small, rows, self.align_corners).reshape(batch, count, height, width, 3)
        # per motion first the map, then the colours: the channel order of the published kernels
        parts = jnp.concatenate([heat[..., None], deformed.transpose(0, 2, 3, 1, 4)], axis=-1)
        parts = parts.reshape(batch, height, width, 4 * count)
        sizes = (p.block_expansion, p.num_blocks, p.max_features)
        hourglass = Hourglass(*sizes, folded=self.folded, dtype=self.dtype, name="hourglass")
        features = run_block(hourglass, parts, train, self.remat)
        mask = nn.softmax(wide(Conv(count, p.kernel_size, dtype=self.dtype, name="mask")(features)))
        occlusion = nn.sigmoid(wide(Conv(1, p.kernel_size, dtype=self.dtype, name="occlusion")(features)))
        flow = (mask.transpose(0, 3, 1, 2)[..., None] * motions).sum(axis=1)
        return Motion(flow, occlusion, mask, deformed)
