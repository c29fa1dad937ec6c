"""The voice can be measured: its pitch, its formants, its noises, and that it is silent in silence."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from data_pipelines.synthetic import people, speech, voice
from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES, SILENCE, VOWELS

VOICES = {
    "low": people.VoiceStyle(pitch=110, pitch_range=2, formant_scale=1.0, tempo=1, breathiness=0.2),
    "high": people.VoiceStyle(pitch=200, pitch_range=2, formant_scale=1.15, tempo=1, breathiness=0.2),
}


def spoken(symbols: str, lengths: list[float], style: people.VoiceStyle) -> tuple[np.ndarray, list[np.ndarray]]:
    """The sound of a phrase in a steady pitch, and the middle halves of its phonemes."""
    ends = np.cumsum(lengths)
    times = np.stack([ends - lengths, ends], 1)
    numbers = np.array([NUMBER[symbol] for symbol in symbols.split()], np.int32)
    pitch = np.full(int(ends[-1] / speech.PITCH_STEP) + 2, style.pitch)
    said = speech.Phrase(numbers, times, np.ones(len(numbers)), np.zeros(0), pitch, noise_seed=7)
    sound = voice.synthesise_phrase(said, style)
    quarters = times + np.diff(times, axis=1) * np.array([0.25, -0.25]) + voice.LEAD
    return sound, [sound[slice(*np.round(quarter * voice.RATE).astype(int))] for quarter in quarters]


def power(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.asarray(sound, float) ** 2)))


def formants(sound: np.ndarray, order: int = 14) -> np.ndarray:
    """Resonances in Hz by linear prediction, narrow ones only."""
    window = np.diff(sound, prepend=0) * np.hamming(len(sound))
    lags = np.correlate(window, window, "full")[len(window) - 1 :][: order + 1]
    lags[0] *= 1 + 1e-7
    roots = np.roots(np.append(1.0, scipy.linalg.solve_toeplitz(lags[:order], -lags[1:])))
    roots = roots[(roots.imag > 0) & (np.abs(roots) > np.exp(-np.pi * 500 / voice.RATE))]
    found = np.sort(np.angle(roots) * voice.RATE / (2 * np.pi))
    return found[found > 150]


def centroid(sound: np.ndarray) -> float:
    energy = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return float((energy * np.fft.rfftfreq(len(sound), 1 / voice.RATE)).sum() / energy.sum())


def measured_pitch(sound: np.ndarray) -> float:
    similar = np.correlate(sound, sound, "full")[len(sound) - 1 :]
    lags = np.arange(50, 250)
    return voice.RATE / float(lags[np.argmax(similar[lags])])


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("vowel", ["IY", "EH", "AE", "AA", "AO", "UW", "ER"])
def test_sustained_vowels_have_their_formants_and_pitch(name, vowel):
    style = VOICES[name]
    _, (middle,) = spoken(vowel, [0.6], style)
    found = formants(middle)
    for wanted in np.array(PHONEMES[NUMBER[vowel]].formants[:3]) * style.formant_scale:
        # what a high voice lets one see of F1 is the harmonic next to it
        assert np.abs(found - wanted).min() < max(0.06 * wanted, 0.4 * style.pitch)
    assert measured_pitch(middle) == pytest.approx(style.pitch, rel=0.03)


@pytest.mark.parametrize("name", VOICES)
def test_sounds_are_told_apart_by_their_noise(name):
    style = VOICES[name]
    parts = {}
    for symbol in ("S", "SH", "F", "HH", "M", "L"):
        _, (vowel, parts[symbol], _) = spoken(f"AA {symbol} AA", [0.3, 0.2, 0.3], style)
        assert power(parts[symbol]) < 0.8 * power(vowel)
        assert power(parts[symbol]) > 0.05 * power(vowel)
    assert centroid(parts["S"]) > 5500
    assert 3000 < centroid(parts["SH"]) < 4200
    assert centroid(parts["F"]) > 3500
    assert centroid(parts["HH"]) < 2000
    assert centroid(parts["M"]) < 1000
    assert power(parts["F"]) < 0.6 * power(parts["S"])


def test_a_stop_is_silent_then_bursts():
    sound, _ = spoken("AA T AA", [0.3, 0.14, 0.3], VOICES["low"])
    closure, after = (
        sound[round((voice.LEAD + start) * voice.RATE) :][: round(0.03 * voice.RATE)] for start in (0.35, 0.385)
    )
    assert power(after) > 5 * power(closure)
    assert centroid(after) > 2500
    sound, _ = spoken("AA B AA", [0.3, 0.14, 0.3], VOICES["low"])
    murmur = sound[round((voice.LEAD + 0.35) * voice.RATE) :][: round(0.05 * voice.RATE)]
    assert 0.01 < power(murmur) / power(sound) < 0.3
    assert centroid(murmur) < 500


def test_a_diphthong_moves():
    sound, _ = spoken("AY", [0.5], VOICES["low"])
    start, end = (sound[round(second * voice.RATE) :][: round(0.1 * voice.RATE)] for second in (0.08, 0.42))
    second = [
        min(formants(part), key=lambda found, goal=goal: abs(found - goal))
        for part, goal in ((start, 1090), (end, 1990))
    ]
    assert second[0] == pytest.approx(1090, rel=0.1)
    assert second[1] == pytest.approx(1990, rel=0.1)


def test_breath_is_noise():
    tones = []
    for breathiness in (0.05, 0.5):
        style = people.VoiceStyle(**vars(VOICES["low"]) | {"breathiness": breathiness})
        _, (middle,) = spoken("AA", [0.6], style)
        high = scipy.signal.sosfilt(scipy.signal.butter(4, 3000, "high", fs=voice.RATE, output="sos"), middle)
        lag = round(voice.RATE / style.pitch)
        similar = [
            np.corrcoef(high[200:-400], high[200 + shift : len(high) - 400 + shift])[0, 1]
            for shift in range(lag - 3, lag + 4)
        ]
        tones.append(max(similar))
    assert tones[0] > tones[1] + 0.1


@pytest.fixture(scope="module")
def talks() -> list[tuple[people.Person, speech.Talk, np.ndarray]]:
    made = []
    for index in range(4):
        somebody = people.person(2, index)
        said = speech.talk(somebody, 2, 0, 8.0)
        made.append((somebody, said, voice.synthesise(said, somebody.voice, 8 * voice.RATE)))
    return made


def test_the_sound_has_the_length_the_level_and_no_clipping(talks):
    for _, _, sound in talks:
        assert sound.dtype == np.int16
        assert sound.shape == (8 * voice.RATE,)
        assert np.abs(sound.astype(int)).max() <= round(voice.PEAK * 32767)
        assert 0.02 < power(sound / 32768) < 0.15
        assert abs(sound.mean()) < 20


def test_vowels_are_loud_and_silence_is_silent(talks):
    for _, said, sound in talks:
        vowels, silences = [], []
        for number, (start, end) in zip(said.phonemes.tolist(), said.times.clip(0, 8), strict=True):
            margin = 0.065 if number == SILENCE else 0.01
            part = sound[round((start + margin) * voice.RATE) : max(0, round((end - margin) * voice.RATE))]
            if len(part) > 100 and number in VOWELS:
                vowels.append(power(part / 32768))
            elif len(part) > 100 and number == SILENCE:
                silences.append(power(part / 32768))
        assert min(vowels) > 0.015
        assert len(silences) >= 1
        assert max(silences) == 0


def test_pitch_follows_the_melody(talks):
    for _, said, sound in talks:
        wanted, found = [], []
        for start, phrase in zip(said.starts, said.phrases, strict=True):
            for number, (since, until) in zip(phrase.phonemes.tolist(), phrase.times, strict=True):
                middle = (since + until) / 2
                first = round((start + middle - 0.025) * voice.RATE)
                if number in VOWELS and until - since > 0.08 and first >= 0 and first + 800 <= len(sound):
                    wanted.append(np.interp(middle, np.arange(len(phrase.pitch)) * speech.PITCH_STEP, phrase.pitch))
                    found.append(measured_pitch(sound[first : first + 800].astype(float)))
        relative = np.array(found) / np.array(wanted)
        assert (np.abs(relative - 1) < 0.06).mean() > 0.8  # the rest are octave errors of the measurement


def test_a_longer_sound_begins_like_a_shorter_one(talks):
    somebody, _, sound = talks[0]
    said = speech.talk(somebody, 2, 0, 1.0)
    np.testing.assert_array_equal(voice.synthesise(said, somebody.voice, voice.RATE), sound[: voice.RATE])


def test_no_sound_is_no_samples(talks):
    somebody, said, _ = talks[0]
    assert voice.synthesise(said, somebody.voice, 0).shape == (0,)
