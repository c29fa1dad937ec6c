"""`reenax animate`: a picture and a driver, and out comes the picture moving."""

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image

from data_pipelines.faces import FaceDetector, landmarks_in_square
from data_pipelines.media import Frame
from data_pipelines.video_writer import VideoWriter, whole
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.reenact import stream
from reenax.core.types import Drive, Reenactor, Source
from reenax.geometry.hull import hull_measure
from reenax.inference import provenance
from reenax.inference.driving import Driving, Pictures
from reenax.inference.options import read_options
from reenax.inference.portrait import Layout, Portrait, open_portrait
from reenax.inference.progress import tracked
from reenax.inference.tracks import Track
from reenax.train.catalogue import driven_by
from reenax.train.runs import Trained

Driver = Driving | Track


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
        parts = [f"{self.out}: {rate}", "with the driver's sound" if self.sound else "without sound"]
        if self.first:
            parts.append(f"motion measured from driving frame {self.first}")
        if self.credentials:
            parts.append("signed as made by AI")
        else:
            parts.append("NOT signed: say yourself that it is made by AI wherever you show it")
        return ", ".join(parts)


def animate(
    trained: Trained,
    source: Path | Sequence[Path],
    driving: Path | Track,
    out: Path,
    *,
    options: Mapping[str, str] = MappingProxyType({}),
    best_frame: bool = False,
    paste_back: bool = False,
    compare: bool = False,
    faces: str = "dlib",
    margin: float | None = None,
    credentials: bool = True,
    batch_size: int = 8,
) -> AnimateReport:
    """Makes the source follow the driver and writes the result with the driver's sound and frame times.

    Args:
        trained: a method that takes this kind of driver.
        source: picture, or video whose first frame is taken; several for methods that use several. None is needed by a
            method that draws one person.
        driving: video, picture or folder of pictures; or a track of action units, poses, speech or labels.
        out: an .mp4, or a .png when the driver is one picture.
        options: of the method's reenactor, as texts: ``{"mode": "absolute"}``.
        best_frame: measure relative motion from the driving frame most like the source, not from the first.
        paste_back: put the result back into the whole source picture.
        compare: write source, driving and result side by side.
        faces: "dlib" finds the faces, "none" takes centre squares.
        margin: of the source's square around the face's box, as a share of it; None cuts as `reenax prepare` does.
        credentials: sign the output as made by AI.
        batch_size: driving frames worked on together.

    Raises:
        UserError: anything that the user can mend; nothing half-written is left.
    """
    sources = [source] if isinstance(source, Path) else list(source)
    _check(trained, len(sources), driving, best_frame, paste_back, compare, faces, margin)
    chosen = read_options(trained.method, trained.name, options)
    _check_motion(chosen.get("mode", "relative"), options, best_frame)
    _check_paths(sources, driving, out)
    with whole(out) as part:  # first of all, so that a bad place is known before the work
        signer = provenance.open_signer() if credentials else None
        detector = FaceDetector() if faces == "dlib" else None
        size = int(trained.config.data.size)
        portraits = [open_portrait(path, size, detector, margin) for path in sources]
        portrait = portraits[0] if portraits else None
        drive = driving if isinstance(driving, Track) else Driving.open(driving, size, detector)
        first = closest_frame(portrait, drive) if best_frame and portrait and isinstance(drive, Driving) else 0
        began = time.perf_counter()
        anchor: Drive = drive.anchor(first)
        run = trained.method.reenactor(trained.variables, _source(portraits, size), anchor=anchor, **chosen)
        shown = _shown(run, drive, Layout(portrait, paste_back, compare), batch_size)
        inputs = {"driving": drive.kind} if portrait is None else {"source": portrait.kind, "driving": drive.kind}
        with provenance.signed(signer, part, out.name, trained.name, inputs) as unsigned:
            has_sound = _write(tracked(shown, drive.count, "animating", "frames"), unsigned, drive)
    return AnimateReport(out, drive.count, time.perf_counter() - began, first, has_sound, credentials)


def _source(portraits: Sequence[Portrait], size: int) -> Source:
    """What the method gets to see of the identity; a grey picture where it needs none."""
    if not portraits:
        return Source(jnp.zeros((1, size, size, 3)))
    found = [(p.landmarks.astype(np.float32), p.box) for p in portraits if p.landmarks is not None]
    points = jnp.stack([landmarks_in_square(x, box, size) for x, box in found]) if found else None
    return Source(as_float(np.stack([p.crop for p in portraits])), points)


def _shown(run: Reenactor, drive: Driver, layout: Layout, batch_size: int) -> Iterator[Frame]:
    """The frames to write; never more than two batches are in memory."""
    waiting: deque[tuple[float, np.ndarray | None]] = deque()

    def cut() -> Iterator[tuple[Drive, int]]:
        for part in drive.parts(batch_size):
            waiting.extend(zip(part.times, part.pictures or [None] * part.count, strict=True))
            yield part.drive, part.count

    for made in stream(run, cut()):
        at, picture = waiting.popleft()
        yield Frame(layout.compose(made, picture), at)


def check_kind(trained: Trained, kind: str) -> None:
    """Refuses a driver that the method does not take.

    Raises:
        UserError: naming those that it takes, and the methods that take this one.
    """
    if kind not in trained.method.drives:
        others = driven_by(kind)
        raise UserError(
            f"{trained.name} is not driven by {kind} but by {', '.join(sorted(trained.method.drives)) or 'nothing'}; "
            f"methods driven by {kind}: {', '.join(others) or 'none'}"
        )


def _check(
    trained: Trained,
    sources: int,
    driving: Path | Track,
    best_frame: bool,
    paste_back: bool,
    compare: bool,
    faces: str,
    margin: float | None,
) -> None:
    """Refuses what cannot be done and options that would do nothing."""
    method, kind = trained.method, driving.kind if isinstance(driving, Track) else "video"
    check_kind(trained, kind)
    if faces not in ("dlib", "none"):
        raise UserError(f'faces must be "dlib" or "none", not {faces!r}')
    if unfound := method.reads - {"landmarks"}:
        raise UserError(
            f"this {trained.name} reads {', '.join(unfound)}, and only 68 landmarks can be found in pictures; "
            "measure it on data that has them, or animate with a model of 68"
        )
    if faces == "none" and method.reads:
        raise UserError(f"{trained.name} needs the landmarks of faces, and --faces none looks for none; leave it out")
    if margin is not None and (faces == "none" or not sources):
        raise UserError(
            f"--margin {margin:g} is of the square around the source's face, and none is looked for; leave it out"
        )
    if margin is not None and not 0 <= margin <= 3:
        raise UserError(f"--margin {margin:g}: it is a share of the face's box, from 0 to 3")
    if method.portrays and sources:
        raise UserError(f"this {trained.name} draws {method.portrays} alone; leave --source out")
    if not method.portrays and not sources:
        raise UserError(f"{trained.name} needs --source, a picture of the identity")
    if sources > max(1, method.max_sources):
        raise UserError(f"{trained.name} uses at most {method.max_sources} pictures of the source, not {sources}")
    if best_frame and (faces == "none" or kind != "video" or not sources):
        raise UserError("--best-frame compares faces of source and driving, and here are none; leave it out")
    if paste_back and compare:
        raise UserError("--paste-back and --compare lay the result out in different ways; choose one")
    if paste_back and not sources:
        raise UserError("--paste-back puts the result into the source picture, and there is none; leave it out")


def _check_motion(mode: object, given: Mapping[str, str], best_frame: bool) -> None:
    """Refuses what is about relative motion where motion is not relative."""
    for name, on in (("--best-frame", best_frame), ("adapt_scale", "adapt_scale" in given)):
        if on and mode != "relative":
            raise UserError(f"{name} is about relative motion and does nothing with mode {mode}; leave one out")


def _check_paths(sources: Sequence[Path], driving: Path | Track, out: Path) -> None:
    if out.suffix.lower() not in (".mp4", ".png"):
        raise UserError(f"{out}: cannot write {out.suffix or 'a file without a suffix'}; name an .mp4 (or a .png)")
    drivers = [driving] if isinstance(driving, Path) else [driving.sound] if driving.sound else []
    for path, role in (*((p, "source") for p in sources), *((p, "driving") for p in drivers)):
        if path.is_file() and out.exists() and out.samefile(path):
            raise UserError(f"{out} is the {role} file itself; give --out another name")
    if out.suffix.lower() != ".png":
        return
    if isinstance(driving, Track):
        several = driving.count > 1
    else:
        several = len(list(itertools.islice(Pictures.open(driving).frames(), 2))) > 1
    if several:
        name = driving if isinstance(driving, Path) else f"the {driving.kind} track"
        raise UserError(f"{name} has several frames, a .png holds one; give --out a name ending in .mp4")


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


def _write(frames: Iterator[Frame], path: Path, drive: Driver) -> bool:
    """Writes a picture or a video; returns whether there is sound."""
    first = next(frames)
    if path.suffix.lower() == ".png":
        Image.fromarray(first.pixels).save(path)
        return False
    with VideoWriter(path, (first.pixels.shape[0], first.pixels.shape[1]), drive.fps, drive.sound) as writer:
        for frame in itertools.chain([first], frames):
            writer.write(frame.pixels, frame.time)
        return writer.has_sound
