"""Reading videos, sound and pictures of any origin.

Every file is taken as hostile: sizes are limited before memory is spent, nothing outside the named file is fetched, and
every failure is one `UserError` that names the file and the reason.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.stream import Disposition
from jaxtyping import Int16, UInt8
from PIL import Image, ImageOps

from reenax.core.errors import UserError

AUDIO_RATE = 16_000
"""Samples per second of all sound in the project."""

MAX_SIDE = 16_384
MAX_PIXELS = 100_000_000
"""Of one frame or picture; 100 million pixels are 300 MB decoded."""

MAX_AUDIO_SECONDS = 4 * 3600.0
MAX_DAMAGED_PACKETS = 1000
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "MPO")
"""Formats that Pillow decodes by itself; others (EPS) would start foreign programs."""


class Frame(NamedTuple):
    """One decoded frame: upright RGB pixels and its time in seconds from the start of the file."""

    pixels: UInt8[np.ndarray, "h w 3"]
    time: float


class VideoInfo(NamedTuple):
    """What a file says of its first video stream; width and height are those of the upright frames."""

    width: int
    height: int
    fps: float
    """Average frames per second. Misleading for variable frame rates: trust the times of the frames."""
    frames: int
    """Declared number of frames, 0 when the file does not say."""
    duration: float
    """Seconds, 0.0 when the file does not say."""
    has_audio: bool
    codec: str


def probe(path: Path) -> VideoInfo:
    """What the file holds, from its headers and its first frame. Raises UserError."""
    with _opened(path) as container:
        stream = _video_stream(path, container)
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            raise UserError(f"{path}: no frame of the video can be decoded")
        width, height = frame.width, frame.height
        if _quarter_turns(frame) % 2:
            width, height = height, width
        duration = container.duration / av.time_base if container.duration and container.duration > 0 else 0.0
        return VideoInfo(
            width,
            height,
            float(_frame_rate(stream)),
            max(int(stream.frames), 0),
            duration,
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
        )


def iterate_frames(path: Path) -> Iterator[Frame]:
    """All frames of the first video stream in the order and at the times of presentation, one by one.

    Rotation of the display matrix is applied, alpha is dropped, times strictly increase and count from the start of
    the file (sound of `read_audio` counts from there too). Damaged parts are left out as players do; a stream of
    which no frame can be decoded raises UserError, as does one whose frames change their size.
    """
    with _opened(path) as container:
        stream = _video_stream(path, container)
        origin = _origin(container)
        step = 1.0 / float(_frame_rate(stream))
        last: float | None = None
        shape: tuple[int, ...] | None = None
        for frame in _decoded(path, container, stream):
            time = None if frame.time is None else frame.time - origin
            if last is not None and (time is None or time <= last):
                time = last + step
            last = time or 0.0
            pixels = _upright(path, frame)
            if shape is None:
                shape = pixels.shape
            elif shape != pixels.shape:
                raise UserError(
                    f"{path}: the frames change their size from {shape[1]}x{shape[0]} to "
                    f"{pixels.shape[1]}x{pixels.shape[0]}; cut the video there"
                )
            yield Frame(pixels, last)
        if last is None:
            raise UserError(f"{path}: no frame of the video can be decoded")


def read_audio(path: Path, start: float = 0.0, stop: float | None = None) -> Int16[np.ndarray, " n"] | None:
    """Sound of the first audio stream between two times, int16 mono at 16 kHz; None when the file has no sound.

    `start` and `stop` are seconds from the start of the file, as the times of `iterate_frames`. Gaps in the stream are
    silence, so that sample i sounds at start + i / 16000. Raises UserError when the stream cannot be decoded or is
    longer than `MAX_AUDIO_SECONDS`.
    """
    if stop is not None and stop - start > MAX_AUDIO_SECONDS:
        raise UserError(f"{path}: more than {MAX_AUDIO_SECONDS / 3600:g} hours of sound; cut the file")
    with _opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        origin = _origin(container)
        first = round(start * AUDIO_RATE)
        limit = round((start + MAX_AUDIO_SECONDS if stop is None else stop) * AUDIO_RATE)
        blocks: list[np.ndarray] = []
        end = first  # the sample after the last one collected
        for position, samples in _resampled(path, container, stream, origin):
            if position + samples.size <= end:
                continue
            if stop is None and position + samples.size > limit:
                raise UserError(f"{path}: more than {MAX_AUDIO_SECONDS / 3600:g} hours of sound; cut the file")
            if position > end:
                blocks.append(np.zeros(min(position, limit) - end, np.int16))
                end += blocks[-1].size
            piece = samples[end - position : max(limit - position, 0)]
            blocks.append(piece)
            end += piece.size
            if end >= limit:
                break
        if stop is not None and end < limit:
            blocks.append(np.zeros(limit - end, np.int16))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def read_image(path: Path, *, alpha: bool = False) -> UInt8[np.ndarray, "h w _"]:
    """A picture as upright RGB: EXIF rotation applied, alpha dropped or with `alpha` the fourth channel, 16-bit grey
    scaled. Raises UserError."""
    _require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on damaged metadata and on sizes that we check ourselves
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                _check_size(path, *image.size)
                if alpha:
                    return np.array(ImageOps.exif_transpose(image).convert("RGBA"))
                if image.mode.startswith(("I", "F")):
                    return _grey_to_rgb(np.asarray(image))
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on hostile input
        raise UserError(f"{path}: no readable picture ({_reason(error)}); give a JPEG, PNG or WebP file") from error


@contextmanager
def _opened(path: Path):
    _require_file(path)
    try:
        # The absolute path keeps names such as "concat:x" from being taken as protocols.
        container = av.open(str(path.absolute()), metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except Exception as error:  # decoders raise anything on hostile input
        raise UserError(f"{path}: no readable video ({_reason(error)})") from error
    try:
        yield container
    finally:
        container.close()


def _require_file(path: Path) -> None:
    try:
        size = path.stat().st_size if path.is_file() else None
        if size:
            path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from error
    if size is None:
        raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    if size == 0:
        raise UserError(f"{path}: the file is empty")


def _video_stream(path: Path, container):
    # A picture embedded in a sound file (its cover) is no video.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise UserError(f"{path}: the file holds no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: no decoder for this kind of video")
    if stream.width and stream.height:
        _check_size(path, stream.width, stream.height)
    stream.codec_context.thread_count = 1  # several threads conceal damage differently from run to run
    return stream


def _decoded(path: Path, container, stream) -> Iterator:
    """Frames of a stream; damaged packets are skipped, up to a limit."""
    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except (av.error.EOFError, EOFError):
            return
        except Exception as error:  # decoders raise anything on hostile input
            damaged += 1
            if damaged > MAX_DAMAGED_PACKETS:
                raise UserError(
                    f"{path}: more than {MAX_DAMAGED_PACKETS} damaged packets ({_reason(error)})"
                ) from error
            continue
        yield from frames


def _resampled(path: Path, container, stream, origin: float) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of sound and the index of their first sample."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE)
    expected: int | None = None
    if stream.codec_context is None:
        raise UserError(f"{path}: no decoder for this kind of sound")
    for frame in chain(_decoded(path, container, stream), [None]):  # None flushes the resampler
        try:
            time = None if frame is None else frame.time
            pieces = [piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame)]
        except Exception as error:  # the stream changes its format in the middle, for example
            raise UserError(f"{path}: the sound cannot be decoded ({_reason(error)})") from error
        for samples in pieces:
            position = expected or 0
            # The resampler delays a little; only real gaps and the start of the stream set the position.
            if time is not None:
                stamped = round((time - origin) * AUDIO_RATE)
                if expected is None or stamped - expected > AUDIO_RATE // 10:
                    position = stamped
            expected = position + samples.size
            yield position, samples


def _upright(path: Path, frame) -> np.ndarray:
    _check_size(path, frame.width, frame.height)
    try:
        pixels = frame.to_ndarray(format="rgb24")
    except Exception as error:  # unknown pixel formats, no memory
        raise UserError(f"{path}: a frame cannot be turned into RGB ({_reason(error)})") from error
    return np.ascontiguousarray(np.rot90(pixels, _quarter_turns(frame)))


def _quarter_turns(frame) -> int:
    """Counter-clockwise quarter turns that set the frame upright."""
    return round(frame.rotation / 90) % 4


def _frame_rate(stream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return rate if rate and rate > 0 else Fraction(25)


def _origin(container) -> float:
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def _check_size(path: Path, width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise UserError(f"{path}: {width}x{height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS:,} in all")


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    scaled = grey.astype(np.float32) / (257.0 if grey.dtype != np.float32 and grey.max(initial=0) > 255 else 1.0)
    return np.repeat(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def _reason(error: BaseException) -> str:
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
