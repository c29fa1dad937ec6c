"""Writing videos: H.264 at the exact times of the frames, with the sound of another file carried over."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8

from data_pipelines.media import MAX_AUDIO_SECONDS
from reenax.core.errors import UserError

CLOCK = 90_000  # ticks per second: exact for all common frame rates
CRF = "18"  # visually lossless
AAC_RATES = frozenset(
    (7350, 8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
)  # sound of any other rate is brought to 48 kHz
GAP = 0.1  # seconds: shorter gaps between the time stamps of sound are rounding


class VideoWriter:
    """Writes frames one by one; use it as a context manager.

    Sides are cut to even numbers, which the format wants. Colours are BT.709 and say so, so that every player shows
    them alike at every size.

    Args:
        path: the file, whose suffix names the container (.mp4).
        size: (height, width) of the frames.
        fps: nominal frame rate, also how long the last frame lasts.
        sound: a file whose first sound stream is re-encoded (AAC) at its own rate and times; None for silence.

    Raises:
        OSError, av.error.FFmpegError: the file cannot be written; `whole` turns them into `UserError`.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, sound: Path | None = None):
        self._height, self._width = (n - n % 2 for n in size)
        self._sound = _Sound.open(sound) if sound is not None else None
        # The index goes to the front, so that a browser can begin to play before it has the whole file. The absolute
        # path keeps names such as "concat:x.mp4" from being taken as protocols.
        self._container = av.open(str(path.absolute()), "w", container_options={"movflags": "faststart"})
        self._video: Any = self._container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": CRF, "bf": "0"}
        )
        self._video.width, self._video.height, self._video.pix_fmt = self._width, self._height, "yuv420p"
        codec = self._video.codec_context
        codec.time_base = Fraction(1, CLOCK)
        codec.colorspace, codec.color_range = int(Colorspace.ITU709), int(ColorRange.MPEG)
        codec.color_primaries, codec.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        self._audio: Any = None
        self._samples = 0  # of sound, written
        if self._sound is not None:
            self._audio = self._container.add_stream("aac", rate=self._sound.rate, layout=self._sound.layout)
            self._blocks = self._sound.blocks()
        self._last = -1

    @property
    def has_sound(self) -> bool:
        """Whether the file gets a sound track."""
        return self._sound is not None

    def write(self, frame: UInt8[np.ndarray, "h w 3"], time: float) -> None:
        """Adds a frame that is shown from ``time`` (seconds) on; times must increase."""
        pixels = np.ascontiguousarray(frame[: self._height, : self._width])
        made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._last = max(round(time * CLOCK), self._last + 1)
        made.pts, made.time_base = self._last, Fraction(1, CLOCK)
        self._container.mux(self._video.encode(made))
        self._write_sound(time)  # sound and pictures of the same time lie side by side in the file

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._write_sound(math.inf)
                for stream in (self._video, self._audio):
                    if stream is not None:
                        self._container.mux(stream.encode(None))
        finally:
            if self._sound is not None:
                self._sound.close()
            self._container.close()

    def _write_sound(self, until: float) -> None:
        if self._sound is None:
            return
        while self._samples < until * self._sound.rate and (block := next(self._blocks, None)) is not None:
            piece = av.AudioFrame.from_ndarray(block, format="fltp", layout=self._sound.layout)
            piece.sample_rate = self._sound.rate
            piece.pts, piece.time_base = self._samples, Fraction(1, self._sound.rate)
            self._samples += piece.samples
            self._container.mux(self._audio.encode(piece))


class _Sound:
    """The sound of a file from time 0 on, without holes."""

    def __init__(self, container: Any, stream: Any):
        self._container, self._stream = container, stream
        rate = stream.codec_context.sample_rate
        self.rate: int = rate if rate in AAC_RATES else 48_000
        self.layout = "stereo" if stream.codec_context.channels > 1 else "mono"

    @classmethod
    def open(cls, path: Path) -> "_Sound | None":
        """None where a file has no sound that can be decoded."""
        container: Any = av.open(str(path.absolute()), metadata_errors="ignore", options={"protocol_whitelist": "file"})
        stream = next(iter(container.streams.audio), None)
        if stream is None or stream.codec_context is None or not stream.codec_context.sample_rate:
            container.close()
            return None
        return cls(container, stream)

    def close(self) -> None:
        self._container.close()

    def blocks(self) -> Iterator[Float32[np.ndarray, "c n"]]:
        """All samples in [-1, 1]; where the stream begins late, has gaps or is damaged there is silence."""
        origin = (self._container.start_time or 0) / av.time_base
        resampler, form = self._resampler(), None
        end = 0.0  # of what was decoded, in seconds
        for frame in self._frames():
            time = end if frame.time is None else frame.time - origin
            if time > MAX_AUDIO_SECONDS:
                break
            if time - end > (GAP if form else 0.0):
                yield from self._silence(time - end)
                end = time
            now = frame.format.name, frame.layout.name, frame.sample_rate
            if form is not None and now != form:
                yield from self._resampled(resampler, None)
                resampler = self._resampler()
            form = now
            yield from self._resampled(resampler, frame)
            end += frame.samples / frame.sample_rate
        if form is not None:
            yield from self._resampled(resampler, None)

    def _resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)

    def _resampled(self, resampler: av.AudioResampler, frame: Any) -> Iterator[np.ndarray]:
        """Pieces of a frame, or what is left when it is None."""
        yield from (piece.to_ndarray() for piece in resampler.resample(frame))

    def _silence(self, seconds: float) -> Iterator[np.ndarray]:
        left = round(seconds * self.rate)
        while left > 0:
            block = np.zeros((2 if self.layout == "stereo" else 1, min(left, self.rate)), np.float32)
            left -= block.shape[1]
            yield block

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; what cannot be decoded is left out."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except (av.error.EOFError, EOFError):
                return
            except av.error.FFmpegError:
                continue
            if packet is None:
                return
            yield from frames


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

    That the place can be written to is known at once.

    Raises:
        UserError: the folder is missing or not writable, or the disk is full.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder; make it, or give --out another place")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --out the name of a file")
    part = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        part.touch()
        yield part
        part.replace(path)
    except (OSError, av.error.FFmpegError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk that should hold {path} is full; free some space or give another place"
            ) from error
        raise UserError(f"{path} cannot be written ({error.strerror or error}); give --out another place") from error
    finally:
        part.unlink(missing_ok=True)
