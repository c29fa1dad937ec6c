"""From parameters to posed vertices: identity and expression, gaze, lids kept outside the eyeballs, head and neck."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.geometry.camera import Camera, euler_rotation, pixels_to_unit, project, rotate
from reenax.geometry.head.head import SyntheticHead
from reenax.geometry.head.names import EXPRESSIONS
from reenax.geometry.head.parameters import Parameters

PIVOT = (0.0, -9.0, -3.0)  # where the head turns on the neck, centimetres
_LID_RADIUS = (
    1.63  # no vertex of the skin within this of an eye's centre, or edges between them meet the eyeball's 1.50
)
_LID_SOFTNESS = 0.03
_LID_OVERLAP = 0.05  # centimetres that the upper lid reaches over the lower one where they meet
_BLINKS = (EXPRESSIONS.index("eyeBlinkLeft"), EXPRESSIONS.index("eyeBlinkRight"))
_LID_PAIRS = (((43, 47), (44, 46)), ((37, 41), (38, 40)))  # landmarks on the upper and the lower lid, x > 0 first


def eye_centres(head: SyntheticHead, identity: Float[Array, " i"]) -> Float[Array, "2 3"]:
    """The centres of the eyeballs of a person (x > 0 first) before the head moves, centimetres."""
    return head.eye_centre + jnp.tensordot(identity, head.eye_identity, axes=1)


def _turn_eyes(
    vertices: Float[Array, "v 3"], head: SyntheticHead, centres: Float[Array, "2 3"], gaze: Float[Array, "2 2"]
) -> Float[Array, "v 3"]:
    for side in (0, 1):
        pitch, yaw = gaze[side]
        turn = euler_rotation(jnp.stack([-pitch, yaw, jnp.zeros_like(yaw)]))
        turned = rotate(vertices - centres[side][None], turn) + centres[side][None]
        vertices = jnp.where((head.eye == side + 1)[:, None], turned, vertices)
    return vertices


def _limited(expression: Float[Array, " e"]) -> Float[Array, " e"]:
    """Without the blinks, which `_close_lids` does; lips close no further than the jaw has opened them."""
    jaw, close = EXPRESSIONS.index("jawOpen"), EXPRESSIONS.index("mouthClose")
    expression = expression.at[close].min(expression[jaw])
    return expression.at[jnp.asarray(_BLINKS)].set(0.0)


def _close_lids(vertices: Float[Array, "v 3"], head: SyntheticHead, blinks: Float[Array, "2"]) -> Float[Array, "v 3"]:
    """Blinks, by the share of what is open: 1 closes every eye, whoever's and whatever else its lids do.

    And lids that other expressions would push past each other meet instead.
    """
    heights, places = head.model.landmarks(vertices)[:, 1], head.model.landmarks(head.canonical)[:, 0]
    for field, blink, pairs in zip(head.model.expression_basis[jnp.asarray(_BLINKS)], blinks, _LID_PAIRS, strict=True):
        moves = head.model.landmarks(field)[:, 1]
        upper, lower = jnp.asarray(pairs).T
        gap, closing = heights[upper] - heights[lower] + _LID_OVERLAP, moves[lower] - moves[upper]
        opening = 0.5 * (gap + jnp.sqrt(gap**2 + _LID_SOFTNESS**2))  # > 0
        weight = (gap - (1 - blink) * opening) / closing
        # the weights that two places along the lids need, and a line through them
        start, end = places[upper]
        along = jnp.clip((head.canonical[:, 0] - start) / (end - start), -0.5, 1.5)
        vertices = vertices + (weight[0] + (weight[1] - weight[0]) * along)[:, None] * field
    return vertices


def _lift_lids(vertices: Float[Array, "v 3"], head: SyntheticHead, centres: Float[Array, "2 3"]) -> Float[Array, "v 3"]:
    """Skin that any mix of identity, blink and gaze put into an eyeball moves out along its radius, smoothly."""
    front = jnp.clip(head.canonical[:, 2] - 3, 0, 1) * head.model.regions["skin"]
    for side in (0, 1):
        # wider than the lids: identities move the skin around them against the eyeball
        apart = head.canonical[:, :2] - head.eye_centre[side, None, :2]
        near = jnp.clip(5 - jnp.sqrt((apart**2).sum(axis=1)) / 0.5, 0, 1)
        offset = vertices - centres[side][None]
        radius = jnp.sqrt((offset**2).sum(axis=1) + 1e-8)
        over = radius - _LID_RADIUS
        outside = _LID_RADIUS + 0.5 * (over + jnp.sqrt(over**2 + _LID_SOFTNESS**2))
        vertices += (front * near * (outside / radius - 1))[:, None] * offset
    return vertices


def pose_vertices(head: SyntheticHead, parameters: Parameters) -> Float[Array, "v 3"]:
    """The vertices of one frame in centimetres, camera's axes. Differentiable everywhere, with finite gradients.

    ``head.model.shape``, except where lids or lips would pass through each other or through an eye. The head turns
    about `PIVOT` and moves; the neck blends linearly towards the torso, which stays.
    """
    parameters = jax.tree.map(jnp.asarray, parameters)
    vertices = head.model.shape(parameters.identity, _limited(parameters.expression))
    vertices = _close_lids(vertices, head, parameters.expression[jnp.asarray(_BLINKS)])
    centres = eye_centres(head, parameters.identity)
    vertices = _turn_eyes(vertices, head, centres, parameters.gaze)
    vertices = _lift_lids(vertices, head, centres)
    pivot = jnp.asarray(PIVOT)[None]
    moved = rotate(vertices - pivot, euler_rotation(parameters.rotation)) + pivot + parameters.translation[None]
    return vertices + head.head_weight[:, None] * (moved - vertices)


@functools.partial(jax.jit, static_argnames="size")
def posed_landmarks(head: SyntheticHead, parameters: Parameters, camera: Camera, *, size: int) -> Float[Array, "68 2"]:
    """The 68 landmarks (x, y) in units of a picture of size x size: -1 and 1 are the centres of its outer pixels."""
    points = head.model.landmarks(pose_vertices(head, jax.tree.map(jnp.asarray, parameters)))
    return pixels_to_unit(project(points, camera, size)[0], size)
