import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from edgepack.data.audio.mel import (
    cosine_transform,
    decibels,
    hz_to_mel,
    librosa_filters,
    mel_to_hz,
    tensorflow_filters,
)


@given(st.floats(0, 24000), st.sampled_from(["htk", "slaney"]))
def test_scales_are_inverted(hz, scale):
    assert abs(mel_to_hz(hz_to_mel(np.array(hz), scale), scale) - hz) < 1e-6


def test_scales_have_their_known_values():
    """The HTK Book: 1000 Hz is 1000 mel (2595 log10(1 + f/700)); Slaney: 15 mels at 1000 Hz, 42 at 6400."""
    assert abs(hz_to_mel(np.array(1000.0), "htk") - 999.98) < 0.02
    np.testing.assert_allclose(hz_to_mel(np.array([200 / 3, 1000.0, 6400.0]), "slaney"), [1, 15, 42])


def test_librosas_triangles_have_one_area_when_normalised():
    filters = librosa_filters(10, 8192, 16000, 300, 8000, "slaney", "slaney")
    np.testing.assert_allclose(filters.sum(axis=0) * 8000 / 4096, 1, rtol=1e-3)
    plain = librosa_filters(10, 8192, 16000, 300, 8000, "slaney", "none")
    assert plain.max() <= 1
    assert (plain.max(axis=0) > 0.99).all()


def test_bins_of_an_odd_transform_lie_where_they_are():
    """As librosa.filters.mel(sr=16000, n_fft=5, n_mels=1, htk=True, norm=None): its bins are 0, 3200 and 6400 Hz."""
    middle = mel_to_hz(hz_to_mel(np.array(8000.0), "htk") / 2, "htk")
    expected = [[0.0], [(8000 - 3200) / (8000 - middle)], [(8000 - 6400) / (8000 - middle)]]
    np.testing.assert_allclose(librosa_filters(1, 5, 16000, 0, 8000, "htk", "none"), expected, atol=1e-9)


def test_tensorflows_triangles_leave_the_level_out():
    filters = tensorflow_filters(20, 257, 16000, 0, 8000)
    assert not filters[0].any()
    assert filters[1].any()


@given(st.integers(1, 60), st.data())
def test_the_cosine_transform_is_scipys(mels, data):
    count = data.draw(st.integers(1, mels))
    values = np.random.default_rng(mels).standard_normal((3, mels))
    np.testing.assert_allclose(
        cosine_transform(values, count), dct(values, norm="ortho", axis=-1)[:, :count], atol=1e-10
    )


def test_decibels_end_at_their_floor():
    np.testing.assert_allclose(decibels(np.array([1.0, 1e-3, 0.0]), None), [0, -30, -100])
    np.testing.assert_allclose(decibels(np.array([1.0, 1e-3, 0.0]), 80.0), [0, -30, -80])
