"""Following the face through a video, and cutting the video into clips in which it stays in its box."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from data_pipelines.faces import Box, Face, FaceDetector, centre_square, enlarged_square, hull, overlap
from data_pipelines.media import Frame

SEARCH_SIDE = 960
"""Frames are searched for a face at this size of their longer side."""

SEARCH_EVERY = 5
"""Where no face is, only every fifth frame is searched."""

LONGEST_GAP = 8
"""Frames without a detection that are bridged between two with one; a longer gap ends a clip."""

SMOOTHING = 5
"""Boxes are averaged over this many frames, so that a single wrong one cuts nothing."""

LEAST_OVERLAP = 0.5
"""A clip ends where the box's intersection over union with the clip's first box falls below this."""

SCENE_CHANGE = 25.0
"""Mean change of grey levels between two frames, at 16x16 pixels, that is a new scene (movement stays below 5)."""


class Track(NamedTuple):
    """What a first pass over a video gives: one entry per frame."""

    size: tuple[int, int]
    """Height and width of the frames."""
    times: Float64[np.ndarray, " t"]
    faces: list[Face | None]
    scene: list[int]
    """Number of the scene."""


class Clip(NamedTuple):
    """A piece of a video that becomes a record."""

    first: int
    """Index of the first frame."""
    box: Box
    """The clip's square, in whole pixels."""
    times: Float64[np.ndarray, " t"]
    landmarks: Float32[np.ndarray, "t 68 2"] | None
    """In pixels of the video's frames."""


def follow(frames: Iterable[Frame], detector: FaceDetector | None) -> Track:
    """First pass: the face in every frame (none without a detector); errors of decoding pass through."""
    times: list[float] = []
    faces: list[Face | None] = []
    scene: list[int] = []
    size = (0, 0)
    last: Face | None = None
    lost = 0  # frames since the face was seen
    before: np.ndarray | None = None
    for index, frame in enumerate(frames):
        size = frame.pixels.shape[0], frame.pixels.shape[1]
        now = _thumbnail(frame.pixels)
        cut = detector is not None and before is not None and float(np.abs(now - before).mean()) > SCENE_CHANGE
        before = now
        if cut:
            last, lost = None, 0
        face = None
        if detector is not None:
            if last is not None:
                face = detector.near(frame.pixels, last.box)
            if face is None and (lost <= LONGEST_GAP or index % SEARCH_EVERY == 0):
                candidates = detector.search(frame.pixels, SEARCH_SIDE)
                face = _same_face(candidates, last)
        last, lost = (face, 0) if face is not None else (last if lost < LONGEST_GAP else None, lost + 1)
        times.append(frame.time)
        faces.append(face)
        scene.append((scene[-1] if scene else 0) + cut)
    return Track(size, np.asarray(times, np.float64), faces, scene)


def whole_clips(track: Track, min_frames: int, max_frames: int) -> list[Clip]:
    """Clips that show the centre square of the whole video."""
    box = centre_square(track.size)
    pieces = _pieces(0, len(track.times), min_frames, max_frames)
    return [Clip(first, box, track.times[first:stop], None) for first, stop in pieces]


def face_clips(track: Track, min_frames: int, max_frames: int) -> list[Clip]:
    """Clips in which one face stays in its box, at most `max_frames` long, of about equal length within a shot."""
    clips = []
    for start, boxes, landmarks in _runs(track):
        for cut_from, cut_to in _staying(boxes):
            for first, end in _pieces(cut_from, cut_to, min_frames, max_frames):
                square = enlarged_square(hull([tuple(box) for box in boxes[first:end]]), track.size)
                times = track.times[start + first : start + end]
                clips.append(Clip(start + first, square, times, landmarks[first:end]))
    return clips


def _same_face(candidates: list[Face], last: Face | None) -> Face | None:
    if last is None:
        return candidates[0] if candidates else None
    best = max(candidates, key=lambda face: overlap(face.box, last.box), default=None)
    return best if best is not None and overlap(best.box, last.box) > 0 else None


def _thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "16 16"]:
    grey = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX, reducing_gap=1.0).convert("L")
    return np.asarray(grey, np.float32)


def _runs(track: Track) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Stretches of one scene with a face, short gaps bridged: index of the first, smooth boxes, landmarks."""
    seen = [index for index, face in enumerate(track.faces) if face is not None]
    if not seen:
        return
    ends = [
        k
        for k in range(1, len(seen))
        if seen[k] - seen[k - 1] > LONGEST_GAP + 1 or track.scene[seen[k]] != track.scene[seen[k - 1]]
    ]
    for low, high in pairwise([0, *ends, len(seen)]):
        known = seen[low:high]
        found = [face for face in (track.faces[index] for index in known) if face is not None]
        every = np.arange(known[0], known[-1] + 1)
        boxes = _interpolated(every, known, np.asarray([face.box for face in found]))
        points = np.stack([face.landmarks for face in found]).reshape(len(found), -1)
        landmarks = _interpolated(every, known, points).reshape(-1, 68, 2).astype(np.float32)
        yield known[0], _smooth(boxes), landmarks


def _interpolated(at: np.ndarray, known: list[int], values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(at, known, column) for column in values.T], axis=1)


def _smooth(boxes: np.ndarray) -> np.ndarray:
    half = SMOOTHING // 2
    padded = np.pad(boxes, ((half, half), (0, 0)), mode="edge")
    return np.stack([padded[k : k + len(boxes)] for k in range(SMOOTHING)]).mean(axis=0)


def _staying(boxes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Stretches in which the box overlaps the stretch's first box enough."""
    first = 0
    for index in range(1, len(boxes)):
        if overlap(tuple(boxes[index]), tuple(boxes[first])) < LEAST_OVERLAP:
            yield first, index
            first = index
    yield first, len(boxes)


def _pieces(first: int, stop: int, min_frames: int, max_frames: int) -> list[tuple[int, int]]:
    """A stretch in the fewest pieces of at most `max_frames`, of equal length but for one frame."""
    length = stop - first
    if length < min_frames:
        return []
    count = -(-length // max_frames)
    edges = [first + length * k // count for k in range(count + 1)]
    return list(pairwise(edges))
