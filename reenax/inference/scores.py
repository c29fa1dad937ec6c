"""What is measured on made and true pictures: the whole picture, the face and the mouth."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from reenax.metrics.pixel import l1, psnr, ssim

FACE_MARGIN, MOUTH_MARGIN = 0.15, 0.25
"""What a box is enlarged by on every side, as a share of its width and height."""

MOUTH = slice(48, 68)


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a number is shown.

    Attributes:
        title: of a column.
        unit: in words.
        digits: behind the point.
        higher: whether more is better.
    """

    title: str
    unit: str
    digits: int = 4
    higher: bool = False


METRICS: Mapping[str, Metric] = {
    "l1": Metric("L1", "mean absolute difference in [0, 1]"),
    "psnr": Metric("PSNR", "dB, equal pictures count as 100", 2, True),
    "ssim": Metric("SSIM", "7x7 uniform window, sample covariance", 3, True),
    "lpips": Metric("LPIPS", "distance of features"),
    "face_l1": Metric("face L1", "in the box of the 68 points and 15 %"),
    "mouth_l1": Metric("mouth L1", "in the box of the mouth's points and 25 %"),
    "mouth_pattern": Metric(
        "mouth pattern", "correlation of the mouth box's pixels, every channel about its mean", 3, True
    ),
    "unchanged": Metric("background kept", "share of the source's background that changed by less than 2/255", 3, True),
    "nme": Metric("NME %", "mean distance of the landmarks, percent of the distance of the outer eye corners", 2),
    "akd": Metric("AKD", "mean of |dx| and |dy| of the landmarks, pixels of a picture of 256", 2),
    "pose": Metric("pose °", "angle between the head's rotations, degrees", 2),
    "expression": Metric("expression", "mean absolute error of the expression coefficients", 4),
    "action_units": Metric("AU", "mean absolute error of the 17 action units, 0 to 5", 3),
    "csim": Metric("CSIM", "cosine of the shape that is read with that read from all true frames", 3, True),
    "mouth_opening": Metric("mouth opening", "correlation over a clip of the gap of the inner lips", 3, True),
    "translation": Metric("translation cm", "mean absolute error of the head's position, cm", 3),
    "shape": Metric("shape", "cosine of the shape coefficients with the true ones", 3, True),
}
"""Every metric in the order of reports. Those from "nme" on are read by estimators, the last two of these alone."""

Boxes = Mapping[str, Float[np.ndarray, "t 4"]]


def boxes(landmarks: Float[np.ndarray, "t 68 2"], size: int) -> dict[str, Float[np.ndarray, "t 4"]]:
    """The boxes "face" and "mouth" of every frame: x0, y0, x1, y1 in pixels, the centre of the first being 0.

    Args:
        landmarks: -1 and 1 are the centres of the first and last pixel.
        size: side of the picture in pixels.
    """
    pixels = (landmarks + 1) / 2 * (size - 1)
    return {"face": _box(pixels, FACE_MARGIN), "mouth": _box(pixels[:, MOUTH], MOUTH_MARGIN)}


def _box(points: Float[np.ndarray, "t n 2"], margin: float) -> Float[np.ndarray, "t 4"]:
    low, high = points.min(axis=1), points.max(axis=1)
    extra = margin * (high - low)
    return np.concatenate([low - extra, high + extra], axis=1).astype(np.float32)


@jax.jit
def picture_scores(made: Float[Array, "b h w 3"], truth: Float[Array, "b h w 3"]) -> dict[str, Float[Array, " b"]]:
    """L1, PSNR and SSIM of whole pictures in [-1, 1]."""
    made = made.astype(jnp.promote_types(made.dtype, jnp.float32))
    return {"l1": l1(made, truth), "psnr": psnr(made, truth), "ssim": ssim(made, truth)}


@jax.jit
def box_scores(
    made: Float[Array, "b h w 3"], truth: Float[Array, "b h w 3"], where: Mapping[str, Float[Array, "b 4"]]
) -> dict[str, Float[Array, " b"]]:
    """L1 in the boxes "face" and "mouth", and how alike the patterns in the mouth box are; NaN for an empty box.

    The pattern's likeness is Pearson's correlation over pixels and channels, every channel about its mean in the box,
    so that the colour of the skin does not count.
    """
    made = made.astype(jnp.promote_types(made.dtype, jnp.float32))
    inside = {name: _inside(box, made.shape[1], made.shape[2]) for name, box in where.items()}
    scores = {
        f"{name}_l1": _mean_inside(jnp.abs(made - truth), mask).mean(axis=-1) / 2 for name, mask in inside.items()
    }
    mask = inside["mouth"]
    a = made - _mean_inside(made, mask)[:, None, None, :]
    b = truth - _mean_inside(truth, mask)[:, None, None, :]
    products = (_mean_inside(x * y, mask).sum(axis=-1) for x, y in ((a, b), (a, a), (b, b)))
    both, first, second = products
    flat = jnp.minimum(first, second) < 1e-8  # no pattern: neither like nor unlike
    scores["mouth_pattern"] = jnp.where(flat, 0.0, both) / jnp.where(flat, 1.0, jnp.sqrt(first * second))
    scores["mouth_pattern"] = jnp.where(mask.any(axis=(1, 2)), scores["mouth_pattern"], jnp.nan)
    return scores


def _inside(box: Float[Array, "b 4"], height: int, width: int) -> Array:
    """Which pixels have their centres in the box, [b h w]."""
    x, y = jnp.arange(width, dtype=box.dtype)[None, :], jnp.arange(height, dtype=box.dtype)[None, :]
    across = (x >= box[:, 0, None]) & (x <= box[:, 2, None])
    down = (y >= box[:, 1, None]) & (y <= box[:, 3, None])
    return down[:, :, None] & across[:, None, :]


def _mean_inside(values: Float[Array, "b h w c"], mask: Array) -> Float[Array, "b c"]:
    """Mean over the pixels of a mask [b h w]; NaN where it is empty."""
    count = mask.sum(axis=(1, 2))
    total = jnp.where(mask[..., None], values, 0.0).sum(axis=(1, 2))
    return jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], jnp.nan)


@jax.jit
def unchanged(
    made: Float[Array, "b h w 3"], source: Float[Array, "1 h w 3"], background: Bool[Array, "h w"]
) -> Float[Array, " b"]:
    """The share of the background's pixels all of whose channels are within 2/255 of the source's; NaN without any."""
    made = made.astype(jnp.promote_types(made.dtype, jnp.float32))
    kept = (jnp.abs(made - source) < 2 * 2 / 255).all(axis=-1)
    return _mean_inside(kept[..., None].astype(jnp.float32), jnp.broadcast_to(background[None], kept.shape))[:, 0]


def correlation(made: Float[np.ndarray, " t"], truth: Float[np.ndarray, " t"], flat: float = 1e-4) -> float:
    """Pearson's correlation; NaN where the truth does not move (a spread below ``flat``), 0 where only it moves."""
    if truth.std() < flat:
        return float("nan")
    if made.std() < flat:
        return 0.0
    return float(np.corrcoef(made, truth)[0, 1])


def finite_mean(values: Float[np.ndarray, " n"]) -> float:
    """The mean of the values that are no NaN; NaN where all are."""
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else float("nan")


def mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the rows that have it; NaN where none has."""
    names = [m for m in METRICS if any(m in row for row in rows)]
    return {m: finite_mean(np.array([row[m] for row in rows if m in row])) for m in names}
