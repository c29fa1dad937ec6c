"""Sound as numbers: silence, tones in their bands, cutting at and beyond the ends."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from reenax.audio.spectrum import RATE, SpectrumParams, log_mel, mel_filters, windows_at
from reenax.core.errors import UserError

PARAMS = SpectrumParams()


def tone(frequency: float, amplitude: float = 1.0) -> jnp.ndarray:
    time = np.arange(PARAMS.samples) / RATE
    return jnp.asarray(amplitude * np.sin(2 * np.pi * frequency * time), jnp.float32)[None]


def test_two_hundred_and_fifty_six_numbers_by_default() -> None:
    assert (PARAMS.samples, PARAMS.columns, PARAMS.count) == (3200, 16, 256)
    assert log_mel(tone(440), PARAMS).shape == (1, 256)
    assert SpectrumParams(frame=800, hop=400, bands=10).count == 70


def test_silence_is_zero_and_ten_times_the_power_adds_one() -> None:
    assert float(jnp.abs(log_mel(jnp.zeros((1, 3200)), PARAMS)).max()) == 0
    loud, soft = (log_mel(tone(1000, a), PARAMS).reshape(16, 16).max(axis=1) for a in (1.0, 10**-0.5))
    np.testing.assert_allclose(loud - soft, 1, atol=1e-3)
    # 60 dB above the floor; the filters are not flat, so that it may be a bit more or less
    assert 5 < float(loud[0]) < 7


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 5000.0])
def test_a_tone_is_loudest_in_its_band(frequency: float) -> None:
    spectra = np.asarray(log_mel(tone(frequency), PARAMS)).reshape(PARAMS.columns, PARAMS.bands)
    filters = mel_filters(PARAMS.bands, 512)
    own = int(filters[:, round(frequency / RATE * 512)].argmax())
    assert (np.abs(spectra.argmax(axis=1) - own) <= 1).all()


def test_filters_are_triangles_side_by_side() -> None:
    filters = mel_filters(16, 512)
    assert filters.shape == (16, 257)
    assert (np.diff(filters.argmax(axis=1)) > 0).all()
    inside = filters.sum(axis=0)[10:200]  # between the outermost centres neighbours add up to 1
    np.testing.assert_allclose(inside, 1, atol=1e-9)
    with pytest.raises(ValueError, match="200 bands are more than spectra of 512 points resolve"):
        mel_filters(200, 512)


def test_pieces_are_cut_around_their_times() -> None:
    sound = jnp.arange(1.0, 16001.0)
    pieces = windows_at(sound, jnp.asarray([0.0, 0.5, 1.0]), PARAMS)
    assert pieces.shape == (3, 3200)
    assert float(pieces[1, 1600]) == 8001  # the middle sample is the moment itself
    assert not np.asarray(pieces[0, :1600]).any()
    assert float(pieces[0, 1600]) == 1
    assert float(pieces[2, 1599]) == 16000
    assert not np.asarray(pieces[2, 1600:]).any()
    assert not np.asarray(windows_at(jnp.zeros(0), jnp.zeros(2), PARAMS)).any()


def test_pieces_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pieces of 1600 samples, but window=0\.2 s are 3200"):
        log_mel(jnp.zeros((1, 1600)), PARAMS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop": 0}, r"config\.model\.sound\.hop=0: give 1 or more"),
        ({"frame": 1}, r"sound\.frame=1: give 2 or more"),
        ({"bands": 0}, r"sound\.bands=0: give 1 or more"),
        ({"floor": 0.0}, r"sound\.floor=0\.0: give a power above 0"),
        ({"frame": 3201}, r"sound\.frame=3201 is longer than the 3200 samples of window=0\.2 s; take"),
        ({"bands": 200}, r"config\.model\.sound: 200 bands are more than spectra of 512 points resolve; take fewer"),
    ],
)
def test_impossible_descriptions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpectrumParams(**values)
