"""From pictures to squares: what the workers of `prepare_layout` do, a part of the pictures at a time."""

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import xxhash
from jaxtyping import Float32, Float64, UInt8

from data_pipelines import faces, media
from data_pipelines.layouts.points import square_around
from data_pipelines.layouts.stills import Points, Still, bytes_of
from reenax.core.errors import UserError

FORMAT = 1
"""Raised when the same pictures give other squares than before."""

JPEG_QUALITY = 95


class Unusable(Exception):
    """A picture of which no square comes: a word for counting, and the reason."""


class Square(NamedTuple):
    """A square of a picture.

    box: x0, y0, x1, y1 in the picture.
    labels: landmarks, in the unit of the records.
    """

    jpeg: bytes
    box: Float32[np.ndarray, "4"]
    labels: dict[str, Float32[np.ndarray, "n 2"]]


@dataclass(frozen=True)
class Part:
    """Some pictures, and the file in which what comes of them is kept until all are done."""

    stills: Sequence[Still]
    crop: str
    size: int
    file: Path


def part_of(stills: Sequence[Still], crop: str, size: int, folder: Path) -> Part:
    """A part whose file is named after all that decides what is in it."""
    digest = xxhash.xxh3_128(f"{FORMAT} {crop} {size}\n".encode())
    for still in stills:
        digest.update(f"{still.path}\n{bytes_of(still.path)}\n".encode("utf-8", "surrogateescape"))
        for shape, points in sorted((still.points or {}).items()):
            digest.update(f"{shape}\n".encode() + points.tobytes())
    return Part(stills, crop, size, folder / f"{digest.hexdigest()}.npz")


def make(part: Part) -> Part:
    """Write the squares of a part, all of them or nothing. Raises OSError when they cannot be written."""
    squares = [_square_or_reason(still, part) for still in part.stills]
    good = [square for square in squares if isinstance(square, Square)]
    reasons = {str(at): reason for at, reason in enumerate(squares) if not isinstance(reason, Square)}
    arrays: dict[str, Any] = {
        "pictures": np.frombuffer(b"".join(square.jpeg for square in good), np.uint8),
        "ends": np.cumsum([len(square.jpeg) for square in good]),
        "boxes": np.array([square.box for square in good], np.float32).reshape(-1, 4),
        "reasons": np.array(json.dumps(reasons)),
    }
    for name in good[0].labels if good else ():
        arrays[name] = np.stack([square.labels[name] for square in good])
    aside = part.file.with_name(f"{part.file.name}.{os.getpid()}.new")
    with aside.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(aside, part.file)
    return part


def squares_of(part: Part) -> Iterator[tuple[Still, Square | tuple[str, str]]]:
    """What `make` wrote: every picture with its square, or with the kind and reason why there is none."""
    with np.load(part.file, allow_pickle=False) as stored:
        content = {name: stored[name] for name in stored.files}
    reasons = json.loads(str(content.pop("reasons")))
    pictures, boxes = content.pop("pictures").tobytes(), content.pop("boxes")
    ends = content.pop("ends").astype(int).tolist()
    place = 0
    for at, still in enumerate(part.stills):
        if reason := reasons.get(str(at)):
            yield still, (reason[0], reason[1])
            continue
        jpeg = pictures[ends[place - 1] if place else 0 : ends[place]]
        yield still, Square(jpeg, boxes[place], {name: rows[place] for name, rows in content.items()})
        place += 1


def unit_of(
    points: Float32[np.ndarray, "n 2"], box: faces.Box | Float64[np.ndarray, "4"], size: int
) -> Float32[np.ndarray, "n 2"]:
    """Points in pixels of a picture as coordinates of a square of it resized to `size`, as the records have them.

    -1 and 1 are the centres of the first and the last pixel of the resized square.
    """
    corner, side = np.array(box[:2], np.float64), box[2] - box[0]
    pixels = (points.astype(np.float64) + 0.5 - corner) * (size / side) - 0.5
    return (pixels * (2 / (size - 1)) - 1).astype(np.float32)


def _square_or_reason(still: Still, part: Part) -> Square | tuple[str, str]:
    try:
        return _square(media.read_image(still.path), still.points, part)
    except UserError as error:
        return "unreadable", str(error).removeprefix(f"{still.path}: ")
    except Unusable as unusable:
        return unusable.args[0], unusable.args[1]
    except MemoryError:
        return "unreadable", "not enough memory to decode it"


def _square(picture: UInt8[np.ndarray, "h w 3"], points: Points | None, part: Part) -> Square:
    height, width = picture.shape[:2]
    labels: dict[str, np.ndarray] = {}
    if min(height, width) < 2:
        raise Unusable("too small", f"{width}x{height} pixels")
    if part.crop == "points":
        assert points is not None
        if (width, height) not in points:
            sizes = " and ".join(f"{w}x{h}" for w, h in points)
            raise Unusable("unlabelled", f"{width}x{height} pixels, but its landmarks are of a picture of {sizes}")
        found = points[width, height]
        box = _around(found, width, height)
        labels["landmarks_106"] = unit_of(found, box, part.size)
    elif part.crop == "dlib":
        all_faces = _detector().detect(picture)
        if not all_faces:
            raise Unusable("faceless", "no face in it")
        box = faces.enlarged_square(all_faces[0].box, (height, width))
        labels["landmarks"] = faces.landmarks_in_square(all_faces[0].landmarks, box, part.size)
    else:
        box = faces.centre_square((height, width))
    square = np.ascontiguousarray(faces.crop_and_resize(picture, box, part.size))
    jpeg = simplejpeg.encode_jpeg(square, JPEG_QUALITY, "RGB", "444")
    return Square(jpeg, np.array(box, np.float32), labels)


def _around(points: Float32[np.ndarray, "106 2"], width: int, height: int) -> faces.Box:
    """The square that FReeNet cuts, in whole pixels.

    The published code rounds the corners down for the picture and not at all for the landmarks; here both have the same
    square, so that landmarks lie where they are seen, and borders are repeated where it reaches beyond the picture.
    """
    x, y, half = square_around(points)
    side = round(2 * half)
    x0, y0 = round(x - half), round(y - half)
    if side < 2 or side > 4 * max(width, height) or not (-side < x0 < width and -side < y0 < height):
        raise Unusable("unlabelled", "its landmarks lie outside of the picture, or in one place")
    return float(x0), float(y0), float(x0 + side), float(y0 + side)


@functools.cache
def _detector() -> faces.FaceDetector:
    return faces.FaceDetector()  # half a second to load: once per process
