"""What drives an animation: a video, a picture or a folder of pictures, cut to the face by one fixed square."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from data_pipelines.faces import (
    Box,
    FaceDetector,
    centre_square,
    crop_and_resize,
    enlarged_square,
    hull,
    landmarks_in_square,
)
from data_pipelines.media import Frame, iterate_frames, probe, read_image
from data_pipelines.tracking import Track, follow
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.types import Drive, VideoDrive
from reenax.inference.progress import tracked

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})
"""Suffixes of single pictures; a .gif is read as a video, which it mostly is."""
FOLDER_FPS = 25.0


class Part(NamedTuple):
    """Some frames of a driver.

    Attributes:
        drive: as a reenactor takes it; the last row is repeated to fill it up.
        count: how many of its rows are meant.
        times: of these, in seconds.
        pictures: of these, where the driver is made of pictures.
    """

    drive: Drive
    count: int
    times: Sequence[float]
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]] | None


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A source of frames that can be read again and again.

    Attributes:
        path: the file or folder.
        kind: "video", "picture" or "folder".
        fps: frames per second, on average.
        count: number of frames, None when that is not known before reading them.
    """

    path: Path
    kind: str
    fps: float
    count: int | None

    @classmethod
    def open(cls, path: Path) -> "Pictures":
        """Finds out what is there.

        Raises:
            UserError: nothing is there, or nothing that can be read.
        """
        if path.is_dir():
            if not (files := _listed(path)):
                raise UserError(f"{path} holds no pictures ({', '.join(sorted(PICTURES))})")
            return cls(path, "folder", FOLDER_FPS, len(files))
        if path.suffix.lower() in PICTURES:
            read_image(path)
            return cls(path, "picture", FOLDER_FPS, 1)
        about = probe(path)
        return cls(path, "video", about.fps, about.frames or None)

    def frames(self) -> Iterator[Frame]:
        """All frames with their times in seconds."""
        if self.kind == "video":
            yield from iterate_frames(self.path)
        else:
            files = _listed(self.path) if self.kind == "folder" else [self.path]
            for index, file in enumerate(files):
                yield Frame(read_image(file), index / self.fps)

    def first(self) -> UInt8[np.ndarray, "h w 3"]:
        """The first frame."""
        return next(self.frames()).pixels


def _listed(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())


@dataclasses.dataclass(frozen=True)
class Driving:
    """Driving frames, cut and resized.

    Attributes:
        pictures: where they come from.
        box: the square that is cut from all frames.
        size: side of the cut frames in pixels.
        count: number of frames.
        landmarks: of every frame in pixels of the whole frame; None where no face was found or looked for.
    """

    pictures: Pictures
    box: Box
    size: int
    count: int
    landmarks: tuple[Float32[np.ndarray, "68 2"] | None, ...]

    @classmethod
    def open(cls, path: Path, size: int, detector: FaceDetector | None) -> "Driving":
        """Reads through the frames once, following the face.

        Raises:
            UserError: nothing readable, frames of several sizes, or no face.
        """
        pictures = Pictures.open(path)
        shape = pictures.first().shape
        frames = _same_size(pictures, shape)
        doing = "finding the face" if detector else "reading"
        track = follow(tracked(frames, pictures.count, doing, "frames"), detector)
        boxes = [face.box for face in track.faces if face is not None]
        if detector is not None and not boxes:
            raise UserError(f"{path}: no face found; use --faces none to take the centre square, or another video")
        box = enlarged_square(hull(boxes), track.size) if boxes else centre_square(track.size)
        return cls(pictures, box, size, len(track.times), _landmarks(track))

    @property
    def kind(self) -> str:
        """ "video", "picture" or "folder"."""
        return self.pictures.kind

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return self.pictures.fps

    @property
    def sound(self) -> Path | None:
        """The file whose sound goes with the frames."""
        return self.pictures.path if self.pictures.kind == "video" else None

    def frames(self) -> Iterator[Frame]:
        """All frames, cut and resized, with their times."""
        for frame in self.pictures.frames():
            yield Frame(crop_and_resize(frame.pixels, self.box, self.size), frame.time)

    def anchor(self, index: int) -> VideoDrive:
        """One cut frame."""
        return self._drive([index], [next(f.pixels for i, f in enumerate(self.frames()) if i == index)])

    def parts(self, size: int) -> Iterator[Part]:
        """All frames in parts of one size."""
        frames, begin = self.frames(), 0
        while batch := list(itertools.islice(frames, size)):
            filled = batch + [batch[-1]] * (size - len(batch))
            rows = [min(begin + k, begin + len(batch) - 1) for k in range(size)]
            drive = self._drive(rows, [f.pixels for f in filled])
            yield Part(drive, len(batch), [f.time for f in batch], [f.pixels for f in batch])
            begin += len(batch)

    def _drive(self, rows: Sequence[int], frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> VideoDrive:
        points = None if self.points is None else jnp.asarray(self.points[np.asarray(rows)])
        return VideoDrive(as_float(np.stack(frames)), points)

    @functools.cached_property
    def points(self) -> Float32[np.ndarray, "t 68 2"] | None:
        """Landmarks in the cut frames, -1 and 1 being the centres of their border's pixels.

        Where the face was lost they are taken from what lies between the neighbours. None when nothing was found.
        """
        found = {k: points for k, points in enumerate(self.landmarks) if points is not None}
        if not found:
            return None
        known = landmarks_in_square(np.stack(list(found.values())), self.box, self.size)
        every = np.arange(len(self.landmarks))
        columns = [np.interp(every, list(found), column) for column in known.reshape(len(found), -1).T]
        return np.stack(columns, axis=-1).reshape(-1, 68, 2).astype(np.float32)


def _landmarks(track: Track) -> tuple[Float32[np.ndarray, "68 2"] | None, ...]:
    return tuple(None if face is None else face.landmarks for face in track.faces)


def _same_size(pictures: Pictures, shape: tuple[int, ...]) -> Iterator[Frame]:
    for frame in pictures.frames():
        if frame.pixels.shape != shape:
            raise UserError(
                f"{pictures.path}: pictures of {shape[1]}x{shape[0]} and of {frame.pixels.shape[1]}x"
                f"{frame.pixels.shape[0]}; all must have one size"
            )
        yield frame
