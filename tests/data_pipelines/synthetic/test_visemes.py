"""The mouth shows what is said, with its neighbours, and closes where it must."""

import numpy as np
import pytest

from data_pipelines.synthetic import visemes
from data_pipelines.synthetic.phonemes import NUMBER, PHONEMES, VOWELS
from reenax.geometry.head.names import EXPRESSIONS


def shown(symbols: str, length: float, at: np.ndarray, loudness: float = 1.0) -> np.ndarray:
    """The mouth of sounds of equal length between silences, the first sound beginning at 0."""
    numbers = np.array([NUMBER[symbol] for symbol in ("SIL", *symbols.split(), "SIL")])
    edges = np.array([-np.inf, *np.arange(len(numbers) - 1) * length, np.inf])
    times = np.stack([edges[:-1], edges[1:]], 1)
    return visemes.mouth(numbers, times, np.full(len(numbers), loudness), at)


def weight(mouth: np.ndarray, name: str) -> np.ndarray:
    return mouth[..., EXPRESSIONS.index(name)]


def test_every_sound_has_shapes_that_exist():
    assert set(visemes.VISEMES) == {phoneme.symbol for phoneme in PHONEMES}
    for symbol, shapes in visemes.VISEMES.items():
        assert len(shapes) == (2 if PHONEMES[NUMBER[symbol]].glide else 1)
        for viseme in shapes:
            for number, value in visemes.both_sides(viseme.shapes).items():
                assert 0 <= number < 52
                assert 0 < value <= 1
    with pytest.raises(ValueError, match="not in tuple"):
        visemes.both_sides({"mouthWide": 1.0})


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("AA", {"jawOpen": 0.70, "mouthPuckerx": 0}),
        ("IY", {"mouthSmileLeft": 0.35, "mouthSmileRight": 0.35, "jawOpen": 0.15}),
        ("UW", {"mouthPucker": 0.8, "mouthFunnel": 0.3, "jawOpen": 0.15}),
        ("M", {"mouthPressLeft": 0.6, "mouthPressRight": 0.6}),
        ("F", {"mouthRollLower": 0.7, "mouthUpperUpLeft": 0.3}),
        ("TH", {"tongueOut": 0.45}),
    ],
)
def test_a_held_sound_shows_its_shape(symbol, expected):
    mouth = shown(symbol, 0.4, np.array([0.2]))[0]
    for name, value in expected.items():
        if name in EXPRESSIONS:
            assert weight(mouth, name) == pytest.approx(value, abs=1e-6)


def test_silence_is_a_closed_mouth():
    mouth = shown("AA", 0.2, np.array([-5.0, -0.06, 0.3, 5.0]))
    np.testing.assert_allclose(mouth, 0, atol=1e-12)


def test_weights_are_weights_at_any_time():
    rng = np.random.default_rng(0)
    symbols = " ".join(PHONEMES[number].symbol for number in rng.integers(0, 40, 60))
    mouth = shown(symbols, 0.08, np.linspace(-1, 6, 1500))
    assert mouth.shape == (1500, 53)
    assert mouth.min() >= 0
    assert mouth.max() <= 1


@pytest.mark.parametrize("lips", ["M", "B", "P"])
@pytest.mark.parametrize("around", ["AA", "AE", "AO"])
def test_lips_close_fully_between_open_vowels(lips, around):
    at = np.array([0.5, 1.5, 2.5]) * 0.07  # the middles of three quick sounds
    mouth = shown(f"{around} {lips} {around}", 0.07, at)
    closed = visemes.close(mouth[:, :52], mouth[:, visemes.CLOSURE])
    opening = weight(closed, "jawOpen") - weight(closed, "mouthClose")
    assert opening[1] < 0.02
    assert opening[[0, 2]].min() > 0.3
    assert weight(closed, "mouthPressLeft")[1] > 0.5
    assert (weight(closed, "mouthClose") <= weight(closed, "jawOpen") + 1e-9).all()


def test_closing_closes_whatever_opened_the_jaw():
    expression = np.zeros((3, 52))
    expression[:, EXPRESSIONS.index("jawOpen")] = 0.8
    expression[2, EXPRESSIONS.index("mouthClose")] = 0.9
    closed = visemes.close(expression, np.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(weight(closed, "mouthClose"), [0, 0.8, 0.9])
    assert not weight(expression, "mouthClose")[:2].any()


def test_lips_round_ahead_of_a_rounded_vowel():
    at = np.array([0.04])
    assert weight(shown("K UW", 0.08, at), "mouthPucker")[0] > 5 * weight(shown("M UW", 0.08, at), "mouthPucker")[0]
    assert weight(shown("K UW", 0.08, at), "mouthPucker")[0] > 0.1
    assert weight(shown("K IY", 0.08, at), "mouthSmileLeft")[0] > 0.04


def test_a_mouth_moves_smoothly():
    at = np.arange(0, 1, 0.001)
    mouth = shown("B AA D IY F UW TH EH P AY", 0.09, at)
    speed = np.abs(np.diff(mouth[:, :52], axis=0)) / 0.001
    assert speed.max() < 45  # from shut to open takes more than 20 ms, even for the lips of a B
    assert np.abs(np.diff(weight(mouth, "jawOpen"))).max() / 0.001 < 20


def test_loud_vowels_open_wider():
    at = np.array([0.2])
    soft, loud = (weight(shown("AA", 0.4, at, level), "jawOpen")[0] for level in (0.5, 1.2))
    assert loud > 1.25 * soft


def test_vowels_are_told_apart():
    shapes = np.stack([shown(PHONEMES[number].symbol, 0.6, np.array([0.12]))[0] for number in sorted(VOWELS)])
    distances = np.abs(shapes[:, None] - shapes[None]).sum(2) + 9 * np.eye(len(shapes))
    different = distances > 0.05
    assert different.mean() > 0.97  # some diphthongs begin like the vowel that they are named after
