"""The sounds of speech: thirty-nine phonemes in ARPAbet and the silence, with what the voice needs to know about each.

The formants of the vowels are the averages that Peterson and Barney measured for men (JASA 24, 1952); those of the
consonants are the usual loci of acoustic phonetics. The silence is number 0.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Formants = tuple[float, float, float, float]
Kind = Literal["silence", "vowel", "approximant", "nasal", "stop", "affricate", "fricative"]


class Noise(NamedTuple):
    """Turbulence at a narrow place: a band around `centre` with standard deviation `width` in Hz, at a loudness."""

    centre: float
    width: float
    level: float


@dataclass(frozen=True)
class Phoneme:
    """One sound.

    Attributes:
        symbol: its ARPAbet name, "SIL" for silence.
        kind: how it is made.
        duration: typical seconds in a stressed syllable at tempo 1.
        formants: resonances of the vocal tract in Hz, F1 to F4; of a diphthong those that it starts with.
        glide: the resonances that a diphthong ends with.
        voicing: loudness of the voice in [0, 1]; of a voiced stop the murmur in its closure.
        noise: turbulence; of a stop its burst.
        breath: loudness of breath through the whole tract in [0, 1]; of a stop after its burst.
        follows: in [0, 1], how far the formants take after the vowels around.
        zero: frequency in Hz that the closed mouth of a nasal takes out of the sound, 0 for none.
    """

    symbol: str
    kind: Kind
    duration: float
    formants: Formants
    glide: Formants | None = None
    voicing: float = 0.0
    noise: Noise | None = None
    breath: float = 0.0
    follows: float = 0.0
    zero: float = 0.0


def _vowel(symbol: str, duration: float, formants: Formants, glide: Formants | None = None) -> Phoneme:
    return Phoneme(symbol, "vowel", duration, formants, glide, voicing=1.0)


def _glide(symbol: str, formants: Formants, follows: float) -> Phoneme:
    return Phoneme(symbol, "approximant", 0.075, formants, voicing=0.6, follows=follows)


def _nasal(symbol: str, second: float, zero: float) -> Phoneme:
    return Phoneme(symbol, "nasal", 0.085, (270, second, 2400, 3400), voicing=0.5, follows=0.3, zero=zero)


def _stop(symbol: str, formants: Formants, burst: Noise, *, voiced: bool) -> Phoneme:
    voicing, breath, duration = (0.12, 0.0, 0.085) if voiced else (0.0, 0.45, 0.115)
    return Phoneme(symbol, "stop", duration, formants, voicing=voicing, noise=burst, breath=breath, follows=0.25)


def _fricative(symbol: str, formants: Formants, noise: Noise, *, voiced: bool) -> Phoneme:
    voicing, duration, level = (0.3, 0.085, 0.6) if voiced else (0.0, 0.12, 1.0)
    noise = noise._replace(level=noise.level * level)
    return Phoneme(symbol, "fricative", duration, formants, voicing=voicing, noise=noise, follows=0.35)


_AA, _AO, _EH = (730, 1090, 2440, 3400), (570, 840, 2410, 3300), (530, 1840, 2480, 3500)
_IY, _UW, _IH, _UH = (270, 2290, 3010, 3600), (300, 870, 2240, 3200), (390, 1990, 2550, 3550), (440, 1020, 2240, 3250)
_LABIAL, _DENTAL = (250, 950, 2250, 3300), (280, 1450, 2550, 3400)
_ALVEOLAR, _PALATAL, _VELAR = (260, 1750, 2650, 3500), (280, 1950, 2600, 3450), (260, 1950, 2350, 3350)

PHONEMES: tuple[Phoneme, ...] = (
    Phoneme("SIL", "silence", 0.2, (500, 1500, 2500, 3500), follows=0.8),
    _vowel("AA", 0.17, _AA),
    _vowel("AE", 0.16, (660, 1720, 2410, 3450)),
    _vowel("AH", 0.11, (640, 1190, 2390, 3400)),
    _vowel("AO", 0.16, _AO),
    _vowel("AW", 0.20, _AA, _UH),
    _vowel("AY", 0.20, _AA, _IH),
    _vowel("EH", 0.13, _EH),
    _vowel("ER", 0.15, (490, 1350, 1690, 3100)),
    _vowel("EY", 0.17, _EH, _IY),
    _vowel("IH", 0.10, _IH),
    _vowel("IY", 0.14, _IY),
    _vowel("OW", 0.18, _AO, _UW),
    _vowel("OY", 0.21, _AO, _IY),
    _vowel("UH", 0.11, _UH),
    _vowel("UW", 0.15, _UW),
    _stop("B", _LABIAL, Noise(900, 700, 0.5), voiced=True),
    _stop("D", _ALVEOLAR, Noise(4200, 1400, 0.6), voiced=True),
    _stop("G", _VELAR, Noise(2100, 600, 0.6), voiced=True),
    _stop("P", _LABIAL, Noise(1000, 800, 0.6), voiced=False),
    _stop("T", _ALVEOLAR, Noise(4600, 1500, 0.9), voiced=False),
    _stop("K", _VELAR, Noise(2200, 700, 0.8), voiced=False),
    Phoneme("CH", "affricate", 0.15, _PALATAL, noise=Noise(3400, 1000, 0.7), follows=0.2),
    Phoneme("JH", "affricate", 0.12, _PALATAL, voicing=0.2, noise=Noise(3300, 1000, 0.5), follows=0.2),
    _fricative("F", _LABIAL, Noise(4500, 2500, 0.25), voiced=False),
    _fricative("V", _LABIAL, Noise(4300, 2500, 0.25), voiced=True),
    _fricative("TH", _DENTAL, Noise(5500, 2000, 0.22), voiced=False),
    _fricative("DH", _DENTAL, Noise(5300, 2000, 0.2), voiced=True),
    _fricative("S", _ALVEOLAR, Noise(6000, 1000, 0.6), voiced=False),
    _fricative("Z", _ALVEOLAR, Noise(5900, 1000, 0.55), voiced=True),
    _fricative("SH", _PALATAL, Noise(3500, 900, 0.7), voiced=False),
    _fricative("ZH", _PALATAL, Noise(3400, 900, 0.6), voiced=True),
    Phoneme("HH", "fricative", 0.07, (500, 1500, 2500, 3500), breath=0.6, follows=1.0),
    _nasal("M", 1050, 900),
    _nasal("N", 1600, 1600),
    _nasal("NG", 2000, 2900),
    _glide("L", (360, 1100, 2700, 3400), 0.2),
    _glide("R", (330, 1150, 1600, 3100), 0.1),
    _glide("W", (300, 680, 2200, 3200), 0.05),
    _glide("Y", (270, 2250, 3000, 3600), 0.05),
)
"""Every phoneme; its number is its place."""

NUMBER: dict[str, int] = {phoneme.symbol: number for number, phoneme in enumerate(PHONEMES)}
SILENCE = NUMBER["SIL"]
VOWELS = frozenset(number for number, phoneme in enumerate(PHONEMES) if phoneme.kind == "vowel")
