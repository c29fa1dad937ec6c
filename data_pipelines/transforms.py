"""Augmentations on 8-bit pictures [h w 3], as First Order Motion uses them: the same draw for all given pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

Picture = UInt8[np.ndarray, "h w 3"]

JITTERS = ("brightness", "contrast", "saturation", "hue")


def mirror(pictures: Sequence[Picture]) -> list[Picture]:
    """Left becomes right."""
    return [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]


def colour_jitter(
    pictures: Sequence[Picture], strength: Mapping[str, float], rng: np.random.Generator
) -> list[Picture]:
    """Change brightness, contrast and saturation by factors U(1 - a, 1 + a), hue by a shift U(-h, h) of a turn.

    In random order, one after the other, each rounded to 8 bit. `strength` has some of the keys `JITTERS`.
    """
    order = rng.permutation(len(JITTERS))
    draws = rng.uniform(-1, 1, len(JITTERS))
    images = [Image.fromarray(picture) for picture in pictures]
    for which in order:
        name = JITTERS[which]
        if amount := strength.get(name, 0.0):
            images = [_CHANGES[name](image, amount * draws[which]) for image in images]
    return [np.asarray(image) for image in images]


def resize_and_crop(
    pictures: Sequence[Picture], scales: tuple[float, float], rng: np.random.Generator
) -> list[Picture]:
    """Enlarge by a factor U(lo, hi) and cut a random part of the old size; where it is smaller, edges are repeated."""
    scale = rng.uniform(*scales)
    corner = rng.uniform(0, 1, 2)
    return [_resized_crop(picture, scale, corner) for picture in pictures]


def _resized_crop(picture: Picture, scale: float, corner: np.ndarray) -> Picture:
    height, width = picture.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    missing = max(0, height - size[1]), max(0, width - size[0])
    if any(missing):
        before = [int(corner[axis] * (missing[axis] + 1)) for axis in range(2)]
        pads = [(before[axis], missing[axis] - before[axis]) for axis in range(2)]
        resized = np.pad(resized, (*pads, (0, 0)), mode="edge")
    y, x = (int(corner[axis] * (resized.shape[axis] - side + 1)) for axis, side in enumerate((height, width)))
    return resized[y : y + height, x : x + width]


def _hue(image: Image.Image, shift: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    steps = round(shift * 255)
    turned = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


_CHANGES = {
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + amount),
    "saturation": lambda image, amount: ImageEnhance.Color(image).enhance(1 + amount),
    "hue": _hue,
}
