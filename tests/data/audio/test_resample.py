import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from sounds import noise

from edgepack.data.audio.resample import _filters, resample
from edgepack.errors import DataError

RATES = [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 44100), (22050, 16000), (11025, 16001)]


def tones(rate: int, highest: float) -> np.ndarray:
    """Ten tones below ``highest`` Hz, one second; the same sound at every rate."""
    random = np.random.default_rng(0)
    time = np.arange(rate) / rate
    pairs = zip(random.uniform(20, highest, 10), random.uniform(0, 6, 10), strict=True)
    return sum(0.1 * np.sin(2 * np.pi * pitch * time + phase) for pitch, phase in pairs)


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_tones_below_nine_tenths_of_nyquist_keep_their_values(rate, wanted):
    highest = 0.9 * min(rate, wanted) / 2
    found, right = resample(tones(rate, highest), rate, wanted), tones(wanted, highest)
    assert found.shape == right.shape
    assert found.dtype == np.float32
    middle = slice(wanted // 5, -wanted // 5)  # the ends miss what lies beyond them
    assert np.abs(found - right)[middle].max() < 1e-5


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (48000, 8000), (22050, 16000)])
def test_what_the_lower_rate_cannot_hold_is_damped_by_100_db(rate, wanted):
    time = np.arange(rate) / rate
    found = resample(np.sin(2 * np.pi * 1.02 * wanted / 2 * time), rate, wanted)
    assert np.abs(found[wanted // 5 : -wanted // 5]).max() < 1e-5


@given(st.integers(1, 400), st.sampled_from([(1, 2), (2, 1), (3, 2), (2, 3), (160, 441), (5, 4)]))
@settings(deadline=None, max_examples=40)
def test_it_is_scipys_polyphase_filter_with_these_taps(count, ratio):
    """The same filter given to scipy.signal.resample_poly: the places of moments and the ends are right."""
    up, down = ratio
    samples = noise(count).astype(np.float64)
    reach = int(np.ceil(96 * max(1, down / up)))
    fractions = np.arange(up) / up
    taps = _filters(fractions, reach, up, down)  # [phase, distance], distance in samples
    whole = np.zeros(2 * reach * up + 2 * up + 1)
    middle = len(whole) // 2
    for phase in range(up):
        places = middle - (np.arange(-reach, reach + 1) * up - phase)
        whole[places] = taps[phase]
    right = resample_poly(samples, up, down, window=whole / up)
    found = resample(samples, down, up)
    assert len(found) == len(right)
    np.testing.assert_allclose(found, right, atol=2e-6)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_the_length_is_that_of_the_same_time_and_a_level_stays(rate, wanted, count):
    if rate / wanted > 50:
        return
    found = resample(np.full(count, 0.25), rate, wanted)
    assert len(found) == -(-count * wanted // rate)
    assert np.isfinite(found).all()


def test_silence_on_a_level_stays_on_it():
    found = resample(np.full(3000, 0.25), 44100, 16000)
    np.testing.assert_allclose(found[200:-200], 0.25, rtol=1e-7)


def test_the_same_rate_changes_nothing():
    np.testing.assert_array_equal(resample(noise(50), 16000, 16000), noise(50))


@pytest.mark.parametrize(("count", "rate", "wanted"), [(100_000, 1, 768_000), (10, 768_000, 1)])
def test_a_rate_that_lies_takes_no_memory(count, rate, wanted):
    with pytest.raises(DataError, match="would become"):
        resample(np.zeros(count, np.float32), rate, wanted)
