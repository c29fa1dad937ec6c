"""The random affine warp of all trainings: a little rotation, shift and zoom, and every other picture mirrored.

The matrix is composed as in the published code: rotation about the middle, shift added, everything times the zoom, the
middle moved back, mirrored.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from reenax.geometry.sampling import grid_sample
from reenax.methods.reenactgan.boundaries import MIRRORED

BORDER = 127 / 127.5 - 1  # what lies outside the picture: the byte 127


@dataclasses.dataclass(frozen=True)
class AffineParams:
    """How far pictures are warped; all zeros and ones leave them as they are.

    Attributes:
        rotation: in degrees, to both sides.
        shift: as a share of the picture's side, to all sides; 10 pixels of 256 as published.
        zoom: largest change of size, to both sides.
        mirror: probability.
        nearest: pictures are sampled at the nearest pixel, as the published code does by an argument in the wrong
            place, and not bilinearly.
    """

    rotation: float = 5.0
    shift: float = 10 / 256
    zoom: float = 0.03
    mirror: float = 0.5
    nearest: bool = False


class Affine(NamedTuple):
    """Where the picture's pixels go: ``p' = matrix @ (p, 1)``, and which pictures are mirrored."""

    matrix: Float[Array, "b 2 3"]
    mirrored: Float[Array, " b"]


def compose(
    rotation: Float[Array, " b"],
    shift: Float[Array, "b 2"],
    zoom: Float[Array, " b"],
    mirrored: Float[Array, " b"],
    size: int,
) -> Affine:
    """The warp of pictures of ``size`` pixels.

    Args:
        rotation: in degrees, counter-clockwise as seen.
        shift: (x, y) in pixels, before the zoom.
        zoom: factor.
        mirrored: 1 or 0.
        size: side of the picture.
    """
    angle, middle = rotation * (math.pi / 180), size / 2 - 0.5
    c, s = jnp.cos(angle), jnp.sin(angle)
    x = jnp.stack([c, s, (1 - c - s) * middle + shift[:, 0]], axis=-1)
    y = jnp.stack([-s, c, (1 - c + s) * middle + shift[:, 1]], axis=-1)
    back = ((1 - zoom) * middle)[:, None] * jnp.asarray([0, 0, 1], zoom.dtype)[None]
    x, y = zoom[:, None] * x + back, zoom[:, None] * y + back
    # size - x, not size - 1 - x: a mirrored picture is one pixel further to the right
    flipped = jnp.asarray([0, 0, size], x.dtype)[None] - x
    return Affine(jnp.stack([jnp.where(mirrored[:, None] > 0, flipped, x), y], axis=1), mirrored)


def random_affine(key: Key[Array, ""], count: int, size: int, params: AffineParams) -> Affine:
    """One warp per picture of ``size`` pixels."""
    turn, move, scale, flip = jax.random.split(key, 4)
    rotation = params.rotation * jax.random.uniform(turn, (count,), minval=-1, maxval=1)
    shift = params.shift * size * jax.random.uniform(move, (count, 2), minval=-1, maxval=1)
    zoom = 1 + params.zoom * jax.random.uniform(scale, (count,), minval=-1, maxval=1)
    mirrored = (jax.random.uniform(flip, (count,)) < params.mirror).astype(zoom.dtype)
    return compose(rotation, shift, zoom, mirrored, size)


def warp_pictures(
    pictures: Float[Array, "b h h 3"], affine: Affine, *, nearest: bool = False
) -> Float[Array, "b h h 3"]:
    """The warped pictures, both in [-1, 1]; grey outside."""
    size, matrix = pictures.shape[1], affine.matrix
    (a, b, c), (d, e, f) = (jnp.moveaxis(matrix[:, i, :, None, None], 1, 0) for i in (0, 1))
    axis = jnp.arange(size, dtype=matrix.dtype)
    x, y = (part[None] for part in jnp.meshgrid(axis, axis, indexing="xy"))
    determinant = a * e - b * d
    source_x = (e * (x - c) - b * (y - f)) / determinant
    source_y = (a * (y - f) - d * (x - c)) / determinant
    if nearest:
        source_x, source_y = jnp.round(source_x), jnp.round(source_y)
    grid = jnp.stack([source_x, source_y], axis=-1) * (2 / (size - 1)) - 1
    # zeros are sampled outside: with the border's grey taken off they are that grey
    return grid_sample(pictures - BORDER, grid, align_corners=True) + BORDER


def warp_landmarks(landmarks: Float[Array, "b 68 2"], affine: Affine, size: int) -> Float[Array, "b 68 2"]:
    """Where the landmarks go, in [-1, 1]; in a mirrored picture left ones become right ones."""
    pixel = (landmarks + 1) * ((size - 1) / 2)
    moved = jnp.einsum("bij,bkj->bki", affine.matrix[:, :, :2], pixel) + affine.matrix[:, None, :, 2]
    moved = moved * (2 / (size - 1)) - 1
    return jnp.where(affine.mirrored[:, None, None] > 0, moved[:, MIRRORED], moved)
