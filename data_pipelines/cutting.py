"""From one video to finished clips in a folder of its own: what the workers of `prepare` do."""

import functools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import Float32, Float64

from data_pipelines import faces, media, openface, tracking
from data_pipelines.inputs import Video
from data_pipelines.parts import read_part, write_part
from reenax.core.errors import UserError

FORMAT = 1
"""Raised when the same settings give other clips than before."""

OUTCOME_FILE = "outcome.json"
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Settings:
    """All that decides what clips a video gives."""

    size: int
    faces: str
    min_frames: int
    max_frames: int
    openface: bool = False
    """Whether clips have action units, of files of OpenFace; those without are left out."""
    format: int = FORMAT

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


class Outcome(NamedTuple):
    """What became of a video: its clips, or the kind and reason why there are none."""

    clips: int
    frames: int
    sound: bool = False
    kind: str = ""
    reason: str = ""


def cut(video: Video, settings: Settings, folder: Path) -> Outcome:
    """Write the clips of a video into `folder`, all or nothing; a video that gives none leaves a note why.

    Raises OSError when the folder cannot be written (disk full).
    """
    # of this process alone: a worker of a killed run may still be at the same video for half a second
    building = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        outcome = _clips_into(building, video, settings)
    except UserError as error:
        outcome = Outcome(0, 0, False, "unreadable", str(error).removeprefix(f"{video.path}: "))
    except MemoryError:
        outcome = Outcome(0, 0, False, "unreadable", "not enough memory to decode it")
    if not outcome.clips:
        for written in building.iterdir():  # of a file that broke in the second pass
            written.unlink()
    (building / OUTCOME_FILE).write_text(json.dumps(outcome._asdict()), "utf-8")
    try:
        building.rename(folder)
    except OSError:
        if not (folder / OUTCOME_FILE).is_file():
            raise
        shutil.rmtree(building)  # that worker was faster, and has written the same
    return outcome


def outcome_of(folder: Path) -> Outcome:
    """What `cut` noted in a folder."""
    return Outcome(**json.loads((folder / OUTCOME_FILE).read_text("utf-8")))


def read_records(folder: Path, video: Video) -> Iterator[dict[str, Any]]:
    """The records of a folder that `cut` wrote."""
    for number in range(outcome_of(folder).clips):
        record = read_part(folder / f"{number:04d}.npz")
        yield {"clip_id": f"{video.name}/{number:04d}", "identity": video.identity, **record}


def _clips_into(folder: Path, video: Video, settings: Settings) -> Outcome:
    detector = _detector() if settings.faces == "dlib" else None
    track = tracking.follow(media.iterate_frames(video.path), detector)
    if detector is None:
        clips = tracking.whole_clips(track, settings.min_frames, settings.max_frames)
    else:
        if not any(track.faces):
            return Outcome(0, 0, False, "faceless", f"no face in its {len(track.times)} frames")
        clips = tracking.face_clips(track, settings.min_frames, settings.max_frames)
    if not clips:
        what = "" if detector is None else " with one face in one place"
        return Outcome(
            0, 0, False, "too short", f"no {settings.min_frames} frames{what}; it has {len(track.times)} frames"
        )
    units: list[np.ndarray] = []
    if video.measured is not None:
        clips, units = _measured(video.measured, track.times, clips)
        if not clips:
            reason = f"no clip in which {video.measured} has a face but for {openface.MAX_GAP} frames in a row"
            return Outcome(0, 0, False, "unmeasured", reason)
    sound = _sound(video.path, track.times)
    for number, (clip, jpegs) in enumerate(_encoded(video.path, clips, settings.size)):
        labels = {"action_units": units[number]} if units else {}
        _write(folder / f"{number:04d}.npz", clip, jpegs, sound, settings.size, labels)
    return Outcome(len(clips), sum(len(clip.times) for clip in clips), sound is not None)


def _measured(
    path: Path, times: Float64[np.ndarray, " t"], clips: list[tracking.Clip]
) -> tuple[list[tracking.Clip], list[Float32[np.ndarray, "n 17"]]]:
    """The clips of a video in which OpenFace saw the face nearly always, and their action units."""
    intensities, seen = openface.on_frames(openface.read_track(path), times)
    kept, units = [], []
    for clip in clips:
        within = slice(clip.first, clip.first + len(clip.times))
        if openface.longest_gap(seen[within]) <= openface.MAX_GAP and seen[within].any():
            kept.append(clip)
            units.append(openface.filled(intensities[within], seen[within]))
    return kept, units


def _encoded(path: Path, clips: list[tracking.Clip], size: int) -> Iterator[tuple[tracking.Clip, list[bytes]]]:
    """Second pass over the video: the pictures of every clip, one clip in memory at a time."""
    waiting = iter(clips)
    clip = next(waiting)
    jpegs: list[bytes] = []
    for index, frame in enumerate(media.iterate_frames(path)):
        if index < clip.first:
            continue
        square = np.ascontiguousarray(faces.crop_and_resize(frame.pixels, clip.box, size))
        jpegs.append(simplejpeg.encode_jpeg(square, JPEG_QUALITY, "RGB", "444"))
        if len(jpegs) == len(clip.times):
            yield clip, jpegs
            jpegs = []
            if (following := next(waiting, None)) is None:
                return
            clip = following
    raise UserError(f"{path}: the second reading gave fewer frames than the first; the file has changed")


def _write(
    path: Path,
    clip: tracking.Clip,
    jpegs: list[bytes],
    sound: np.ndarray | None,
    size: int,
    labels: Mapping[str, np.ndarray],
) -> None:
    times = clip.times
    step = (times[-1] - times[0]) / (len(times) - 1)
    record = {
        "fps": np.float32(1 / step),
        "timestamps": times,
        "bbox": np.asarray(clip.box, np.float32),
        "frames": jpegs,
        "audio": np.zeros(0, np.int16),
        **labels,
    }
    if sound is not None:
        first, stop = (max(0, round(time * media.AUDIO_RATE)) for time in (times[0], times[-1] + step))
        record["audio"] = sound[first:stop]
    if clip.landmarks is not None:
        record["landmarks"] = faces.landmarks_in_square(clip.landmarks, clip.box, size)
    write_part(path, record)


def _sound(path: Path, times: np.ndarray) -> np.ndarray | None:
    """The sound along the frames; None where there is none that can be decoded."""
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    try:
        return media.read_audio(path, 0.0, float(times[-1] + step) + 0.01)
    except UserError:
        return None  # pictures are worth keeping without their sound


@functools.cache
def _detector() -> faces.FaceDetector:
    return faces.FaceDetector()  # half a second to load: once per process
