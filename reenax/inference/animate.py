"""`reenax animate`: a picture, a driving video, and out comes the picture moving."""

import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.ndimage import gaussian_filter

from data_pipelines.faces import Box, FaceDetector, centre_square, crop_and_resize, enlarged_square
from data_pipelines.media import Frame
from data_pipelines.video_writer import VideoWriter, whole
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.reenact import stream
from reenax.core.types import Source, VideoDrive
from reenax.geometry.hull import hull_area
from reenax.inference import provenance
from reenax.inference.driving import Driving, Pictures
from reenax.train.runs import Trained

BORDER = 0.08  # of the square's side: how far a pasted result fades into the source picture


@dataclasses.dataclass(frozen=True)
class AnimateReport:
    """What was written, and how fast."""

    out: Path
    frames: int
    seconds: float
    first: int
    sound: bool
    credentials: bool

    def text(self) -> str:
        """A line for people."""
        rate = f"{self.frames} frames in {self.seconds:.1f} s ({self.frames / max(self.seconds, 1e-3):.1f} frames/s)"
        parts = [f"{self.out}: {rate}", "with the driving sound" if self.sound else "without sound"]
        if self.first:
            parts.append(f"motion measured from driving frame {self.first}")
        if self.credentials:
            parts.append("signed as made by AI")
        else:
            parts.append("NOT signed: say yourself that it is made by AI wherever you show it")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Portrait:
    """The source picture and the square of it that is animated."""

    picture: UInt8[np.ndarray, "h w 3"]
    box: Box
    crop: UInt8[np.ndarray, "s s 3"]
    landmarks: Float[np.ndarray, "68 2"] | None


def animate(
    trained: Trained,
    source: Path,
    driving: Path,
    out: Path,
    *,
    mode: str = "relative",
    best_frame: bool = False,
    adapt_scale: bool = False,
    paste_back: bool = False,
    compare: bool = False,
    faces: str = "dlib",
    credentials: bool = True,
    batch_size: int = 8,
) -> AnimateReport:
    """Makes the source follow the driver and writes the result with the driver's sound and frame times.

    Args:
        trained: a method that video can drive.
        source: picture, or video whose first frame is taken.
        driving: video, picture or folder of pictures.
        out: an .mp4, or a .png when the driver is one picture.
        mode: "relative" or "absolute".
        best_frame: measure relative motion from the driving frame most like the source, not from the first.
        adapt_scale: scale relative motion by the ratio of the faces' sizes.
        paste_back: put the result back into the whole source picture.
        compare: write source, driving and result side by side.
        faces: "dlib" finds the faces, "none" takes centre squares.
        credentials: sign the output as made by AI.
        batch_size: driving frames worked on together.

    Raises:
        UserError: anything that the user can mend; nothing half-written is left.
    """
    _check(trained, out, driving, best_frame, paste_back, compare, faces)
    size = int(trained.config.data.size)
    detector = FaceDetector() if faces == "dlib" else None
    portrait = open_portrait(source, size, detector)
    drive = Driving.open(driving, size, detector)
    first = closest_frame(portrait, drive, source) if best_frame else 0
    options: dict[str, Any] = {"mode": mode, "adapt_scale": adapt_scale}
    run = trained.method.reenactor(
        trained.variables,
        Source(as_float(portrait.crop[None])),
        anchor=VideoDrive(as_float(drive.frame(first)[None])),
        **options,
    )
    began = time.perf_counter()
    waiting: deque[Frame] = deque()

    def cut() -> Iterator[np.ndarray]:
        for frame in drive.frames():
            waiting.append(frame)
            yield frame.pixels

    def shown() -> Iterator[Frame]:
        layout = Layout(portrait, paste_back, compare)
        for made in _with_progress(stream(run, cut(), batch_size), drive.count):
            frame = waiting.popleft()
            yield Frame(layout.compose(made, frame.pixels), frame.time)

    sound = drive.pictures.path if drive.pictures.kind == "video" else None
    has_sound = _write(shown(), out, drive.pictures.fps, sound, credentials, trained.name, source, drive)
    return AnimateReport(out, drive.count, time.perf_counter() - began, first, has_sound, credentials)


def _check(
    trained: Trained, out: Path, driving: Path, best_frame: bool, paste_back: bool, compare: bool, faces: str
) -> None:
    if "video" not in trained.method.drives:
        raise UserError(
            f"{trained.name} is not driven by video but by {', '.join(sorted(trained.method.drives))}; "
            f"`reenax methods` lists what drives each method"
        )
    if out.suffix.lower() not in (".mp4", ".png"):
        raise UserError(f"{out}: cannot write {out.suffix or 'a file without a suffix'}; name an .mp4 (or a .png)")
    if out.exists() and any(out.samefile(p) for p in (driving,) if p.exists()):
        raise UserError(f"{out} is the driving video itself; give --out another name")
    if best_frame and faces == "none":
        raise UserError("--best-frame compares faces, and --faces none looks for none; leave one of them out")
    if paste_back and compare:
        raise UserError("--paste-back and --compare lay the result out in different ways; choose one")


def open_portrait(path: Path, size: int, detector: FaceDetector | None) -> Portrait:
    """Reads the source and cuts its largest face, by the rule that training clips are cut by.

    Raises:
        UserError: nothing readable, or no face.
    """
    picture = Pictures.open(path).first()
    shape = (picture.shape[0], picture.shape[1])
    if detector is None:
        box, landmarks = centre_square(shape), None
    else:
        found = detector.detect(picture)
        if not found:
            raise UserError(f"{path}: no face found; use another picture, or --faces none to take the centre square")
        box, landmarks = enlarged_square(found[0].box, shape), found[0].landmarks.astype(np.float64)
    return Portrait(picture, box, crop_and_resize(picture, box, size), landmarks)


def normalised(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 2"]:
    """Landmarks centred and divided by the root of the area of their hull (FOMM, section on the best frame)."""
    centred = landmarks - landmarks.mean(axis=0, keepdims=True)
    return centred / np.sqrt(hull_area(centred))


def closest_frame(portrait: Portrait, drive: Driving, source: Path) -> int:
    """The driving frame whose normalised landmarks are nearest to the source's.

    Raises:
        UserError: no landmarks in the source.
    """
    if portrait.landmarks is None:
        raise UserError(f"{source}: no face to compare with; --best-frame needs one")
    wanted = normalised(portrait.landmarks)
    distances = [
        np.inf if points is None else float(np.sum((normalised(points.astype(np.float64)) - wanted) ** 2))
        for points in drive.landmarks
    ]
    return int(np.argmin(distances))


class Layout:
    """How a made picture is shown.

    Args:
        portrait: the source.
        paste_back: in the whole source picture.
        compare: beside source and driving.
    """

    def __init__(self, portrait: Portrait, paste_back: bool, compare: bool):
        self._portrait, self._paste_back, self._compare = portrait, paste_back, compare
        if paste_back:
            self._mask = soft_mask(round(portrait.box[2] - portrait.box[0]))

    def compose(
        self, made: UInt8[np.ndarray, "s s 3"], driving: UInt8[np.ndarray, "s s 3"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture to write."""
        if self._compare:
            return np.concatenate([self._portrait.crop, driving, made], axis=1)
        if self._paste_back:
            return paste(self._portrait.picture, made, self._portrait.box, self._mask)
        return made


def soft_mask(side: int) -> Float[np.ndarray, "{side} {side}"]:
    """1 in the middle, falling smoothly to 0 at the border."""
    border = max(1, round(BORDER * side))
    mask = np.zeros((side, side))
    mask[border : side - border, border : side - border] = 1.0
    blurred = gaussian_filter(mask, border / 2.5)
    edge = np.minimum(np.arange(side), np.arange(side)[::-1]) / border
    ramp = np.clip(np.minimum(edge[:, None], edge[None, :]), 0, 1)
    return np.minimum(blurred, ramp)  # exactly 0 at the border


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


def _write(
    frames: Iterator[Frame],
    out: Path,
    fps: float,
    sound: Path | None,
    credentials: bool,
    method: str,
    source: Path,
    drive: Driving,
) -> bool:
    """Writes and signs; returns whether there is sound."""
    inputs = {"source": Pictures.open(source).kind, "driving": drive.pictures.kind}
    with whole(out) as part:
        unsigned = part.with_name(f".unsigned{part.name}") if credentials else part
        try:
            has_sound = _write_frames(frames, unsigned, fps, sound, drive)
            if credentials:
                provenance.sign(unsigned, part, method, inputs)
        finally:
            if credentials:
                unsigned.unlink(missing_ok=True)
    return has_sound


def _write_frames(frames: Iterator[Frame], path: Path, fps: float, sound: Path | None, drive: Driving) -> bool:
    if path.suffix.lower() == ".png":
        if drive.count > 1:
            raise UserError(f"the driver has {drive.count} frames, a .png holds one; give --out a name ending in .mp4")
        Image.fromarray(next(frames).pixels).save(path)
        return False
    first = next(frames)
    with VideoWriter(path, first.pixels.shape[:2], fps, sound) as writer:
        writer.write(first.pixels, first.time)
        for frame in frames:
            writer.write(frame.pixels, frame.time)
        return writer.has_sound


def _with_progress(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.speed:.1f} frames/s"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(frames, total=count, description="animating")
