"""`reenax animate`: a picture, a driving video, and out comes the picture moving."""

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from data_pipelines.faces import Box, FaceDetector, centre_square, crop_and_resize, enlarged_square
from data_pipelines.media import Frame
from data_pipelines.video_writer import VideoWriter, whole
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.reenact import stream
from reenax.core.types import Reenactor, Source, VideoDrive
from reenax.geometry.hull import hull_measure
from reenax.inference import provenance
from reenax.inference.driving import Driving, Pictures
from reenax.inference.options import read_options
from reenax.inference.progress import tracked
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

    path: Path
    kind: str
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
    options: Mapping[str, str] = MappingProxyType({}),
    best_frame: bool = False,
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
        options: of the method's reenactor, as texts: ``{"mode": "absolute"}``.
        best_frame: measure relative motion from the driving frame most like the source, not from the first.
        paste_back: put the result back into the whole source picture.
        compare: write source, driving and result side by side.
        faces: "dlib" finds the faces, "none" takes centre squares.
        credentials: sign the output as made by AI.
        batch_size: driving frames worked on together.

    Raises:
        UserError: anything that the user can mend; nothing half-written is left.
    """
    _check(trained, best_frame, paste_back, compare, faces)
    chosen = read_options(trained.method, trained.name, options)
    _check_motion(chosen.get("mode", "relative"), options, best_frame)
    _check_paths(source, driving, out)
    with whole(out) as part:  # first of all, so that a bad place is known before the work
        signer = provenance.open_signer() if credentials else None
        detector = FaceDetector() if faces == "dlib" else None
        size = int(trained.config.data.size)
        portrait = open_portrait(source, size, detector)
        drive = Driving.open(driving, size, detector)
        first = closest_frame(portrait, drive) if best_frame else 0
        began = time.perf_counter()
        run = trained.method.reenactor(
            trained.variables,
            Source(as_float(portrait.crop[None])),
            anchor=VideoDrive(as_float(drive.frame(first)[None])),
            **chosen,
        )
        shown = _shown(run, drive, Layout(portrait, paste_back, compare), batch_size)
        inputs = {"source": portrait.kind, "driving": drive.pictures.kind}
        with provenance.signed(signer, part, out.name, trained.name, inputs) as unsigned:
            has_sound = _write(tracked(shown, drive.count, "animating", "frames"), unsigned, drive)
    return AnimateReport(out, drive.count, time.perf_counter() - began, first, has_sound, credentials)


def _shown(run: Reenactor, drive: Driving, layout: "Layout", batch_size: int) -> Iterator[Frame]:
    """The frames to write; never more than two batches are in memory."""
    waiting: deque[Frame] = deque()

    def cut() -> Iterator[np.ndarray]:
        for frame in drive.frames():
            waiting.append(frame)
            yield frame.pixels

    for made in stream(run, cut(), batch_size):
        frame = waiting.popleft()
        yield Frame(layout.compose(made, frame.pixels), frame.time)


def _check(trained: Trained, best_frame: bool, paste_back: bool, compare: bool, faces: str) -> None:
    """Refuses what cannot be done and options that would do nothing."""
    if "video" not in trained.method.drives:
        raise UserError(
            f"{trained.name} is not driven by video but by {', '.join(sorted(trained.method.drives)) or 'nothing'}; "
            f"`reenax methods` lists what drives each method"
        )
    if faces not in ("dlib", "none"):
        raise UserError(f'faces must be "dlib" or "none", not {faces!r}')
    if best_frame and faces == "none":
        raise UserError("--best-frame compares faces, and --faces none looks for none; leave one of them out")
    if paste_back and compare:
        raise UserError("--paste-back and --compare lay the result out in different ways; choose one")


def _check_motion(mode: object, given: Mapping[str, str], best_frame: bool) -> None:
    """Refuses what is about relative motion where motion is not relative."""
    for name, on in (("--best-frame", best_frame), ("adapt_scale", "adapt_scale" in given)):
        if on and mode != "relative":
            raise UserError(f"{name} is about relative motion and does nothing with mode {mode}; leave one out")


def _check_paths(source: Path, driving: Path, out: Path) -> None:
    if out.suffix.lower() not in (".mp4", ".png"):
        raise UserError(f"{out}: cannot write {out.suffix or 'a file without a suffix'}; name an .mp4 (or a .png)")
    for path, role in ((source, "source"), (driving, "driving")):
        if path.is_file() and out.exists() and out.samefile(path):
            raise UserError(f"{out} is the {role} file itself; give --out another name")
    if out.suffix.lower() == ".png" and len(list(itertools.islice(Pictures.open(driving).frames(), 2))) > 1:
        raise UserError(f"{driving} has several frames, a .png holds one; give --out a name ending in .mp4")


def open_portrait(path: Path, size: int, detector: FaceDetector | None) -> Portrait:
    """Reads the source and cuts its largest face, by the rule that training clips are cut by.

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
        box, landmarks = enlarged_square(found[0].box, shape), found[0].landmarks.astype(np.float64)
    return Portrait(path, pictures.kind, picture, box, crop_and_resize(picture, box, size), landmarks)


def normalised(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 2"]:
    """Landmarks centred and divided by the root of the area of their hull (FOMM, section on the best frame)."""
    centred = landmarks - landmarks.mean(axis=0, keepdims=True)
    return centred / np.sqrt(hull_measure(centred))


def closest_frame(portrait: Portrait, drive: Driving) -> int:
    """The driving frame whose normalised landmarks are nearest to the source's.

    Raises:
        UserError: no landmarks in the source.
    """
    if portrait.landmarks is None:
        raise UserError(f"{portrait.path}: no face to compare with; --best-frame needs one")
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
            self._mask = soft_mask(portrait.box, (portrait.picture.shape[0], portrait.picture.shape[1]))

    def compose(
        self, made: UInt8[np.ndarray, "s s 3"], driving: UInt8[np.ndarray, "s s 3"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture to write."""
        if self._compare:
            return np.concatenate([self._portrait.crop, driving, made], axis=1)
        if self._paste_back:
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


def _write(frames: Iterator[Frame], path: Path, drive: Driving) -> bool:
    """Writes a picture or a video; returns whether there is sound."""
    first = next(frames)
    if path.suffix.lower() == ".png":
        Image.fromarray(first.pixels).save(path)
        return False
    sound = drive.pictures.path if drive.pictures.kind == "video" else None
    with VideoWriter(path, (first.pixels.shape[0], first.pixels.shape[1]), drive.pictures.fps, sound) as writer:
        for frame in itertools.chain([first], frames):
            writer.write(frame.pixels, frame.time)
        return writer.has_sound
