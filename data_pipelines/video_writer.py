"""Writing videos: H.264 at the exact times of the frames, with the sound of another file carried over."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from jaxtyping import UInt8

from reenax.core.errors import UserError

CLOCK = 90_000  # ticks per second: exact for all common frame rates
CRF = "18"  # visually lossless
AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # other rates of sound are brought to 48 kHz


class VideoWriter:
    """Writes frames one by one; use it as a context manager.

    Sides are cut to even numbers, which the format wants.

    Args:
        path: the file, whose suffix names the container (.mp4).
        size: (height, width) of the frames.
        fps: nominal frame rate, also how long the last frame lasts.
        sound: a file whose first audio stream is re-encoded (AAC) at its own rate and times; None for silence.
        duration: seconds of sound that are kept; None for all.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float, sound: Path | None = None, duration: float | None = None
    ):
        self._path, self._sound, self._duration = path, sound, duration
        self._height, self._width = (n - n % 2 for n in size)
        rate = Fraction(fps).limit_denominator(1001)
        self._container = av.open(str(path), "w")
        self._video: Any = self._container.add_stream("libx264", rate=rate, options={"crf": CRF, "bf": "0"})
        self._video.width, self._video.height, self._video.pix_fmt = self._width, self._height, "yuv420p"
        self._video.codec_context.time_base = Fraction(1, CLOCK)
        self._audio: Any = None
        self._last = -1
        self._source: Any = None
        if sound is not None:
            self._open_sound(sound)

    def _open_sound(self, sound: Path) -> None:
        self._source = av.open(str(sound.absolute()), metadata_errors="ignore")
        if self._source.streams.audio:
            rate = self._source.streams.audio[0].codec_context.sample_rate
            layout = "stereo" if self._source.streams.audio[0].channels > 1 else "mono"
            rate = rate if rate in AAC_RATES else 48_000
            self._audio = self._container.add_stream("aac", rate=rate, layout=layout)

    @property
    def has_sound(self) -> bool:
        """Whether the file gets a sound track."""
        return self._audio is not None

    def write(self, frame: UInt8[np.ndarray, "h w 3"], time: float) -> None:
        """Adds a frame that is shown from ``time`` (seconds) on; times must increase."""
        pixels = np.ascontiguousarray(frame[: self._height, : self._width])
        made = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(round(time * CLOCK), self._last + 1)
        made.pts, made.time_base = self._last, Fraction(1, CLOCK)
        self._container.mux(self._video.encode(made))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                if self._audio is not None:
                    self._write_sound()
                self._container.mux(self._video.encode(None))
        finally:
            self._container.close()
            if self._source is not None:
                self._source.close()

    def _write_sound(self) -> None:
        codec = self._audio.codec_context
        resampler = av.AudioResampler(format=codec.format, layout=codec.layout, rate=codec.sample_rate)
        origin = (self._source.start_time or 0) / av.time_base
        limit = None if self._duration is None else round(self._duration * codec.sample_rate)
        position: int | None = None  # of the next sample, counted from the start of the file
        for frame in self._decoded_sound():
            for piece in resampler.resample(frame):
                if position is None:
                    start = 0.0 if frame is None or frame.time is None else frame.time - origin
                    position = max(0, round(start * codec.sample_rate))
                if limit is not None and position >= limit:
                    break
                piece.pts, piece.time_base = position, Fraction(1, codec.sample_rate)
                position += piece.samples
                self._container.mux(self._audio.encode(piece))
        self._container.mux(self._audio.encode(None))

    def _decoded_sound(self) -> Iterator[Any]:
        """Audio frames, then None to flush; what cannot be decoded is left out."""
        packets = self._source.demux(audio=0)
        for packet in packets:
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from frames
        yield None


def write_video(path: Path, frames: UInt8[np.ndarray, "t h w 3"], fps: float) -> None:
    """Writes frames that are in memory, at a constant rate and without sound.

    Raises:
        UserError: the file cannot be written.
    """
    with whole(path) as part, VideoWriter(part, frames.shape[1:3], fps) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index / fps)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to; the file appears under ``path`` when all is written, or not at all.

    Raises:
        UserError: the folder is missing or not writable, or the disk is full.
    """
    part = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is no folder; make it, or give --out another place")
        yield part
        part.replace(path)
    except OSError as error:  # PyAV's own errors of files are OSErrors too
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"the disk that should hold {path} is full; free some space or give another place"
            ) from error
        if isinstance(error, PermissionError) or error.errno in (errno.EROFS, errno.EISDIR, errno.ENOENT):
            raise UserError(f"{path} cannot be written ({error.strerror}); give --out another place") from error
        raise
    finally:
        part.unlink(missing_ok=True)
