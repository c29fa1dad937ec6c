"""How it sounds: a source-filter synthesiser of speech, as formant synthesisers have been since Klatt (JASA 67, 1980).

The source is a train of glottal pulses (Rosenberg, JASA 49, 1971) with jitter, shimmer and breath; the filter is a
cascade of formant resonances that move from sound to sound. Frication and bursts are noise in bands of their own.
Every window of the source is filtered by its own response in the frequency domain and the results are added up, so
there is no loop over samples.
"""

from typing import NamedTuple

import numpy as np
import scipy.signal
from scipy.signal import windows

from data_pipelines.synthetic.people import VoiceStyle
from data_pipelines.synthetic.phonemes import PHONEMES, VOWELS, Noise
from data_pipelines.synthetic.speech import PITCH_STEP, Phrase, Talk

RATE = 16000  # samples per second
HOP = 80  # samples between two filters
TRANSFORM = 1024  # samples of a window (two hops) and the ringing of its filter
OVERSAMPLING = 4  # of the pulses, whose edges are sharp
LEAD, TAIL = 0.03, 0.06  # seconds of sound before and after the phonemes: onset of the envelope, ringing

UPPER_FORMANTS = (4300.0, 5300.0, 6200.0)  # Hz, above those of the phonemes; the same for every sound
BANDWIDTHS = np.array([70.0, 100.0, 140.0, 220.0, 300.0, 350.0, 400.0])  # Hz
TILT, BREATHY_TILT = 4000.0, 2200.0  # Hz from which the pulses are damped, and how much lower a whisper would be
FORMANT_SMOOTHING, VOICE_SMOOTHING, NOISE_SMOOTHING, BURST_SMOOTHING = 0.05, 0.024, 0.02, 0.004  # seconds
OPENING, CLOSING = 0.42, 0.18  # parts of a period
JITTER, SHIMMER = 0.005, 0.03  # relative, from period to period
LEVEL, PEAK = 0.09, 0.9  # root mean square of the vowels and largest sample, of full scale
NOISE_GAIN, BREATH_GAIN, BREATHY_GAIN = 4.0, 1.2, 1.0  # against the pulses


def synthesise(spoken: Talk, style: VoiceStyle, samples: int) -> np.ndarray:
    """The sound of a talk: int16 [samples] at `RATE` from second 0 on; exactly 0 in the middle of the pauses."""
    sound = np.zeros(samples)
    for said, start in zip(spoken.phrases, spoken.starts, strict=True):
        first = round((start - LEAD) * RATE)
        if first >= samples:
            break
        part = synthesise_phrase(said, style)[max(0, -first) :][: samples - max(0, first)]
        sound[max(0, first) : max(0, first) + len(part)] += part
    return np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def synthesise_phrase(said: Phrase, style: VoiceStyle) -> np.ndarray:
    """The sound of a phrase at `RATE`, within -`PEAK` and `PEAK`; its phonemes begin after `LEAD` seconds."""
    rng = np.random.default_rng(said.noise_seed)
    frames = int(np.ceil((LEAD + said.duration + TAIL) * RATE / HOP))
    samples = frames * HOP
    segments = [segment for number in range(len(said.phonemes)) for segment in _segments(said, number)]
    tracks = _levels(segments, samples)

    pulses, opening = _glottis(rng, said.pitch, samples, style.breathiness)
    white = rng.normal(size=(2, samples))
    breath = white[0] * (BREATH_GAIN * tracks.breath + BREATHY_GAIN * style.breathiness * tracks.voice * opening)
    hiss = white[1] * tracks.noise * (1 - 0.5 * np.minimum(tracks.voice, 1) * (1 - opening))

    frequencies = np.fft.rfftfreq(TRANSFORM, 1 / RATE)
    times = np.arange(frames + 1) * HOP / RATE - LEAD  # the middle of each window
    tract = _tract(_formants(said, times) * style.formant_scale, _nasality(segments, times), frequencies)
    tilt = 1 / (1 + 1j * frequencies / (TILT - BREATHY_TILT * style.breathiness))
    spectrum = tract * (tilt * _windows(pulses * tracks.voice) + _windows(breath))
    spectrum += NOISE_GAIN * _bands(segments, times, frequencies) * _windows(hiss)
    sound = _add_up(np.fft.irfft(spectrum), samples)

    vowels = np.zeros(samples, bool)
    for phoneme, (start, end) in zip(said.phonemes.tolist(), said.times, strict=True):
        if phoneme in VOWELS:
            vowels[round((start + LEAD) * RATE) : round((end + LEAD) * RATE)] = True
    gain = min(LEVEL / np.sqrt(np.mean(sound[vowels] ** 2)), PEAK / np.abs(sound).max())
    return sound * gain


class _Segment(NamedTuple):
    """A part of a phoneme in which the source does one thing, in seconds of the phrase."""

    start: float
    end: float
    voice: float
    noise: Noise | None
    breath: float
    sharp: bool  # a burst
    zero: float


def _segments(said: Phrase, number: int) -> list[_Segment]:
    """What the source does during a phoneme: a stop is a closure, a burst and breath, most others are one thing."""
    phoneme = PHONEMES[said.phonemes[number]]
    start, end = said.times[number]
    loud = said.loudness[number]

    def part(
        since: float, until: float, voice: float, noise: Noise | None = None, breath: float = 0, *, sharp: bool = False
    ) -> _Segment:
        noise = None if noise is None else noise._replace(level=noise.level * loud**0.5)
        return _Segment(since, until, voice * loud, noise, breath * loud, sharp, phoneme.zero)

    if phoneme.kind == "stop":
        burst = end - (0.02 if phoneme.voicing else 0.05)
        burst = max(burst, start + 0.4 * (end - start))
        after = min(burst + 0.014, end)
        release = 0.5 if phoneme.voicing else 0.0
        return [
            part(start, burst, phoneme.voicing),
            part(burst, after, phoneme.voicing, phoneme.noise, sharp=True),
            part(after, end, release, breath=phoneme.breath),
        ]
    if phoneme.kind == "affricate":
        burst = start + 0.4 * (end - start)
        return [part(start, burst, 0.6 * phoneme.voicing), part(burst, end, phoneme.voicing, phoneme.noise)]
    return [part(start, end, phoneme.voicing, phoneme.noise, phoneme.breath)]


class _Levels(NamedTuple):
    """Loudness of the three sources, each [samples]."""

    voice: np.ndarray
    noise: np.ndarray
    breath: np.ndarray


def _levels(segments: list[_Segment], samples: int) -> _Levels:
    """The loudness of voice, noise and breath over a phrase, smooth in time."""
    voice, noise, burst, breath = np.zeros((4, samples))
    for segment in segments:
        place = slice(round((segment.start + LEAD) * RATE), round((segment.end + LEAD) * RATE))
        voice[place], breath[place] = segment.voice, segment.breath
        if segment.noise is not None:
            (burst if segment.sharp else noise)[place] = segment.noise.level
    return _Levels(
        _smooth(voice, VOICE_SMOOTHING * RATE),
        _smooth(noise, NOISE_SMOOTHING * RATE) + _smooth(burst, BURST_SMOOTHING * RATE),
        _smooth(breath, NOISE_SMOOTHING * RATE),
    )


def _smooth(track: np.ndarray, width: float) -> np.ndarray:
    """A track [n] or [n c] averaged under a Hann window of `width` values; the ends are held."""
    kernel = windows.hann(2 * round(width / 2) + 1, sym=True)
    half = len(kernel) // 2
    padded = np.pad(track, [(half, half)] + [(0, 0)] * (track.ndim - 1), mode="edge")
    kernel = (kernel / kernel.sum()).reshape(-1, *[1] * (track.ndim - 1))
    return scipy.signal.fftconvolve(padded, kernel, mode="valid", axes=0)


def _glottis(
    rng: np.random.Generator, pitch: np.ndarray, samples: int, breathiness: float
) -> tuple[np.ndarray, np.ndarray]:
    """The change of the air flow through the vocal folds, and how far they are open in [0, 1]; each [samples]."""
    times = np.arange(samples * OVERSAMPLING) / (RATE * OVERSAMPLING) - LEAD
    steps = np.interp(times, np.arange(len(pitch)) * PITCH_STEP, pitch) / (RATE * OVERSAMPLING)
    periods = int(steps.sum()) + 2
    jitter, shimmer = rng.normal(0, (JITTER, SHIMMER), (periods, 2)).T
    phase = np.cumsum(steps * (1 + jitter[np.cumsum(steps).astype(int)]))
    place = phase % 1
    opening, closing = OPENING + 0.1 * breathiness, CLOSING + 0.15 * breathiness
    falling = (place - opening) / closing
    rises = np.pi / (2 * opening) * np.sin(np.pi * place / opening)
    falls = -np.pi / (2 * closing) * np.sin(np.pi / 2 * falling)
    flow = np.where(place < opening, rises, np.where(falling < 1, falls, 0.0))
    flow *= 1 + shimmer[np.minimum(phase.astype(int), periods - 1)]
    area = np.where(
        place < opening, np.sin(np.pi / 2 * place / opening) ** 2, np.cos(np.pi / 2 * np.minimum(falling, 1))
    )
    flow *= (100 / pitch.mean()) ** 0.5  # as much energy in few large pulses as in many small ones
    return scipy.signal.resample_poly(flow, 1, OVERSAMPLING), area[::OVERSAMPLING]


def _formants(said: Phrase, times: np.ndarray) -> np.ndarray:
    """Formants in Hz at each time, [t 7]: targets of the phonemes, coloured by the vowels around, smoothly joined."""
    known = [PHONEMES[number] for number in said.phonemes]
    vowels = [place for place, phoneme in enumerate(known) if phoneme.kind == "vowel"]
    knots, targets = [], []
    for place, (phoneme, (start, end)) in enumerate(zip(known, said.times, strict=True)):
        first, last = np.array(phoneme.formants), np.array(phoneme.glide or phoneme.formants)
        if phoneme.kind != "vowel":
            near = [known[max((v for v in vowels if v < place), default=vowels[0])]]
            near.append(known[min((v for v in vowels if v > place), default=vowels[-1])])
            around = (np.array(near[0].glide or near[0].formants) + np.array(near[1].formants)) / 2
            first = last = first + phoneme.follows * (around - first)
        knots += [start + 0.25 * (end - start), start + 0.75 * (end - start)]
        targets += [first, last]
    tracks = [np.interp(times, knots, track) for track in np.array(targets).T]
    joined = np.stack([*tracks, *(np.full(len(times), above) for above in UPPER_FORMANTS)], 1)
    return _smooth(joined, FORMANT_SMOOTHING * RATE / HOP)


def _nasality(segments: list[_Segment], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How nasal the sound is in [0, 1] and which frequency the mouth then takes out, each [t]."""
    amount, zero = np.zeros(len(times)), np.full(len(times), 1500.0)
    for segment in segments:
        if segment.zero:
            inside = (times >= segment.start) & (times < segment.end)
            amount[inside] = 1.0
            zero[inside] = segment.zero
    return _smooth(amount, 0.03 * RATE / HOP), zero


def _tract(formants: np.ndarray, nasality: tuple[np.ndarray, np.ndarray], frequencies: np.ndarray) -> np.ndarray:
    """The response of the vocal tract, complex [t f], from formants [t 7]; 1 at frequency 0."""
    amount, zero = nasality
    delay = np.exp(-2j * np.pi * frequencies / RATE)
    response = np.ones((len(formants), len(frequencies)), complex)
    for number, bandwidth in enumerate(BANDWIDTHS):
        response *= _resonance(np.minimum(formants[:, number], 0.46 * RATE), bandwidth * (1 + 0.5 * amount), delay)
    response = 1 / response
    antiresonance = _resonance(zero, np.full(len(zero), 120.0), delay)
    return response * (1 + amount[:, None] * (antiresonance - 1))


def _resonance(frequency: np.ndarray, bandwidth: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """One over the response of resonances [t] (Hz), complex [t f], 1 at frequency 0."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    first, second = -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2
    below = 1 + first + second
    return (1 + first[:, None] * delay + second[:, None] * (delay * delay)) / below[:, None]


def _bands(segments: list[_Segment], times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The colour of turbulence, [t f]: that of the nearest noisy segment, all equal in energy."""
    noisy = [segment for segment in segments if segment.noise is not None]
    if not noisy:
        return np.zeros((len(times), len(frequencies)))
    middles = np.array([(segment.start + segment.end) / 2 for segment in noisy])
    nearest = np.abs(times[:, None] - middles[None]).argmin(1)
    shapes = []
    for segment in noisy:
        assert segment.noise is not None
        shape = np.exp(-0.5 * ((frequencies - segment.noise.centre) / segment.noise.width) ** 2) + 0.02
        shapes.append(shape / np.sqrt(np.mean(shape**2)) * np.exp(-2j * np.pi * frequencies * 0.003))
    return np.stack(shapes)[nearest]  # 3 ms late, so that the filter starts after its input


def _windows(signal: np.ndarray) -> np.ndarray:
    """Spectra of overlapping Hann windows, [t f]; window k has its middle at sample k * HOP, and they add up to one."""
    padded = np.pad(signal, HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP]
    return np.fft.rfft(frames * windows.hann(2 * HOP, sym=False), TRANSFORM)


def _add_up(frames: np.ndarray, samples: int) -> np.ndarray:
    """The signal [samples] of filtered windows [t TRANSFORM]."""
    pieces = -(-TRANSFORM // HOP)
    frames = np.pad(frames, [(0, 0), (0, pieces * HOP - TRANSFORM)]).reshape(len(frames), pieces, HOP)
    total = np.zeros((len(frames) + pieces, HOP))
    for piece in range(pieces):
        total[piece : piece + len(frames)] += frames[:, piece]
    return total.reshape(-1)[HOP : HOP + samples]
