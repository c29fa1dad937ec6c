"""Principal axes of regions: the square root of a 2x2 covariance in closed form, with a gradient that stays finite.

The paper takes ``A = U sqrt(S)`` from the singular value decomposition ``C = U S V^T`` of a region's covariance. For
2x2 matrices it has a closed form, which is faster than a batched decomposition and the same on every device. Column
signs are free in the mathematics but not in the model: motions are ``A_source A_driving^-1``, and a sign that differed
between both would be a mirrored motion. The rule here is that of LAPACK on a CPU, with which the published checkpoints
were trained; under it det U = -1 always, so that two frames can differ by a common sign of both columns alone, which
:func:`without_axis_swap` takes out.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from reenax.geometry.grids import inverse_2x2, matmul_2x2

ISOTROPY = 1e-12  # added to squared differences of the axes' variances where a gradient divides by them
THIN = 1e-8  # the least variance along the minor axis that a gradient divides by
COLLAPSED = 1e-10  # determinant below which a region has no usable extent: its inverse would be infinite
NEEDLE = 1e-6  # ratio of the variances of the axes below which float32 no longer tells a region from a line


def lifted(covariance: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The covariance, made invertible where a region has collapsed to a point or to a line.

    Only there a small number is added to the diagonal: 1e-8 and a millionth of the variances' mean, which is what
    float32 can still tell from nothing beside them.
    """
    a, b, c = _entries(lax.stop_gradient(covariance))
    mean = (a + c) / 2
    flat = a * c - b**2 < jnp.maximum(COLLAPSED, NEEDLE * mean**2)
    lift = jnp.where(flat, THIN + NEEDLE * mean, 0.0)
    return covariance + lift[..., None, None] * _identity_like(covariance)


def _identity_like(matrix: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    return jnp.broadcast_to(jnp.eye(2, dtype=matrix.dtype), matrix.shape)


def _entries(matrix: Float[Array, "*b 2 2"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """``[[a, b], [b, c]]``, from the symmetric part."""
    return matrix[..., 0, 0], (matrix[..., 0, 1] + matrix[..., 1, 0]) / 2, matrix[..., 1, 1]


def _decomposed(
    covariance: Float[Array, "*b 2 2"],
) -> tuple[Float[Array, "*b 2"], Float[Array, "*b"], Float[Array, "*b"]]:
    """The major axis (a unit vector with the sign of LAPACK), and the variances along the major and the minor axis."""
    a, b, c = _entries(covariance)
    mean, half = (a + c) / 2, (a - c) / 2
    radius = jnp.hypot(half, b)
    angle = 0.5 * jnp.arctan2(b, half)
    sign = jnp.where((b > 0) & (a * c - b**2 > a**2 + b**2), 1, -1).astype(covariance.dtype)
    major = sign[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return major, mean + radius, jnp.maximum(mean - radius, 0)


def _beside(major: Float[Array, "*b 2"]) -> Float[Array, "*b 2"]:
    """The unit vector of the minor axis; with the major axis it makes a determinant of -1."""
    return jnp.stack([major[..., 1], -major[..., 0]], axis=-1)


def _columns(first: Float[Array, "*b 2"], second: Float[Array, "*b 2"]) -> Float[Array, "*b 2 2"]:
    return jnp.stack([first, second], axis=-1)


@jax.custom_jvp
def principal_axes(covariance: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """``A`` with ``A A^T = C``: its columns are the principal axes, longest first, as long as their deviations.

    Only the symmetric part of a covariance is read, and the gradient to it is symmetric. The gradient is exact, except
    that what it divides by is bounded from below: of an isotropic region, whose axes may point anywhere, and of a
    region without width it would be infinite.

    Args:
        covariance: symmetric and positive, in squared units of [-1, 1]; in float32 at least. :func:`lifted` makes one
            whose result can be inverted.
    """
    major, long, short = _decomposed(covariance)
    return _columns(major * jnp.sqrt(long)[..., None], _beside(major) * jnp.sqrt(short)[..., None])


@principal_axes.defjvp
def _principal_axes_jvp(primals, tangents):
    (covariance,), (change,) = primals, tangents
    major, long, short = _decomposed(covariance)
    minor = _beside(major)
    root_long, root_short = jnp.sqrt(long)[..., None], jnp.sqrt(short)[..., None]
    axes = _columns(major * root_long, minor * root_short)

    a, b, c = _entries(covariance)
    da, db, dc = _entries(change)
    half, dhalf, dmean = (a - c) / 2, (da - dc) / 2, (da + dc) / 2
    squared = half**2 + b**2 + ISOTROPY
    turned = ((half * db - b * dhalf) / (2 * squared))[..., None]
    spread = (half * dhalf + b * db) * lax.rsqrt(squared)
    # (d root) of both variances, and the turn: the major axis moves along minus the minor one
    longer = ((dmean + spread) * (0.5 * lax.rsqrt(jnp.maximum(long, THIN))))[..., None]
    shorter = ((dmean - spread) * (0.5 * lax.rsqrt(jnp.maximum(short, THIN))))[..., None]
    first = -minor * (root_long * turned) + major * longer
    second = major * (root_short * turned) + minor * shorter
    return axes, _columns(first, second)


def without_axis_swap(motion: Float[Array, "*b 2 2"]) -> Float[Array, "*b 2 2"]:
    """The motion times the sign of its first entry: undoes a sign in which both columns of two frames differ.

    A first entry of 0 counts as positive, so that no motion vanishes. The sign has no gradient.
    """
    sign = jnp.where(lax.stop_gradient(motion[..., 0, 0]) < 0, -1, 1).astype(motion.dtype)
    return motion * sign[..., None, None]


def relative_motion(
    source: Float[Array, "s r 2 2"], driving: Float[Array, "b r 2 2"], *, revert_axis_swap: bool
) -> Float[Array, "_ r 2 2"]:
    """``A_source A_driving^-1``, the linear part of the motion from the driving frame to the source.

    Either may be of one sample for a batch of the other.
    """
    motion = matmul_2x2(*jnp.broadcast_arrays(source, inverse_2x2(driving)))
    return without_axis_swap(motion) if revert_axis_swap else motion
