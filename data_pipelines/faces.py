"""Finding faces, and the one rule by which a square is cut around them, in training clips and pictures alike."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from reenax.core.errors import UserError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, the edges of the area: the whole picture is (0, 0, width, height)."""

SCALE = 1.9
"""Side of the square over the longer side of the landmarks' box: the whole head with a margin."""

LIFT = 0.1
"""The square's centre lies this part of the box's height above the box's centre: landmarks end at the brows."""

LANDMARK_FILE = "shape_predictor_68_face_landmarks.dat"


class Face(NamedTuple):
    """A face: the box around its landmarks (the detector's own box jumps in steps of 20 %) and the landmarks."""

    box: Box
    landmarks: Float32[np.ndarray, "68 2"]
    """x, y in pixels; (0, 0) is the centre of the first pixel."""
    score: float


class FaceDetector:
    """dlib's frontal face detector and 68 landmarks, on one core.

    Raises UserError when the packages of the extra `faces` are not installed.
    """

    def __init__(self) -> None:
        models = require()
        dlib: Any = importlib.import_module("dlib")
        self._rectangle = dlib.rectangle
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(models / LANDMARK_FILE))

    def detect(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """All faces of a picture, largest first; [] when there is none.

        Looks at two resolutions, and less strictly (paintings, drawings) when that finds nothing.
        """
        for threshold in (0.0, -0.3):
            for side in (640, 1280):
                if faces := self.search(picture, side, threshold):
                    return faces
        return []

    def search(self, picture: UInt8[np.ndarray, "h w 3"], side: int, threshold: float = 0.0) -> list[Face]:
        """Faces of a picture, looked for after shrinking its longer side to `side` pixels; largest first.

        Faces narrower than about 80 pixels of the shrunken picture are not found.
        """
        scale = min(1.0, side / max(picture.shape[:2]))
        small = picture
        if scale < 1.0:
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        found, scores, _ = self._detector.run(np.ascontiguousarray(small), 0, threshold)
        return sorted(
            (self._face(picture, rectangle, scale, score) for rectangle, score in zip(found, scores, strict=True)),
            key=lambda face: area(face.box),
            reverse=True,
        )

    def near(self, picture: UInt8[np.ndarray, "h w 3"], box: Box) -> Face | None:
        """The face that overlaps a box most, looked for in its surroundings only; None when it is not there.

        For following a face from frame to frame: several times faster than `search`.
        """
        height, width = picture.shape[:2]
        side = max(box[2] - box[0], box[3] - box[1])
        x0, y0 = max(0, int(box[0] - 0.6 * side)), max(0, int(box[1] - 0.6 * side))
        x1, y1 = min(width, int(box[2] + 0.6 * side) + 1), min(height, int(box[3] + 0.6 * side) + 1)
        if x1 - x0 < 32 or y1 - y0 < 32:
            return None
        around = np.ascontiguousarray(picture[y0:y1, x0:x1])
        # The face, some 110 pixels wide then, stays well above the smallest that the detector finds.
        faces = self.search(around, max(96, round(110 * max(x1 - x0, y1 - y0) / side)), -0.1)
        moved = [
            Face(
                (face.box[0] + x0, face.box[1] + y0, face.box[2] + x0, face.box[3] + y0),
                face.landmarks + np.array([x0, y0], np.float32),
                face.score,
            )
            for face in faces
        ]
        best = max(moved, key=lambda face: overlap(face.box, box), default=None)
        return best if best is not None and overlap(best.box, box) > 0.2 else None

    def _face(self, picture: np.ndarray, rectangle, scale: float, score: float) -> Face:
        edges = (rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom())
        shape = self._predictor(picture, self._rectangle(*(round(edge / scale) for edge in edges)))
        points = np.array([(point.x, point.y) for point in shape.parts()], np.float32)
        low, high = points.min(axis=0), points.max(axis=0) + 1
        return Face((float(low[0]), float(low[1]), float(high[0]), float(high[1])), points, float(score))


def require() -> Path:
    """The folder of the models, if dlib and they are installed; otherwise raises UserError."""
    folder = _model_folder()
    if folder is None or importlib.util.find_spec("dlib") is None:
        raise UserError("finding faces needs dlib and its models: pip install 'reenax[faces]', or use --faces none")
    return folder


def area(box: Box) -> float:
    """Area of a box, 0 when it is empty."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    both = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    either = area(a) + area(b) - both
    return both / either if either > 0 else 0.0


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    edges = np.asarray(boxes, np.float64)
    x0, y0 = edges[:, :2].min(axis=0)
    x1, y1 = edges[:, 2:].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def enlarged_square(box: Box, image_size: tuple[int, int], scale: float = SCALE, lift: float = LIFT) -> Box:
    """The square (whole pixels) that is cut out for a face box in an image of (height, width).

    `scale` times the longer side of the box, lifted for the forehead by the share `lift` of the box, and then shrunk
    and shifted so that it lies within the image: no part of a clip is invented.
    """
    height, width = image_size
    side = max(2, min(round(scale * max(box[2] - box[0], box[3] - box[1])), height, width))
    centre_x = (box[0] + box[2]) / 2
    centre_y = (box[1] + box[3]) / 2 - lift * (box[3] - box[1])
    x0 = min(max(round(centre_x - side / 2), 0), width - side)
    y0 = min(max(round(centre_y - side / 2), 0), height - side)
    return float(x0), float(y0), float(x0 + side), float(y0 + side)


def centre_square(image_size: tuple[int, int]) -> Box:
    """The largest square in the middle of an image of (height, width)."""
    height, width = image_size
    side = min(height, width)
    x0, y0 = (width - side) // 2, (height - side) // 2
    return float(x0), float(y0), float(x0 + side), float(y0 + side)


def crop_and_resize(picture: UInt8[np.ndarray, "h w 3"], box: Box, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The area of a box, resized to a square of `size` pixels (Lanczos, antialiased); edges repeat outside."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round(edge) for edge in box)
    left, top, right, bottom = max(0, -x0), max(0, -y0), max(0, x1 - width), max(0, y1 - height)
    if left or top or right or bottom:
        picture = np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode="edge")
    crop = Image.fromarray(np.ascontiguousarray(picture[y0 + top : y1 + top, x0 + left : x1 + left]))
    return np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS))


def landmarks_in_square(
    landmarks: Float32[np.ndarray, "*n 68 2"], box: Box, size: int
) -> Float32[np.ndarray, "*n 68 2"]:
    """Landmarks in pixels of the image as coordinates of the square resized to `size`.

    -1 and 1 are the centres of the first and the last pixel of the resized square.
    """
    corner = np.array(box[:2], np.float32)
    pixels = (landmarks + 0.5 - corner) * np.float32(size / (box[2] - box[0])) - 0.5
    return (pixels * np.float32(2 / (size - 1)) - 1).astype(np.float32)


def _model_folder() -> Path | None:
    # The package's own __init__ needs pkg_resources, which current setuptools no longer have: only its files are used.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / "models" / LANDMARK_FILE).is_file():
            return Path(folder) / "models"
    return None
