"""Short pieces of speech as numbers: logarithmic mel spectra (Davis and Mermelstein, 1980, without the cosines).

Sound is mono at 16 kHz in [-1, 1], as datasets and drivers hold it.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reenax.core.errors import UserError

RATE = 16_000  # samples per second
LOWEST, HIGHEST = 60.0, 7600.0  # Hz, of the outermost filters: voices, and what the sampling rate leaves of them


@dataclasses.dataclass(frozen=True)
class SpectrumParams:
    """How a piece of sound is described. With the defaults 0.2 s of it are 16 spectra of 16 bands: 256 numbers.

    Attributes:
        window: length of the piece in seconds.
        frame: samples that one spectrum is made of.
        hop: samples from the beginning of one spectrum to that of the next.
        bands: filters, evenly spaced in mel.
        floor: power that counts as silence; the number 1 stands for nine times as much. A sine of amplitude 1 has 1.

    Raises:
        UserError: a value that is too small, a frame longer than the piece, or more bands than a frame resolves.
    """

    window: float = 0.2
    frame: int = 320
    hop: int = 192
    bands: int = 16
    floor: float = 1e-6

    def __post_init__(self) -> None:
        prefix = "config.model.sound"
        for name, least in (("frame", 2), ("hop", 1), ("bands", 1)):
            if not getattr(self, name) >= least:
                raise UserError(f"{prefix}.{name}={getattr(self, name)}: give {least} or more")
        if not self.floor > 0:
            raise UserError(f"{prefix}.floor={self.floor}: give a power above 0, such as 1e-6")
        if self.frame > self.samples:
            raise UserError(
                f"{prefix}.frame={self.frame} is longer than the {self.samples} samples of window={self.window} s; "
                f"take a shorter frame or a longer window"
            )
        try:
            mel_filters(self.bands, self.points)
        except ValueError as error:
            raise UserError(f"{prefix}: {error}") from error

    @property
    def points(self) -> int:
        """Of the Fourier transform of a frame."""
        return 2 ** int(np.ceil(np.log2(self.frame)))

    @property
    def samples(self) -> int:
        """Of the whole piece."""
        return round(self.window * RATE)

    @property
    def columns(self) -> int:
        """How many spectra there are."""
        return 1 + (self.samples - self.frame) // self.hop

    @property
    def count(self) -> int:
        """How many numbers describe the piece."""
        return self.columns * self.bands


def _mel(frequency: float) -> float:
    return 2595 * np.log10(1 + frequency / 700)


def mel_filters(bands: int, points: int) -> Float[np.ndarray, "bands frequencies"]:
    """Triangles over the frequencies of a real Fourier transform of so many points, of height 1, evenly spaced in mel.

    Raises:
        ValueError: the lowest filter is narrower than what the transform resolves.
    """
    edges = 700 * (10 ** (np.linspace(_mel(LOWEST), _mel(HIGHEST), bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(points, 1 / RATE)[None]
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    filters = np.maximum(0, np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)))
    if not (filters.sum(axis=1) > 0).all():
        raise ValueError(
            f"{bands} bands are more than spectra of {points} points resolve; take fewer, or longer frames"
        )
    return filters


def windows_at(
    waveform: Float[Array, " n"], times: Float[Array, " t"], params: SpectrumParams
) -> Float[Array, "t {params.samples}"]:
    """The pieces of a sound around some times in seconds; beyond its ends there are zeros."""
    first = jnp.round(times * RATE).astype(jnp.int32) - params.samples // 2
    index = first[:, None] + jnp.arange(params.samples)[None, :]
    inside = (index >= 0) & (index < waveform.shape[0])
    if not waveform.shape[0]:
        return jnp.zeros(index.shape, waveform.dtype)
    return jnp.where(inside, waveform[jnp.clip(index, 0, waveform.shape[0] - 1)], 0)


def log_mel(sound: Float[Array, "b n"], params: SpectrumParams) -> Float[Array, "b {params.count}"]:
    """The base-10 logarithm of 1 + power / floor in every band of every spectrum: 0 for silence, spectra in order.

    Args:
        sound: pieces of ``params.samples`` samples in [-1, 1].
        params: how they are described.

    Raises:
        ValueError: pieces of another length.
    """
    if sound.shape[1] != params.samples:
        raise ValueError(f"pieces of {sound.shape[1]} samples, but window={params.window} s are {params.samples}")
    begins = params.hop * np.arange(params.columns)
    frames = sound[:, begins[:, None] + np.arange(params.frame)[None, :]]
    taper = np.hanning(params.frame + 1)[:-1]
    spectrum = jnp.fft.rfft(frames * jnp.asarray(taper, sound.dtype)[None, None], params.points)
    power = (spectrum.real**2 + spectrum.imag**2) * (2 / taper.sum()) ** 2
    filters = jnp.asarray(mel_filters(params.bands, params.points).T, sound.dtype)
    energy = jnp.matmul(power, filters, precision="highest")
    return jnp.log10(1 + energy / params.floor).reshape(sound.shape[0], -1)
