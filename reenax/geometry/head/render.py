"""Pictures of the synthetic head with exact labels: one jitted function of (head, parameters, camera)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from reenax.geometry.camera import Camera, pixels_to_unit, project
from reenax.geometry.head.appearance import Appearance, appearance, coordinates_first
from reenax.geometry.head.head import SyntheticHead
from reenax.geometry.head.names import EYEBALL, HEAD, MOUTH, TEETH
from reenax.geometry.head.parameters import Parameters
from reenax.geometry.head.pose import pose_vertices
from reenax.geometry.light import radiance
from reenax.geometry.raster import (
    Capacity,
    Fragments,
    barycentrics,
    interpolate,
    pixel_centres,
    rasterise,
    unit,
    vertex_normals,
)

GAMMA = 2.2
DEPTH_TOLERANCE = 0.35  # centimetres that a point may lie behind the surface in its pixel and still count as seen
_STEEP = 1.0  # centimetres that a surface may fall within a pixel


class Buffers(NamedTuple):
    """A picture and what is known about every pixel of it.

    Labels are those of the surface at the centre of each pixel, whatever the supersampling; they are 0 where there is
    only background, unless said otherwise.

    Attributes:
        colour: lit, with highlights, on the background; display RGB in [-1, 1], averaged over the samples.
        unlit: the albedo as display RGB in [-1, 1], averaged over the samples; black background.
        albedo: linear RGB.
        depth: centimetres in front of the camera.
        normals: unit, world axes, turned to the camera.
        part: number in `names.PARTS`, -1 background.
        segments: number in `appearance.SEGMENTS`, -1 background.
        canonical: place on the mean head at rest, without hair, centimetres.
        uv: texture coordinates of the model in [0, 1], v upwards.
        mask: whether there is any surface.
        landmarks: 68 in the iBUG order, (x, y) in units: -1 and 1 are the centres of the first and last pixel.
        landmarks_3d: the same with z towards the camera in the same unit, 0 at the head's origin.
        landmarks_visible: in the picture, and nothing in front.
        total: fragments that the picture needed (at the samples' resolution).
        overflow: whether there was too little room for them: faces are missing then.
    """

    colour: Float[Array, "h w 3"]
    unlit: Float[Array, "h w 3"]
    albedo: Float[Array, "h w 3"]
    depth: Float[Array, "h w"]
    normals: Float[Array, "h w 3"]
    part: Int[Array, "h w"]
    segments: Int[Array, "h w"]
    canonical: Float[Array, "h w 3"]
    uv: Float[Array, "h w 2"]
    mask: Bool[Array, "h w"]
    landmarks: Float[Array, "68 2"]
    landmarks_3d: Float[Array, "68 3"]
    landmarks_visible: Bool[Array, " 68"]
    total: Int[Array, ""]
    overflow: Bool[Array, ""]


class View(NamedTuple):
    """A posed head in front of a camera, at some number of pixels.

    Attributes:
        vertices: centimetres, [v 3].
        pixels: their projections, [v 2].
        depth: in front of the camera, [v].
        fragments: the nearest face of every pixel.
        corners: of that face, [h w 3].
        weights: barycentric, [h w 3].
    """

    vertices: Float[Array, "v 3"]
    pixels: Float[Array, "v 2"]
    depth: Float[Array, " v"]
    fragments: Fragments
    corners: Int[Array, "h w 3"]
    weights: Float[Array, "h w 3"]


def capacity(faces: int, size: int) -> Capacity:
    """Room for a head of so many faces, from measurements: 1.4 times what the worst of a thousand draws needed.

    That was with the camera's field at 10.5 cm; at 7 cm it is 1.15 times, and views into the mouth alone overflow.
    """
    return Capacity(spans=int(0.6 * faces + 1.7 * faces**0.5 * size), fragments=int(1.6 * size**2) + 1000)


def look(head: SyntheticHead, vertices: Float[Array, "v 3"], camera: Camera, size: int) -> View:
    """Projects and rasterises posed vertices."""
    faces = head.model.faces
    pixels, depth = project(vertices, camera, size)
    room = capacity(faces.shape[0], size)
    fragments = rasterise(pixels, depth, faces, size=size, capacity=room, two_sided=head.two_sided)
    corners, weights = barycentrics(fragments.face, pixel_centres(size), pixels, depth, faces)
    return View(vertices, pixels, depth, fragments, corners, weights)


def seen_at(
    view: View, points: Float[Array, "*n 2"], depth: Float[Array, "*n"], faces: Int[Array, "f 3"]
) -> tuple[Bool[Array, "*n"], Bool[Array, "*n"]]:
    """Whether points (pixels, and their depth in cm) are in the picture with nothing in front; whether on a surface.

    The surface is that at the centre of the point's pixel, continued to the point along its plane where it falls away
    from the camera.
    """
    size = view.fragments.face.shape[0]
    cell = jnp.floor(points).astype(jnp.int32)
    within = ((cell >= 0) & (cell < size)).all(axis=-1)
    x, y = jnp.moveaxis(jnp.clip(cell, 0, size - 1), -1, 0)
    face, corners, weights = view.fragments.face[y, x], view.corners[y, x], view.weights[y, x]
    here = (view.depth[corners] * weights).sum(axis=-1)
    _, weights = barycentrics(face, points, view.pixels, view.depth, faces)
    continued = (view.depth[corners] * weights).sum(axis=-1)
    surface = jnp.maximum(here, jnp.minimum(continued, here + _STEEP))
    return within & ((face < 0) | (depth <= surface + DEPTH_TOLERANCE)), within & (face >= 0)


class _Surface(NamedTuple):
    """What the pixels show before light falls on it."""

    part: Int[Array, "h w"]
    canonical: Float[Array, "h w 3"]
    uv: Float[Array, "h w 2"]
    normals: Float[Array, "h w 3"]
    depth: Float[Array, "h w"]
    look: Appearance


def _surface(head: SyntheticHead, view: View, normals: Float[Array, "v 3"], parameters: Parameters) -> _Surface:
    # the angle around the head has a seam, its sine and cosine have none; at the crown (v = 0) it has no value
    angle = head.local[:, 1]
    around = jnp.where((head.local[:, 2] == 0)[:, None], 0.0, jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=1))
    columns = [head.canonical, head.local, around, head.model.uv, normals, view.depth[:, None]]
    fields = interpolate(jnp.concatenate(columns, axis=1), view.corners, view.weights)
    planes = coordinates_first(fields)
    canonical, local, around, uv, normals, depth = jnp.split(planes, [3, 6, 8, 10, 13])
    part = head.part[jnp.maximum(view.fragments.face, 0)]
    eye = part == EYEBALL
    sine, cosine = jnp.where(eye, local[1], around[0]), jnp.where(eye, local[0], around[1])
    known = sine**2 + cosine**2 > 1e-8  # at poles there is no direction to differentiate
    angle = jnp.arctan2(sine, jnp.where(known, cosine, 1.0))
    u = jnp.where(part == HEAD, 0.5 + angle / (2 * jnp.pi), uv[0])
    appear = appearance(part, canonical, local, angle, parameters.materials)
    return _Surface(
        part=part,
        canonical=jnp.moveaxis(canonical, 0, -1),
        uv=jnp.stack([u, uv[1]], axis=-1),
        normals=unit(jnp.moveaxis(normals, 0, -1)),
        depth=depth[0],
        look=appear,
    )


def _to_camera(normals: Float[Array, "h w 3"], camera: Camera) -> Float[Array, "h w 3"]:
    """Normals turned towards the camera, as those of surfaces seen from behind."""
    size = normals.shape[0]
    ray = (pixel_centres(size) * (2 / size) - 1) * (camera.half_field / camera.distance)
    towards = normals[..., 2] - normals[..., 0] * ray[..., 0] + normals[..., 1] * ray[..., 1]
    return jnp.where((towards < 0)[..., None], -normals, normals)


def _lit(surface: _Surface, normals: Float[Array, "h w 3"], parameters: Parameters) -> Float[Array, "h w 3"]:
    """Linear RGB: matt reflection of the light and highlights of the key."""
    half = unit(parameters.key_light + jnp.asarray([0.0, 0.0, 1.0]))
    shine = jnp.maximum(jnp.einsum("hwc,c->hw", normals, half, precision="highest"), 0.0)
    part, look = surface.part, surface.look
    skin = (0.06 + 0.22 * look.lips) * (1 - 0.6 * look.hair) * shine**18
    wet = jnp.where((part == TEETH) | (part == MOUTH), 0.12 * shine**30, 0.0)
    highlight = jnp.where(part == EYEBALL, 0.9 * shine**220, jnp.where(part == HEAD, skin, wet))
    return radiance(look.albedo, normals, parameters.light) + highlight[..., None]


def _background(parameters: Parameters, size: int) -> Float[Array, "{size} {size} 3"]:
    x, y = jnp.moveaxis(pixel_centres(size) / size, -1, 0)
    top, bottom = parameters.background[0], parameters.background[1]
    wave = 1 + 0.25 * jnp.sin(6 * x + 4 * y + parameters.background_phase)
    return jnp.einsum(
        "khw,kc->hwc", jnp.stack([(1 - y) * wave, y * wave]), jnp.stack([top, bottom]), precision="highest"
    )


def to_display(linear: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Linear RGB to display RGB in [-1, 1], by a gamma of 2.2; clipped to [1e-4, 1], which keeps gradients finite."""
    return jnp.clip(linear, 1e-4, 1.0) ** (1 / GAMMA) * 2 - 1


def _box_average(picture: Float[Array, "s s c"], samples: int) -> Float[Array, "h w c"]:
    size = picture.shape[0] // samples
    return picture.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))


@functools.partial(jax.jit, static_argnames=("size", "supersampling"))
def render(
    head: SyntheticHead, parameters: Parameters, camera: Camera, *, size: int, supersampling: int = 1
) -> Buffers:
    """One picture of size x size pixels with its labels. Compiled once per size; use ``jax.vmap`` for many at once.

    Differentiable in parameters and camera through what is seen in each pixel: positions, normals, texture coordinates,
    colours, depths and landmarks. A silhouette that moves over the background or over another part changes colours too,
    and of that the gradient knows nothing: compare with other pictures inside the mask.

    Args:
        head: see `synthetic_head`.
        parameters: of one frame.
        camera: the standard one is ``Camera()``.
        size: pixels per side, at least 2.
        supersampling: colours are means of this many samples squared per pixel.

    Raises:
        ValueError: a size below 2 or a supersampling below 1.
    """
    if size < 2 or supersampling < 1:
        raise ValueError(f"size must be at least 2 and supersampling at least 1, got {size} and {supersampling}")
    parameters = jax.tree.map(jnp.asarray, parameters)
    vertices = pose_vertices(head, parameters)
    normals = vertex_normals(vertices, head.model.faces)

    def shade(
        samples: int,
    ) -> tuple[View, _Surface, Float[Array, "s s 3"], Float[Array, "s s 3"], Float[Array, "s s 3"]]:
        view = look(head, vertices, camera, size * samples)
        mask = (view.fragments.face >= 0)[..., None]
        surface = _surface(head, view, normals, parameters)
        towards = _to_camera(surface.normals, camera)
        lit = jnp.where(mask, _lit(surface, towards, parameters), _background(parameters, size * samples))
        unlit = jnp.where(mask, surface.look.albedo, 0.0)
        return view, surface, towards, to_display(lit), to_display(unlit)

    view, surface, towards, colour, unlit = shade(1)
    finest = view
    if supersampling > 1:
        # labels keep to the centres of the pixels, where an even number of samples has none
        finest, _, _, colour, unlit = shade(supersampling)
    mask = view.fragments.face >= 0
    landmarks, landmarks_3d, visible = _landmarks(head, view, camera)

    def shown(field: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (field.ndim - 2)), field, 0)

    return Buffers(
        colour=_box_average(colour, supersampling),
        unlit=_box_average(unlit, supersampling),
        albedo=shown(surface.look.albedo),
        depth=shown(surface.depth),
        normals=shown(towards),
        part=jnp.where(mask, surface.part, -1),
        segments=jnp.where(mask, surface.look.segment, -1),
        canonical=shown(surface.canonical),
        uv=shown(surface.uv),
        mask=mask,
        landmarks=landmarks,
        landmarks_3d=landmarks_3d,
        landmarks_visible=visible,
        total=finest.fragments.total,
        overflow=view.fragments.overflow | finest.fragments.overflow,
    )


def _landmarks(
    head: SyntheticHead, view: View, camera: Camera
) -> tuple[Float[Array, "68 2"], Float[Array, "68 3"], Bool[Array, " 68"]]:
    """Landmarks in units, with z, and whether they are seen."""
    size = view.fragments.face.shape[0]
    points = head.model.landmarks(view.vertices)
    pixels, depth = project(points, camera, size)
    visible, _ = seen_at(view, pixels, depth, head.model.faces)
    flat = pixels_to_unit(pixels, size)
    scale = size / (size - 1) / camera.half_field  # units per centimetre at z = 0
    return flat, jnp.concatenate([flat, points[:, 2:] * scale], axis=1), visible
