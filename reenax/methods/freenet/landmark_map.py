"""Landmarks in the units of the paper, the crop that gives these units, and the picture that the generator reads.

The paper's landmarks are pixels of a crop of 512x512 around the face; those of records and drivers are in [-1, 1], the
centres of the frame's border pixels. A frame counts as such a crop: -1 is pixel 0 and 1 is pixel 511.

The picture is drawn as the published code draws it with OpenCV and Pillow, bit for bit: a blob of fixed shape at every
point, then a bicubic reduction with antialiasing whose every pass is rounded to bytes. It has no gradient.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

CROP = 512  # side of the paper's crop, in pixels
WIDER = 1.2  # half width of the crop over half the larger side of the points' bounding box
PRECISION = 22  # bits behind the point of Pillow's weights
LOW = 11  # of these so many go into the lower half, so that both halves' sums are exact in float32

# Half width of the blob at rows 0 to 5 from its middle: `cv2.circle` of radius 1 and thickness 8 in OpenCV 5.0.
_HALF_WIDTHS = (5, 4, 4, 4, 3, 0)
_BLOB = np.array(
    [(x, y) for y in range(-5, 6) for x in range(-_HALF_WIDTHS[abs(y)], _HALF_WIDTHS[abs(y)] + 1)], np.float32
)


def to_pixels(landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
    """From [-1, 1] of the frame to pixels of the paper's crop."""
    return (landmarks + 1) * ((CROP - 1) / 2)


def from_pixels(landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
    """From pixels of the paper's crop to [-1, 1] of the frame."""
    return landmarks * (2 / (CROP - 1)) - 1


class Placement(NamedTuple):
    """The square that the paper crops a face to.

    Attributes:
        centre: of the points' bounding box.
        radius: half of its larger side.
    """

    centre: Float[Array, "b 2"]
    radius: Float[Array, " b"]

    @property
    def corner(self) -> Float[Array, "b 1 2"]:
        """The upper left corner, not rounded."""
        return (self.centre - WIDER * self.radius[:, None])[:, None]

    @property
    def pixel(self) -> Float[Array, "b 1 1"]:
        """What a pixel of the crop measures outside of it."""
        return (2 * WIDER / CROP * self.radius)[:, None, None]

    def enter(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
        """From the units of the square to pixels of the crop; one square may serve many faces."""
        return (landmarks - self.corner) / self.pixel

    def leave(self, landmarks: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
        """Back again."""
        return landmarks * self.pixel + self.corner


def placement(landmarks: Float[Array, "b p 2"]) -> Placement:
    """Where the paper's preprocessing crops faces with these landmarks, in the units of the landmarks."""
    low, high = jnp.min(landmarks, axis=1), jnp.max(landmarks, axis=1)
    return Placement((low + high) / 2, jnp.max(high - low, axis=-1) / 2)


def landmark_mask(landmarks: Float[Array, "b p 2"], canvas: int = CROP) -> Float[Array, "b {canvas} {canvas}"]:
    """1 where the blob of a point is, else 0.

    Args:
        landmarks: in pixels of the canvas; the fraction is cut off. What lies outside is not drawn.
        canvas: side of the canvas.
    """
    columns, rows = (jnp.trunc(landmarks[..., i, None]) + _BLOB[None, None, :, i] for i in range(2))
    outside = (rows < 0) | (columns < 0) | ~(jnp.maximum(rows, columns) < canvas)  # what is no number is outside too
    place = jnp.where(outside, float(canvas**2), rows * canvas + columns).astype(jnp.int32)
    pictures = jnp.broadcast_to(jnp.arange(len(landmarks))[:, None, None], place.shape)
    mask = jnp.zeros((len(landmarks), canvas**2)).at[pictures, place].set(1.0, mode="drop")
    return mask.reshape(-1, canvas, canvas)


@functools.cache
def _pillow_weights(size: int, canvas: int) -> np.ndarray:
    """Weights of Pillow's bicubic reduction, [size canvas], as whole multiples of 2^-PRECISION."""
    scale = canvas / size
    reach, weights = 2 * scale, np.zeros((size, canvas))
    for i in range(size):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), canvas)
        weights[i, first:last] = _bicubic((np.arange(first, last) - centre + 0.5) / scale)
        weights[i] /= weights[i].sum()
    return np.trunc(weights * 2**PRECISION + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2."""
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _reduced(bytes_: Float[Array, "b canvas n"], size: int) -> Float[Array, "b {size} n"]:
    """One pass along the second axis: whole numbers from 0 to 255 in and out, in exact arithmetic."""
    weights = _pillow_weights(size, bytes_.shape[1])
    upper = (weights + 2 ** (LOW - 1)) >> LOW
    sums = [
        jnp.einsum("sc,bcn->bsn", jnp.asarray(half, jnp.float32), bytes_, precision=lax.Precision.HIGHEST)
        for half in (upper, weights - (upper << LOW))
    ]
    total = (sums[0].astype(jnp.int32) << LOW) + sums[1].astype(jnp.int32) + (1 << (PRECISION - 1))
    return jnp.clip(total >> PRECISION, 0, 255).astype(jnp.float32)


def landmark_map(landmarks: Float[Array, "b p 2"], size: int, canvas: int = CROP) -> Float[Array, "b {size} {size} 3"]:
    """The picture of the landmarks that the generator reads, in [-1, 1]: white dots on black, three equal channels.

    Args:
        landmarks: in pixels of the paper's crop, any number of them.
        size: side of the picture.
        canvas: side of the canvas that is drawn on and then reduced; a larger one makes smaller dots.
    """
    mask = landmark_mask(jnp.asarray(landmarks, jnp.float32) * (canvas / CROP), canvas)
    across = jnp.swapaxes(_reduced(jnp.swapaxes(255 * mask, 1, 2), size), 1, 2)
    grey = (_reduced(across, size) / 255 - 0.5) / 0.5
    return jnp.broadcast_to(lax.stop_gradient(grey)[..., None], (*grey.shape, 3))


def enlarged(picture: Float[Array, "b h w 3"], side: int) -> Float[Array, "b {side} {side} 3"]:
    """A landmark map enlarged for a sheet."""
    return jax.image.resize(picture, (picture.shape[0], side, side, 3), "nearest")
