"""A z-buffer rasteriser for any triangle mesh, without a custom kernel: jit, vmap, deterministic, differentiable.

Every face lists the pixel rows that it crosses and every such span the pixel centres inside; the lists of all faces are
arrays of fixed capacity. Each fragment knows its depth, and one scatter-min of (quantised depth, face) keys leaves the
nearest face in every pixel. A minimum knows no order, so the result is the same on every run and device. Shading is
deferred: `barycentrics` and `interpolate` recompute the winning face's attributes from the projected vertices, so that
gradients reach whatever made pixels, depths and attributes.

Which face wins is a constant to differentiation: gradients are those of the pixels' inside, and carry nothing of a
silhouette that moves over what lies behind it. Fit with landmarks and with colours inside the mask.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_TOLERANCE = 1e-3  # pixels that a face reaches over its edges: float32 leaves cracks between neighbours otherwise
_NEAR = 1e-3  # faces with a corner nearer than this, or behind the camera, are left out
_EMPTY = np.uint32(2**32 - 1)
_MAX_FACES = 2**20  # leaves 12 bits of depth


class Capacity(NamedTuple):
    """How much room a picture's lists have: sums over the faces that are not culled.

    Attributes:
        spans: pixel rows that faces cross.
        fragments: pixel centres inside faces.
    """

    spans: int
    fragments: int


class Fragments(NamedTuple):
    """What lies in front in every pixel.

    Attributes:
        face: the nearest face, -1 where there is none, int32 [h w].
        spans: how many spans the picture needs, int32.
        total: how many fragments it needs, int32; too low where the spans overflow.
        overflow: whether either is more than the capacity: faces are missing then.
    """

    face: Int[Array, "h w"]
    spans: Int[Array, ""]
    total: Int[Array, ""]
    overflow: Bool[Array, ""]


class _Faces(NamedTuple):
    """Per face, relative to the first pixel of its bounding box (float32 is too coarse for the picture)."""

    rows: Int[Array, " f"]  # of pixel centres in the box, 0 for faces that are culled
    box: Int[Array, "f 3"]  # x and y of the first pixel, width
    edges: Float[Array, "f 9"]  # x, y and constant coefficients of the pixels' distances inside of the three edges
    key: Float[Array, "f 3"]  # likewise, of the quantised depth


def _cross(a: Float[Array, "*n 2"], b: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _prepare(
    pixels: Float[Array, "v 2"],
    depth: Float[Array, " v"],
    faces: Int[Array, "f 3"],
    two_sided: Bool[Array, " f"] | None,
    size: int,
    levels: int,
) -> _Faces:
    corners, depths = pixels[faces], depth[faces]
    first = jnp.clip(jnp.ceil(corners.min(axis=1) - 0.5 - _TOLERANCE), 0, size)
    last = jnp.clip(jnp.floor(corners.max(axis=1) - 0.5 + _TOLERANCE), -1, size - 1)
    extent = jnp.maximum((last - first).astype(jnp.int32) + 1, 0)
    local = corners - first[:, None, :]
    edge = jnp.roll(local, -1, axis=1) - local
    length = jnp.sqrt((edge**2).sum(axis=-1))
    area = _cross(edge[:, 0], edge[:, 1])
    # v points down: faces that are counter-clockwise to the camera have a negative area
    front = (area < 0) if two_sided is None else (area < 0) | two_sided
    # thinner faces are inside what their neighbours reach over
    seen = front & (jnp.abs(area) > _TOLERANCE * length.max(axis=1)) & (depths > _NEAR).all(axis=1)
    rows = jnp.where(seen & (extent[:, 0] > 0), extent[:, 1], 0)
    # cross(edge, p - corner) / length: the distance of p from the edge, positive inside
    scale = jnp.sign(area)[:, None] / jnp.maximum(length, 1e-9)
    distance = jnp.stack([-edge[..., 1], edge[..., 0], -_cross(edge, local)], axis=-1) * scale[..., None]
    # near to far is 0 to 1, linear in 1 / depth, which is affine over the picture
    inverse = 1 / jnp.maximum(depths, _NEAR)
    shown = (rows > 0)[:, None]
    near = jnp.max(inverse, initial=0.0, where=shown)
    far = jnp.min(inverse, initial=near, where=shown)
    level = (near - inverse) * ((levels - 1) / jnp.maximum(near - far, 1e-9))
    # the plane through the corners: the gradient of level
    rise = level[:, 1:] - level[:, :1]
    legs = local[:, 1:] - local[:, :1]
    slope = (
        jnp.stack(
            [
                rise[:, 0] * legs[:, 1, 1] - rise[:, 1] * legs[:, 0, 1],
                rise[:, 1] * legs[:, 0, 0] - rise[:, 0] * legs[:, 1, 0],
            ],
            axis=1,
        )
        / jnp.where(seen, area, 1.0)[:, None]
    )
    constant = level[:, 0] - (slope * local[:, 0]).sum(axis=1)
    return _Faces(
        rows,
        jnp.concatenate([first.astype(jnp.int32), extent[:, :1]], axis=1),
        distance.reshape(-1, 9),
        jnp.concatenate([slope, constant[:, None]], axis=1),
    )


def _expand(
    count: Int[Array, " n"], capacity: int
) -> tuple[Int[Array, " {capacity}"], Int[Array, " {capacity}"], Int[Array, ""]]:
    """Lists `count` parts of every item: whose each is, its number in there (-1 past the end); how many there are."""
    end = jnp.cumsum(count)
    start = end - count
    begun = jnp.zeros(capacity, jnp.int32).at[start].add(1, mode="drop", indices_are_sorted=True)
    owner = jnp.cumsum(begun) - 1
    number = jnp.arange(capacity)
    return owner, jnp.where(number < end[-1], number - start[owner], -1), end[-1]


def rasterise(
    pixels: Float[Array, "v 2"],
    depth: Float[Array, " v"],
    faces: Int[Array, "f 3"],
    *,
    size: int,
    capacity: Capacity,
    two_sided: Bool[Array, " f"] | None = None,
) -> Fragments:
    """The nearest face in each of size x size pixels.

    Args:
        pixels: projected vertices, u to the right and v down, pixel centres at half numbers.
        depth: in front of the camera, any unit; faces that reach the camera's plane are left out.
        faces: corners, counter-clockwise where they face the camera.
        size: pixels per side.
        capacity: room for spans and fragments.
        two_sided: faces to keep when they turn their back; the others are culled then. None culls all.

    Raises:
        ValueError: more than 2^20 faces, which leave too few bits for the depth.
    """
    count = faces.shape[0]
    if count > _MAX_FACES:
        raise ValueError(f"at most {_MAX_FACES} faces can be rasterised, got {count}")
    face_bits = max(count - 1, 1).bit_length()
    levels = 2 ** min(32 - face_bits, 22) - 1  # 22 bits are what float32 computes faithfully
    pixels, depth = lax.stop_gradient(pixels), lax.stop_gradient(depth)
    prepared = _prepare(pixels, depth, faces, two_sided, size, levels)

    face, row, spans = _expand(prepared.rows, capacity.spans)
    box, edges, key = prepared.box[face], prepared.edges[face].reshape(-1, 3, 3), prepared.key[face]
    y = row + 0.5
    across = edges[..., 0]
    need = -_TOLERANCE - edges[..., 1] * y[:, None] - edges[..., 2]  # across * x >= need
    level = jnp.abs(across) < 1e-6
    bound = need / jnp.where(level, 1.0, across)
    low = jnp.max(jnp.where((across > 0) & ~level, bound, 0.0), axis=1)
    high = jnp.min(jnp.where((across < 0) & ~level, bound, jnp.inf), axis=1)
    start = jnp.ceil(low - 0.5).astype(jnp.int32)
    start = jnp.maximum(start, 0)
    stop = jnp.floor(jnp.minimum(high - 0.5, (box[:, 2] - 1).astype(jnp.float32))).astype(jnp.int32)
    hit = (row >= 0) & ~(level & (need > 0)).any(axis=1)
    width = jnp.where(hit, jnp.maximum(stop - start + 1, 0), 0)
    slot = (box[:, 1] + row) * size + box[:, 0] + start
    begin = key[:, 0] * (start + 0.5) + key[:, 1] * y + key[:, 2]

    span, column, total = _expand(width, capacity.fragments)
    quantised = jnp.clip(jnp.round(begin[span] + key[:, 0][span] * column), 0, levels - 1).astype(jnp.uint32)
    inside = column >= 0
    packed = jnp.where(inside, (quantised << face_bits) | face[span].astype(jnp.uint32), _EMPTY)
    target = jnp.where(inside, slot[span] + column, size * size)
    buffer = jnp.full(size * size + 1, _EMPTY).at[target].min(packed)[:-1]
    winner = jnp.where(buffer == _EMPTY, -1, (buffer & np.uint32(2**face_bits - 1)).astype(jnp.int32))
    overflow = (spans > capacity.spans) | (total > capacity.fragments)
    return Fragments(winner.reshape(size, size), spans, total, overflow)


def faces_camera(pixels: Float[Array, "v 2"], corners: Int[Array, "*n 3"]) -> Bool[Array, "*n"]:
    """Whether triangles are counter-clockwise in the picture, where v points down."""
    a, b, c = (pixels[corners[..., k]] for k in range(3))
    return _cross(b - a, c - a) < 0


def pixel_centres(size: int) -> Float[Array, "{size} {size} 2"]:
    """Where the centres of the pixels are: u, v in pixels."""
    axis = jnp.arange(size) + 0.5
    return jnp.stack(jnp.meshgrid(axis, axis), axis=-1)


def barycentrics(
    face: Int[Array, "*n"],
    points: Float[Array, "*n 2"],
    pixels: Float[Array, "v 2"],
    depth: Float[Array, " v"],
    faces: Int[Array, "f 3"],
) -> tuple[Int[Array, "*n 3"], Float[Array, "*n 3"]]:
    """The corners of a face and their weights at a point of the picture, in perspective.

    The weights sum to 1; they are differentiable in `points`, `pixels` and `depth`, with finite gradients. Where there
    is no face (-1) they are constants, and the corners those of face 0.
    """
    none = (face < 0)[..., None]
    corners = faces[jnp.maximum(face, 0)]
    # where there is none: no division by an area that may be zero
    a, b, c = (pixels[corners[..., k]] - points for k in range(3))
    opposite = jnp.where(none, 1.0, jnp.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=-1))
    weights = opposite / opposite.sum(axis=-1, keepdims=True) / jnp.where(none, 1.0, depth[corners])
    return corners, weights / weights.sum(axis=-1, keepdims=True)


def interpolate(
    attributes: Float[Array, "v c"], corners: Int[Array, "*n 3"], weights: Float[Array, "*n 3"]
) -> Float[Array, "*n c"]:
    """Attributes of the vertices at points of the picture, by what `barycentrics` returned."""
    first, second, third = (attributes[corners[..., k]] * weights[..., k, None] for k in range(3))
    return first + second + third


def vertex_normals(vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"]) -> Float[Array, "v 3"]:
    """Unit normals, outward for counter-clockwise faces, weighted by the area of the faces; 0 without faces."""
    corners = vertices[faces]
    normal = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = jnp.zeros_like(vertices).at[faces.reshape(-1)].add(jnp.repeat(normal, 3, axis=0))
    return unit(total)


def unit(vectors: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Vectors of length 1; 0 stays 0, with a finite gradient."""
    return vectors * lax.rsqrt((vectors**2).sum(axis=-1, keepdims=True) + 1e-10)
