"""What is said has the build, the tempo and the melody of speech."""

import numpy as np
import pytest

from data_pipelines.synthetic import people, speech
from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES, SILENCE, VOWELS


@pytest.fixture(scope="module")
def somebody() -> people.Person:
    return people.person(0, 5)


@pytest.fixture(scope="module")
def long_talk(somebody) -> speech.Talk:
    return speech.talk(somebody, 0, 0, 120.0)


def test_the_inventory_is_complete():
    assert len(PHONEMES) == len(NUMBER) == 40
    assert PHONEMES[SILENCE].symbol == "SIL"
    kinds = [phoneme.kind for phoneme in PHONEMES]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "silence": 1, "vowel": 15, "stop": 6, "affricate": 2, "fricative": 9, "nasal": 3, "approximant": 4
    }  # fmt: skip
    for phoneme in PHONEMES:
        for formants in (phoneme.formants, phoneme.glide or phoneme.formants):
            assert list(formants) == sorted(formants)
            assert 200 < formants[0] < formants[3] < 4000
        assert (phoneme.noise is not None) == (
            phoneme.kind in ("stop", "affricate") or (phoneme.kind == "fricative" and phoneme.symbol != "HH")
        )
    voiced = {phoneme.symbol for phoneme in PHONEMES if phoneme.voicing > 0}
    assert not voiced & {"SIL", "P", "T", "K", "CH", "F", "TH", "S", "SH", "HH"}
    assert len(voiced) == 30


def test_a_talk_is_the_same_again_and_every_take_says_something_else(somebody):
    first, again = speech.talk(somebody, 0, 1, 5.0), speech.talk(somebody, 0, 1, 5.0)
    np.testing.assert_array_equal(first.phonemes, again.phonemes)
    np.testing.assert_array_equal(first.times, again.times)
    others = [
        speech.talk(somebody, 0, 2, 5.0),
        speech.talk(somebody, 1, 1, 5.0),
        speech.talk(people.person(0, 6), 0, 1, 5.0),
    ]
    for other in others:
        assert first.phonemes.tolist()[:20] != other.phonemes.tolist()[:20]


def test_more_time_adds_phrases_and_changes_none(somebody):
    short, long = speech.talk(somebody, 0, 3, 2.0), speech.talk(somebody, 0, 3, 30.0)
    assert len(long.phrases) > len(short.phrases)
    assert long.starts[: len(short.starts)] == short.starts
    count = len(short.phonemes)
    np.testing.assert_array_equal(long.phonemes[:count], short.phonemes)
    np.testing.assert_array_equal(long.times[: count - 1], short.times[:-1])


def test_phonemes_follow_each_other_without_gaps(long_talk):
    times = long_talk.times
    assert times[0, 0] == -np.inf
    assert times[-1, 1] == np.inf
    np.testing.assert_array_equal(times[1:, 0], times[:-1, 1])
    lengths = np.diff(times, axis=1)[:, 0]
    spoken = long_talk.phonemes != SILENCE
    assert lengths[spoken].min() >= 0.045
    assert lengths[spoken].max() < 0.6
    assert lengths[~spoken].min() >= 0.1
    assert (long_talk.loudness[~spoken] == 0).all()
    assert (long_talk.loudness[spoken] > 0.4).all()
    assert long_talk.phonemes.dtype == np.int32


def test_talk_is_mostly_speech_in_a_human_tempo(long_talk):
    spoken = sum(said.duration for said in long_talk.phrases[:-1])
    assert 0.65 < spoken / long_talk.starts[-1] < 0.92
    vowels = sum(number in VOWELS for said in long_talk.phrases[:-1] for number in said.phonemes.tolist())
    assert 2.5 < vowels / spoken < 6  # syllables per second
    common = ("AA", "IY", "UW", "M", "B", "P", "F", "S", "T", "K", "N", "L", "R", "W")
    assert set(long_talk.phonemes.tolist()) >= {NUMBER[symbol] for symbol in common}


def test_tempo_scales_the_durations(somebody):
    style = somebody.voice
    slow, fast = (
        np.mean([speech.phrase(np.random.default_rng(seed), changed).duration for seed in range(20)])
        for changed in (
            people.VoiceStyle(**vars(style) | {"tempo": 0.8}),
            people.VoiceStyle(**vars(style) | {"tempo": 1.2}),
        )
    )
    assert 1.2 < slow / fast < 1.5


def test_syllables_have_one_vowel_and_legal_clusters():
    for seed in range(30):
        for syllable in speech._syllables(np.random.default_rng(seed)):
            kinds = [PHONEMES[NUMBER[symbol]].kind == "vowel" for symbol in syllable.symbols]
            assert sum(kinds) == 1
            assert kinds[syllable.vowel]
            assert len(syllable.symbols) <= 5
            assert "NG" not in syllable.symbols[: syllable.vowel]
            assert not {"HH", "W", "Y"} & set(syllable.symbols[syllable.vowel + 1 :])


def test_the_last_syllable_of_a_phrase_is_drawn_out(long_talk):
    last, others = [], []
    for said in long_talk.phrases:
        vowels = [place for place, number in enumerate(said.phonemes.tolist()) if number in VOWELS]
        relative = [np.diff(said.times[place])[0] / PHONEMES[said.phonemes[place]].duration for place in vowels]
        last.append(relative[-1])
        others += relative[:-1]
    assert np.mean(last) > 1.25 * np.mean(others)


def test_pitch_sinks_rises_on_accents_and_stays_in_the_voice(somebody, long_talk):
    style = somebody.voice
    falls, accents = [], []
    for said in long_talk.phrases:
        assert said.pitch.min() > style.pitch / 1.6
        assert said.pitch.max() < style.pitch * 1.8
        times = np.arange(len(said.pitch)) * speech.PITCH_STEP
        third = len(times) // 3
        falls.append(np.median(said.pitch[:third]) / np.median(said.pitch[-third:]))
        for beat in said.accents:
            near = np.abs(times - beat) < 0.05
            accents.append(np.log2(said.pitch[near].mean() / np.median(said.pitch)))
            assert 0 < beat < said.duration
    assert np.mean(falls) > 1.03
    assert np.mean(accents) > 0.05  # octaves
    assert (speech.talk(somebody, 0, 0, 120.0).accents == long_talk.accents).all()
