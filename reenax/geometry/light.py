"""Light as nine spherical harmonics per colour, with the constants of published monocular reconstruction.

Radiance is ``albedo * sum_b light_b Y_b(n)``: Ramamoorthi and Hanrahan, "An efficient representation for irradiance
environment maps", 2001, in the scaling of Deng et al., "Accurate 3D face reconstruction with weakly-supervised
learning", 2019. There the bands carry a = (pi, 2 pi / sqrt 3, 2 pi / sqrt 8) in place of the cosine lobe's
(pi, 2 pi / 3, pi / 4); `directional_light` undoes that, so that a matt surface reflects what physics says.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

# what the published constants multiply each band by, and what the clamped cosine would
_BAND = (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8))
_COSINE = (math.pi, 2 * math.pi / 3, math.pi / 4)
_C0, _C1, _C2 = (
    1 / math.sqrt(4 * math.pi),
    math.sqrt(3) / math.sqrt(4 * math.pi),
    3 * math.sqrt(5) / math.sqrt(12 * math.pi),
)
_BANDS = (0, 1, 1, 1, 2, 2, 2, 2, 2)


def _harmonics(directions: Float[Array, "*n 3"], bands: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Float[Array, "*n 9"]:
    """The nine real harmonics of unit vectors, orthonormal over the sphere, times a factor for each of the three bands.

    Order and signs are the published ones.
    """
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    values = [
        jnp.full_like(x, _C0),
        -_C1 * y,
        _C1 * z,
        -_C1 * x,
        _C2 * x * y,
        -_C2 * y * z,
        0.5 * _C2 / math.sqrt(3) * (3 * z * z - 1),
        -_C2 * x * z,
        0.5 * _C2 * (x * x - y * y),
    ]
    return jnp.stack([bands[band] * value for band, value in zip(_BANDS, values, strict=True)], axis=-1)


def sh9(normals: Float[Array, "*n 3"]) -> Float[Array, "*n 9"]:
    """The nine basis functions Y_b of unit normals: 0.886227, -1.772454 y, 1.772454 z, ... ."""
    return _harmonics(normals, _BAND)


def radiance(
    albedo: Float[Array, "*n 3"], normals: Float[Array, "*n 3"], light: Float[Array, "9 3"]
) -> Float[Array, "*n 3"]:
    """What a matt surface of a linear RGB albedo and unit normals sends out, linear RGB; may be below 0 or above 1."""
    return albedo * jnp.einsum("...b,bc->...c", sh9(normals), light, precision="highest")


def directional_light(direction: Float[Array, "3"], colour: Float[Array, "3"]) -> Float[Array, "9 3"]:
    """Light from far away: a white surface facing the unit `direction` (towards the light) shows `colour`.

    The nine harmonics keep 99 % of the energy of the clamped cosine: ``colour max(n.d, 0)`` within 0.1 everywhere
    (facing the light it is 1.06 `colour`, opposite 0.06).
    """
    # irradiance of a unit beam is max(n.d, 0) = sum_b A_b h_b(d) h_b(n)
    ratios = tuple(cosine / published for cosine, published in zip(_COSINE, _BAND, strict=True))
    return jnp.outer(_harmonics(direction, ratios), colour)


def studio_light(direction: Float[Array, "3"], strength: float = 0.78) -> Float[Array, "9 3"]:
    """A hard warm key from a unit direction, a cool fill from the other side and a little light from everywhere.

    The key keeps the full weight of every band, which is harder than a matt surface shows and reads well at few pixels.
    """
    side = -0.6 * jnp.sign(direction[0])
    opposite = jnp.stack([side, jnp.full_like(side, 0.1), jnp.full_like(side, 0.79)])
    key = jnp.outer(_harmonics(direction), strength * jnp.asarray([1.0, 0.97, 0.92]))
    fill = jnp.outer(_harmonics(opposite), 0.18 * jnp.asarray([0.8, 0.9, 1.0]))
    return (key + fill).at[0].add(0.30)
