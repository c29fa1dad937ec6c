"""Optical flow between two frames of the synthetic head, exact, with what is hidden in the second."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from reenax.geometry.camera import Camera, project
from reenax.geometry.head.head import SyntheticHead
from reenax.geometry.head.parameters import Parameters
from reenax.geometry.head.pose import pose_vertices
from reenax.geometry.head.render import look, seen_at
from reenax.geometry.raster import faces_camera, interpolate, pixel_centres


class Flow(NamedTuple):
    """Where the surface in each pixel of the first frame is in the second.

    Attributes:
        displacement: (u right, v down) in pixels; 0 on the background of the first frame.
        visible: whether the point is in the second picture with nothing in front.
        mask: whether there is any surface in the first frame.
        overflow: whether faces are missing for lack of room.
    """

    displacement: Float[Array, "h w 2"]
    visible: Bool[Array, "h w"]
    mask: Bool[Array, "h w"]
    overflow: Bool[Array, ""]


@functools.partial(jax.jit, static_argnames="size")
def flow(head: SyntheticHead, first: Parameters, second: Parameters, camera: Camera, *, size: int) -> Flow:
    """The motion of every pixel's surface point, the centre of the pixel, from the first frame to the second.

    The second picture sampled at ``pixel + displacement`` shows the same points of the skin where `visible`, in the
    second frame's light. Backwards flow is ``flow(head, second, first, ...)``.
    """
    views = [look(head, pose_vertices(head, frame), camera, size) for frame in (first, second)]
    here, there = views
    mask = here.fragments.face >= 0
    points, depth = project(interpolate(there.vertices, here.corners, here.weights), camera, size)
    seen, on_surface = seen_at(there, points, depth, head.model.faces)
    turned = faces_camera(there.pixels, here.corners) | head.two_sided[jnp.maximum(here.fragments.face, 0)]
    return Flow(
        displacement=jnp.where(mask[..., None], points - pixel_centres(size), 0.0),
        visible=mask & turned & seen & on_surface,
        mask=mask,
        overflow=here.fragments.overflow | there.fragments.overflow,
    )
