"""The source picture, the square of it that is animated, and how what is made of that square is shown."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from data_pipelines.faces import Box, FaceDetector, centre_square, crop_and_resize, enlarged_square
from reenax.core.errors import UserError
from reenax.inference.driving import Pictures

BORDER = 0.08  # of the square's side: how far a pasted result fades into the source picture


@dataclasses.dataclass(frozen=True)
class Portrait:
    """The source picture and the square of it that is animated."""

    path: Path
    kind: str
    picture: UInt8[np.ndarray, "h w 3"]
    box: Box
    crop: UInt8[np.ndarray, "s s 3"]
    landmarks: Float[np.ndarray, "68 2"] | None


def open_portrait(path: Path, size: int, detector: FaceDetector | None, margin: float | None = None) -> Portrait:
    """Reads the source and cuts its largest face, by the rule that training clips are cut by.

    With a margin, the square around the face's box and so much more on every side, as a share of it: 0 for models that
    were trained on tight crops (as in GANimation's published demo).

    Raises:
        UserError: nothing readable, or no face.
    """
    pictures = Pictures.open(path)
    picture = pictures.first()
    shape = (picture.shape[0], picture.shape[1])
    if detector is None:
        box, landmarks = centre_square(shape), None
    else:
        found = detector.detect(picture)
        if not found:
            raise UserError(f"{path}: no face found; use another picture, or --faces none to take the centre square")
        rule = {} if margin is None else {"scale": 1 + 2 * margin, "lift": 0.0}
        box, landmarks = enlarged_square(found[0].box, shape, **rule), found[0].landmarks.astype(np.float64)
    return Portrait(path, pictures.kind, picture, box, crop_and_resize(picture, box, size), landmarks)


class Layout:
    """How a made picture is shown.

    Args:
        portrait: the source; None where the method draws one person, whatever the source.
        paste_back: in the whole source picture.
        compare: beside source and driving.
    """

    def __init__(self, portrait: Portrait | None, paste_back: bool, compare: bool):
        self._portrait, self._paste_back, self._compare = portrait, paste_back, compare
        if paste_back and portrait is not None:
            self._mask = soft_mask(portrait.box, (portrait.picture.shape[0], portrait.picture.shape[1]))

    def compose(
        self, made: UInt8[np.ndarray, "s s 3"], driving: UInt8[np.ndarray, "s s 3"] | None
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture to write; a driver that is no picture is not shown."""
        if self._compare:
            crop = None if self._portrait is None else self._portrait.crop
            return np.concatenate([p for p in (crop, driving, made) if p is not None], axis=1)
        if self._paste_back and self._portrait is not None:
            return paste(self._portrait.picture, made, self._portrait.box, self._mask)
        return made


def soft_mask(box: Box, shape: tuple[int, int]) -> Float[np.ndarray, "n n"]:
    """How much of a made square is seen in a picture of (height, width): 1 in the middle, 0 at the square's border.

    A border that is the picture's own border stays at 1, there is nothing to fade into.
    """
    height, width = shape
    side = round(box[2] - box[0])
    border = max(1, round(BORDER * side))
    inner = np.zeros((side + 2 * border, side + 2 * border))  # room for what lies beyond the picture's border
    open_left, open_top, open_right, open_bottom = box[0] > 0, box[1] > 0, box[2] < width, box[3] < height
    rows = slice(2 * border if open_top else 0, side if open_bottom else None)
    columns = slice(2 * border if open_left else 0, side if open_right else None)
    inner[rows, columns] = 1.0
    soft = gaussian_filter(inner, border / 2.5, mode="nearest")[border:-border, border:-border]
    steps = np.arange(side) / border
    across, down = np.ones(side), np.ones(side)
    for ramp, low, high in ((across, open_left, open_right), (down, open_top, open_bottom)):
        np.minimum(ramp, steps if low else 1.0, out=ramp)
        np.minimum(ramp, steps[::-1] if high else 1.0, out=ramp)
    return np.minimum(soft, np.minimum(down[:, None], across[None, :]))  # exactly 0 at the border


def paste(
    picture: UInt8[np.ndarray, "h w 3"],
    made: UInt8[np.ndarray, "s s 3"],
    box: Box,
    mask: Float[np.ndarray, "n n"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Puts a made square back into the picture; pixels outside of the box stay as they are."""
    x0, y0, x1, y1 = (round(edge) for edge in box)
    patch = np.asarray(Image.fromarray(made).resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS), np.float64)
    whole_picture = picture.copy()
    there = whole_picture[y0:y1, x0:x1]
    mixed = there + mask[..., None] * (patch - there)
    whole_picture[y0:y1, x0:x1] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return whole_picture
