"""The motion of a volume: where every voxel of the driving frame comes from in the source (section 3.2).

Each keypoint proposes one motion of the whole volume, a network weighs the proposals at every voxel. Nothing here holds
a warped copy of the features per keypoint: only four compressed channels are warped by every proposal, one proposal at
a time, and the weighted flow is a sum of a few numbers per keypoint, since all proposals are affine.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.geometry.grids import coordinate_grid
from reenax.geometry.heatmaps import gaussian_heatmap
from reenax.geometry.volumes import translated, warp_volume
from reenax.methods.face_vid2vid.keypoints import Keypoints, to_picture, turned
from reenax.nn.blocks import Hourglass, run_block
from reenax.nn.conv import Conv
from reenax.nn.norm import BatchNorm

KEYPOINT_VARIANCE = 0.01  # of the heatmap around a keypoint, in units of [-1, 1] squared


@dataclasses.dataclass(frozen=True)
class MotionParams:
    """Sizes of the motion network.

    Attributes:
        block_expansion, num_blocks, max_features: of the hourglass.
        compress: channels that are warped by every keypoint's motion.
        last: whether a convolution of all channels ends the hourglass: in the published code, not in the paper.
        kernel_size: of the two heads; 7 as published, 3 is faster in small models.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    compress: int = 4
    last: bool = False
    kernel_size: int = 7


class Motion(NamedTuple):
    """Where each voxel of the driving frame comes from in the source.

    Attributes:
        flow: source positions (x, y, z) in [-1, 1], a backward flow.
        occlusion: 1 where the warped source may be kept, 0 where it must be painted.
        mask: weight of the background's and of every keypoint's motion.
        seen: weight of every depth in a picture of the volume's front; None where that is not estimated.
    """

    flow: Float[Array, "b d h w 3"]
    occlusion: Float[Array, "b h w 1"]
    mask: Float[Array, "b d h w m"]
    seen: Float[Array, "b h w d"] | None


class Proposals(NamedTuple):
    """The motions that keypoints propose, ``T_k(z) = R z + o_k`` with one R for all, behind ``T_0(z) = z``.

    Attributes:
        offsets: o_k of every keypoint.
        rotation: R; None for the identity.
    """

    offsets: Float[Array, "b k 3"]
    rotation: Float[Array, "b 3 3"] | None


def proposals(source: Keypoints, driving: Keypoints, *, rotate: bool) -> Proposals:
    """``T_k(z) = R_s R_d^-1 (z - p^D_k) + p^S_k`` (equation 2 of the paper's third version).

    Args:
        source: may be of one source for a batch of driving frames.
        driving: where the volume is to go.
        rotate: the paper's form; else pure translations ``z - p^D_k + p^S_k``, as the published code has them.
    """
    if not rotate:
        return Proposals(source.value - driving.value, None)
    both = (source.rotation[:, :, None, :] * driving.rotation[:, None, :, :]).sum(axis=-1)  # R_s R_d^T
    return Proposals(source.value - turned(both, driving.value), both)


def moved_volumes(
    volume: Float[Array, "s d h w c"], motions: Proposals, *, align_corners: bool
) -> Float[Array, "b d h w m c"]:
    """The volume as the background's and every keypoint's motion would have it, one motion after the other."""
    batch = motions.offsets.shape[0]
    still = jnp.zeros((batch, 1, 3), motions.offsets.dtype)
    if motions.rotation is None:
        offsets = jnp.concatenate([still, motions.offsets], axis=1)
        moved = translated(volume, offsets, align_corners=align_corners)
        return jnp.moveaxis(moved, 1, -2)
    rotation, size = motions.rotation, volume.shape[1:4]
    grid = jnp.broadcast_to(coordinate_grid(*size, dtype=rotation.dtype)[None], (batch, *size, 3))

    def one(offset: Float[Array, "b 3"]) -> Float[Array, "b d h w c"]:
        return warp_volume(volume, turned(rotation, grid) + offset[:, None, None, None], align_corners=align_corners)

    background = translated(volume, still, align_corners=align_corners)
    moved = lax.map(jax.checkpoint(one), motions.offsets.swapaxes(0, 1)).swapaxes(0, 1)
    return jnp.moveaxis(jnp.concatenate([background, moved], axis=1), 1, -2)


def combined_flow(mask: Float[Array, "b d h w m"], motions: Proposals) -> Float[Array, "b d h w 3"]:
    """``sum_k m_k(z) T_k(z)``, with the background first.

    As ``(m_0 + (1 - m_0) R) z + sum_k m_k o_k``: the mask sums to 1, and no proposal is written down.
    """
    grid = coordinate_grid(*mask.shape[1:4], dtype=mask.dtype)[None]
    shift = jnp.einsum("bdhwk,bki->bdhwi", mask[..., 1:], motions.offsets, precision=lax.Precision.HIGHEST)
    if motions.rotation is None:
        return grid + shift
    background = mask[..., :1]
    return background * grid + (1 - background) * turned(motions.rotation, grid) + shift


def heatmap_difference(
    source: Float[Array, "s k 3"], driving: Float[Array, "b k 3"], size: tuple[int, int, int]
) -> Float[Array, "b d h w m"]:
    """Zeros for the background, and per keypoint the Gaussian at its driving less that at its source position."""
    drawn = (gaussian_heatmap(points, size, KEYPOINT_VARIANCE) for points in (driving, source))
    difference = jnp.subtract(*drawn)
    return jnp.pad(difference, [(0, 0)] * (difference.ndim - 1) + [(1, 0)])


def motion_inputs(
    compressed: Float[Array, "s d h w c"],
    source: Keypoints,
    driving: Keypoints,
    *,
    rotate: bool,
    align_corners: bool,
) -> Float[Array, "b d h w e"]:
    """What the hourglass sees: per motion first the heatmap, then the moved channels, as the published kernels do."""
    motions = proposals(source, driving, rotate=rotate)
    moved = moved_volumes(compressed, motions, align_corners=align_corners)
    depth, height, width = compressed.shape[1:4]
    heat = heatmap_difference(source.value, driving.value, (depth, height, width)).astype(moved.dtype)
    parts = jnp.concatenate([heat[..., None], moved], axis=-1)
    return parts.reshape(*parts.shape[:4], -1)


class MotionField(nn.Module):
    """Weighs the motions of background and keypoints, and finds what is occluded.

    Attributes:
        num_kp: number of keypoints.
        params: sizes.
        rotate: whether proposals turn with the head, see :func:`proposals`.
        align_corners: the convention of the warps.
        depths: depth of the volume where the weights of depths in a picture are estimated, see :class:`Motion`; else 0.
        folded: the inference layout of :mod:`reenax.nn.fold`.
        dtype: compute type; None takes the widest of input and params. What is found is float32 at least.
        remat: compute activations again in the backward pass.
    """

    num_kp: int
    params: MotionParams = MotionParams()
    rotate: bool = True
    align_corners: bool = True
    depths: int = 0
    folded: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    def setup(self) -> None:
        p, head = self.params, {"kernel_size": self.params.kernel_size, "dtype": self.dtype}
        self.compress = Conv(p.compress, 1, dtype=self.dtype)
        self.norm = BatchNorm(dtype=self.dtype)
        self.hourglass = Hourglass(p.block_expansion, p.num_blocks, p.max_features, p.last, self.folded, self.dtype)
        self.mask = Conv(self.num_kp + 1, **head)
        self.occlusion = Conv(1, **head)
        if self.depths:
            self.front = Conv(self.depths, **head)

    def compressed(self, volume: Float[Array, "s d h w e"], *, train: bool) -> Float[Array, "s d h w c"]:
        """The few channels that are warped by every motion; they depend on the source alone."""
        return nn.relu(self.norm(self.compress(volume), train=train))

    def __call__(
        self, compressed: Float[Array, "s d h w c"], source: Keypoints, driving: Keypoints, *, train: bool
    ) -> Motion:
        """``compressed`` and ``source`` may be of one source for a batch of driving frames."""
        parts = motion_inputs(compressed, source, driving, rotate=self.rotate, align_corners=self.align_corners)
        features = run_block(self.hourglass, parts, train, self.remat)
        mask, flat = nn.softmax(wide(self.mask(features))), to_picture(features)
        return Motion(
            flow=combined_flow(mask, proposals(source, driving, rotate=self.rotate)),
            occlusion=nn.sigmoid(wide(self.occlusion(flat))),
            mask=mask,
            seen=nn.softmax(wide(self.front(flat))) if self.depths else None,
        )
