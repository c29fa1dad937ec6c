"""The terms by which the keypoint family compares a prediction with the driving frame, weighted and by name.

A method's own weights inherit from :class:`PictureWeights`, so that all have the same names in configs and logs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reenax.core.precision import wide
from reenax.core.types import Batch, Variables
from reenax.losses.perceptual import pyramid_perceptual_loss
from reenax.losses.reconstruction import pyramid_gradient_loss, pyramid_l1_loss, region_l1_loss, ssim_loss
from reenax.nn.vgg import FIRST_OF_STAGE, vgg_features

MOUTH, EYES = ((48, 68),), ((36, 42), (42, 48))  # ranges of the 68 landmarks


@dataclasses.dataclass(frozen=True)
class PictureWeights:
    """Weights of the terms; a weight of 0 leaves a term out.

    Attributes:
        scales: of the image pyramid of the reconstruction losses.
        perceptual: one weight per VGG-19 layer (relu1_1 .. relu5_1); all 0 or none: no VGG-19 is needed.
        l1, gradient, ssim: of reconstruction losses without a pretrained network. Not published: for small models.
        deformed: share of those three that is asked of the source as it is warped, before anything is painted.
        mouth, eyes: of the L1 in the boxes of the driving frame's true landmarks of mouth and of each eye. Not
            published: small, and what people look at.
        landmarks: of the mean distance between the first keypoints and known landmarks of both frames. Not published:
            for synthetic heads. With the landmarks of the mean head the keypoints say nothing of the person's shape,
            so that another person's motion fits.
        landmark_points: which of the 68 landmarks the first keypoints are.
    """

    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    perceptual: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 10.0)
    l1: float = 0.0
    gradient: float = 0.0
    ssim: float = 0.0
    deformed: float = 0.0
    mouth: float = 0.0
    eyes: float = 0.0
    landmarks: float = 0.0
    landmark_points: tuple[int, ...] = ()


def picture_terms(
    weights: PictureWeights,
    variables: Variables,
    prediction: Float[Array, "b h w 3"],
    deformed: Float[Array, "b h w 3"],
    driving: Float[Array, "b h w 3"],
    *,
    batch: Batch | None = None,
    dtype: Any = None,
    remat: bool = False,
) -> dict[str, Float[Array, ""]]:
    """The weighted terms, all of pictures in [0, 1].

    Args:
        weights: which terms there are.
        variables: "vgg19" among them where ``perceptual`` weighs.
        prediction: what was painted.
        deformed: the source as it was warped.
        driving: what both should be.
        batch: with "driving_landmarks" where mouth or eyes weigh; None leaves these two out.
        dtype: compute type of VGG-19.
        remat: whether its activations are computed again in the backward pass.
    """
    w, terms = weights, {}
    prediction, deformed = wide(prediction), wide(deformed)
    if any(w.perceptual):
        features = vgg_features(variables["vgg19"], dtype=dtype)
        features = jax.checkpoint(features) if remat else features
        layers: dict[str, float] = dict(zip(FIRST_OF_STAGE, w.perceptual, strict=True))
        terms["perceptual"] = pyramid_perceptual_loss(features, prediction, driving, layers, w.scales)
    pairs = [(1 - w.deformed, prediction), (w.deformed, deformed)]
    pairs = [(share, picture) for share, picture in pairs if share]
    if w.l1:
        terms["l1"] = w.l1 * sum(s * pyramid_l1_loss(x, driving, w.scales) for s, x in pairs)
    if w.gradient:
        terms["gradient"] = w.gradient * sum(s * pyramid_gradient_loss(x, driving, w.scales) for s, x in pairs)
    if w.ssim:
        terms["ssim"] = w.ssim * sum(s * ssim_loss(x, driving) for s, x in pairs)
    if batch is None:
        return terms
    for name, weight, regions in (("mouth", w.mouth, MOUTH), ("eyes", w.eyes, EYES)):
        if weight:
            boxes = [batch["driving_landmarks"][:, slice(*region)] for region in regions]
            losses = [region_l1_loss(prediction, driving, box) for box in boxes]
            terms[name] = weight * jnp.mean(jnp.stack(losses))
    return terms


def landmark_terms(
    weights: PictureWeights,
    source: Float[Array, "b k 2"],
    driving: Float[Array, "b k 2"],
    batch: Batch | None,
    label: str = "landmarks_mean",
) -> dict[str, Float[Array, ""]]:
    """The weighted mean absolute distance of both frames' first keypoints from their landmarks, in [-1, 1].

    Args:
        weights: the weight, and which landmarks are meant; a weight of 0 leaves the term out.
        source, driving: keypoints of both frames.
        batch: with the label of both frames; None leaves the term out.
        label: "landmarks_mean" or "landmarks".
    """
    if batch is None or not weights.landmarks:
        return {}
    chosen = jnp.asarray(weights.landmark_points, jnp.int32)
    pairs = ((source, batch[f"source_{label}"]), (driving, batch[f"driving_{label}"]))
    away = [jnp.mean(jnp.abs(points[:, : chosen.size] - known[:, chosen])) for points, known in pairs]
    return {"landmarks": weights.landmarks * jnp.mean(jnp.stack(away))}


def total(terms: Mapping[str, Float[Array, ""]]) -> Float[Array, ""]:
    """The sum of weighted terms."""
    return jnp.sum(jnp.stack(list(terms.values())))
