"""What they say: nonsense with the build of speech, and its melody, loudness and mouth-independent timing.

Words are made of syllables (onset, vowel, coda) as English allows them; one syllable of a word carries its stress, one
or two words of a phrase its accents; the last syllable of a phrase is drawn out and the pitch falls (or rises, for a
question) towards its end. Between the phrases there are pauses.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from data_pipelines.synthetic.people import Person, VoiceStyle
from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES, SILENCE
from data_pipelines.synthetic.streams import stream

__all__ = ["PHONEMES", "Phrase", "Talk", "phrase", "talk"]


def _shares(text: str) -> dict[str, float]:
    """Phonemes and how often they are drawn, relative to each other."""
    words = text.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


_VOWEL_SHARES = _shares(
    "AH 9 IH 8 IY 7 EH 6 AE 6 AA 6 ER 4 EY 5 AY 5 OW 5 UW 5 AO 4 AW 3 UH 2 OY 1"
)  # about as often as in English
_ONSET_SHARES = _shares(
    "T 6 D 5 N 5 M 6 B 6 P 6 S 5 L 4 R 4 K 5 W 4 F 4 V 3 DH 3 HH 3 G 3 SH 3 Y 2 JH 2 CH 2 TH 2 Z 1 ZH 1"
)
_CODA_SHARES = _shares("N 8 T 6 R 5 L 5 D 4 S 5 M 5 K 4 Z 4 NG 3 V 2 P 3 B 1 G 1 F 2 TH 1 SH 1 CH 1 JH 1")
_ONSET_CLUSTERS = (
    *(("S", "T"), ("S", "P"), ("S", "K"), ("S", "W"), ("S", "M"), ("K", "W")),
    *((first, second) for first in ("P", "B", "K", "G", "F") for second in ("L", "R")),
    *(("T", "R"), ("D", "R")),
)
_CODA_CLUSTERS = (
    *(("N", "T"), ("N", "D"), ("N", "S"), ("NG", "K"), ("M", "P")),
    *(("S", "T"), ("K", "S"), ("L", "D"), ("L", "F"), ("R", "T")),
)
_WEAK_VOWELS = ("AH", "IH", "ER")

WORDS = (2, 6)  # in a phrase, both included
SYLLABLES = (0.5, 0.35, 0.15)  # shares of words with one, two and three
PAUSE = (0.15, 0.7)  # seconds between phrases
LONG_PAUSE, LONG_PAUSE_SHARE = (0.8, 1.8), 0.12
QUESTIONS = 0.2  # share of phrases that end high
DECLINATION = 2.0  # semitones that the pitch sinks through a phrase
PITCH_STEP = 0.01  # seconds between two values of the pitch contour


@dataclass(frozen=True)
class Phrase:
    """What is said in one breath; times are seconds since its start.

    Attributes:
        phonemes: int32 [p], numbers of `PHONEMES`.
        times: [p 2], start and end of each, without gaps.
        loudness: [p], about 0.5 (unstressed, end of the phrase) to 1.3 (accented).
        accents: [a], the middle of every accented vowel.
        pitch: [n], Hz, one value every `PITCH_STEP` seconds.
        noise_seed: what the noise of the voice is drawn from.
    """

    phonemes: np.ndarray
    times: np.ndarray
    loudness: np.ndarray
    accents: np.ndarray
    pitch: np.ndarray
    noise_seed: int

    @property
    def duration(self) -> float:
        return float(self.times[-1, 1])


@dataclass(frozen=True)
class Talk:
    """Phrases and when each begins, in seconds of the clip; the first may begin before the clip does."""

    phrases: tuple[Phrase, ...]
    starts: tuple[float, ...]

    @functools.cached_property
    def phonemes(self) -> np.ndarray:
        """int32 [p], all phonemes, with a silence before, between and after the phrases."""
        silent = [np.array([SILENCE])]
        return np.concatenate(silent + [part for said in self.phrases for part in (said.phonemes, *silent)]).astype(
            np.int32
        )

    @functools.cached_property
    def times(self) -> np.ndarray:
        """[p 2], start and end of `phonemes`; the outer silences last for ever."""
        bounds = [(start, start + said.duration) for start, said in zip(self.starts, self.phrases, strict=True)]
        edges = [-np.inf, *itertools.chain.from_iterable(bounds), np.inf]
        rows = [np.array([edges[:2]])]
        for number, said in enumerate(self.phrases):
            rows += [said.times + self.starts[number], np.array([edges[2 * number + 2 : 2 * number + 4]])]
        return np.concatenate(rows)

    @functools.cached_property
    def loudness(self) -> np.ndarray:
        """[p], loudness of `phonemes`, 0 in silences."""
        parts = [part for said in self.phrases for part in (said.loudness, np.zeros(1))]
        return np.concatenate([np.zeros(1), *parts])

    @functools.cached_property
    def accents(self) -> np.ndarray:
        """[a], times of the accents."""
        return np.concatenate([said.accents + start for start, said in zip(self.starts, self.phrases, strict=True)])


def talk(person: Person, seed: int, take: int, until: float) -> Talk:
    """What somebody says from second 0 to `until`; more time adds phrases and changes none of the earlier ones."""
    rng = stream(seed, "pauses", person.name, take)
    phrases, starts = [], []
    for number in itertools.count():
        said = phrase(stream(seed, "phrase", person.name, take, number), person.voice)
        if not phrases:  # mostly in the middle of a phrase
            speaking = rng.random() < 0.85
            at = rng.random()
            start = -0.8 * at * said.duration if speaking else 0.1 + 0.4 * at
        else:
            long = rng.random() < LONG_PAUSE_SHARE
            pause = rng.uniform(*(LONG_PAUSE if long else PAUSE)) / person.voice.tempo
            start = starts[-1] + phrases[-1].duration + pause
        phrases.append(said)
        starts.append(start)
        if start > until:
            return Talk(tuple(phrases), tuple(starts))
    raise AssertionError("unreachable")


@dataclass
class _Syllable:
    symbols: list[str]
    vowel: int  # which of the symbols
    strength: float  # 0 unstressed, 1 stressed, 2 accented


def phrase(rng: np.random.Generator, voice: VoiceStyle) -> Phrase:
    """One phrase of nonsense in somebody's tempo and pitch."""
    syllables = _syllables(rng)
    symbols, lengths, loudness, accents = [], [], [], []
    for number, syllable in enumerate(syllables):
        last = number == len(syllables) - 1
        stretch = (0.72, 1.0, 1.18)[int(syllable.strength)] * (1.45 if last else 1.0) / voice.tempo
        fade = 1 - 0.25 * number / len(syllables)
        for place, symbol in enumerate(syllable.symbols):
            consonant = place != syllable.vowel
            length = PHONEMES[NUMBER[symbol]].duration * (stretch**0.5 if consonant else stretch)
            if consonant and len(syllable.symbols) > 3:
                length *= 0.85  # clusters are squeezed
            if not consonant and syllable.strength == 2:
                accents.append(len(symbols))
            symbols.append(symbol)
            lengths.append(max(0.045, length * np.exp(rng.normal(0, 0.1))))
            loudness.append((0.7, 0.95, 1.2)[int(syllable.strength)] * fade)
    edges = np.cumsum([0.0, *lengths])
    times = np.stack([edges[:-1], edges[1:]], 1)
    beats = times[accents].mean(1)
    return Phrase(
        phonemes=np.array([NUMBER[symbol] for symbol in symbols], np.int32),
        times=times,
        loudness=np.array(loudness),
        accents=beats,
        pitch=_melody(rng, voice, float(edges[-1]), beats),
        noise_seed=int(rng.integers(2**32)),
    )


def _melody(rng: np.random.Generator, voice: VoiceStyle, duration: float, beats: np.ndarray) -> np.ndarray:
    """The pitch of a phrase in Hz: it sinks, rises on the accents, ends low or high, and is never quite still."""
    times = np.arange(0, duration + PITCH_STEP, PITCH_STEP)
    place = times / duration
    semitones = DECLINATION * (0.5 - place)
    for beat in beats:
        semitones += voice.pitch_range * rng.uniform(0.5, 1.1) * np.exp(-0.5 * ((times - beat + 0.03) / 0.09) ** 2)
    end = np.exp(-0.5 * ((times - duration) / 0.15) ** 2)
    semitones += end * (1.6 * voice.pitch_range if rng.random() < QUESTIONS else -1.0 * voice.pitch_range)
    for rate in (0.7, 2.3, 5.2):  # slow wander to a hint of vibrato
        semitones += 0.25 / rate**0.5 * np.sin(2 * np.pi * (rate * rng.uniform(0.8, 1.2) * times + rng.random()))
    return voice.pitch * 2 ** (semitones / 12)


def _syllables(rng: np.random.Generator) -> list[_Syllable]:
    """The syllables of a phrase, with stress and one or two accents."""
    words = [_word(rng) for _ in range(rng.integers(WORDS[0], WORDS[1] + 1))]
    heavy = rng.permutation(len(words))[: 1 if len(words) < 4 else 2]
    for number in heavy:
        stressed = next(syllable for syllable in words[number] if syllable.strength == 1)
        stressed.strength = 2
    return list(itertools.chain.from_iterable(words))


def _word(rng: np.random.Generator) -> list[_Syllable]:
    count = 1 + int(rng.choice(len(SYLLABLES), p=SYLLABLES))
    stressed = int(rng.integers(count))
    return [_syllable(rng, stressed=number == stressed) for number in range(count)]


def _syllable(rng: np.random.Generator, *, stressed: bool) -> _Syllable:
    weak = not stressed and rng.random() < 0.6
    vowel = str(rng.choice(_WEAK_VOWELS)) if weak else _draw(rng, _VOWEL_SHARES)
    onset = _margin(rng, _ONSET_SHARES, _ONSET_CLUSTERS, empty=0.12, cluster=0.16 if stressed else 0.05)
    coda = _margin(rng, _CODA_SHARES, _CODA_CLUSTERS, empty=0.5, cluster=0.12 if stressed else 0.04)
    return _Syllable([*onset, vowel, *coda], len(onset), 1.0 if stressed else 0.0)


def _margin(
    rng: np.random.Generator,
    shares: dict[str, float],
    clusters: tuple[tuple[str, str], ...],
    *,
    empty: float,
    cluster: float,
) -> list[str]:
    kind = rng.random()
    if kind < empty:
        return []
    if kind < empty + cluster:
        return list(clusters[rng.integers(len(clusters))])
    return [_draw(rng, shares)]


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()), float)
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
