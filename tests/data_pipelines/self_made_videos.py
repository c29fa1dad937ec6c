"""Videos that the tests write themselves."""

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from data_pipelines.media import iterate_frames

TICKS = 1000


def moving_picture(count: int, height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth frames [count h w 3] in which a bright square wanders, so that codecs keep them nearly exact."""
    rng = np.random.default_rng(seed)
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = rng.integers(40, 120, 3, dtype=np.uint8)
    side = min(height, width) // 4
    for index, frame in enumerate(frames):
        x = (index * 3) % (width - side)
        frame[side : 2 * side, x : x + side] = 200
    return frames


def write_video(
    path: Path,
    frames: np.ndarray,
    times: np.ndarray | None = None,
    rotation: int = 0,
    sound: np.ndarray | None = None,
    sound_rate: int = 44_100,
    codec: str = "libx264",
) -> Path:
    """Encode frames [t h w 3] at times in seconds (default 25 a second), with mono sound in [-1, 1] if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(len(frames)) / 25 if times is None else times
    with av.open(str(path), "w") as container:
        video = cast(av.VideoStream, container.add_stream(codec, rate=25))
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.codec_context.time_base = Fraction(1, TICKS)
        if codec == "libx264":
            video.options = {"crf": "10", "preset": "ultrafast"}
        if rotation:
            video.set_display_rotation(rotation)
        audio = None
        if sound is not None:
            audio = cast(av.AudioStream, container.add_stream("aac", rate=sound_rate, layout="mono"))
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            piece = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = sound_rate, 0, Fraction(1, sound_rate)
            container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def frames_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a video, uint8 [t h w 3], and their times in seconds."""
    frames = list(iterate_frames(path))
    return np.stack([f.pixels for f in frames]), np.array([f.time for f in frames])
