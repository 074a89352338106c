import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT, get_window
from sounds import noise

from edgepack.data.audio.spectrum import frames, magnitudes, window


@given(st.sampled_from(["hann", "hamming", "blackman"]), st.integers(1, 700))
def test_windows_are_scipys_periodic_ones(kind, length):
    for size in (1, length):
        np.testing.assert_allclose(window(kind, size), get_window(kind, size, fftbins=True), atol=1e-12)
    np.testing.assert_array_equal(window("ones", length), np.ones(length))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 50))
def test_frames_are_pieces_of_the_sound(count, length, hop):
    sound = noise(count)
    found = frames(sound, length, hop)
    starts = range(0, count - length + 1, hop)
    assert found.shape == (len(starts), length)
    for piece, start in zip(found, starts, strict=True):
        np.testing.assert_array_equal(piece, sound[start : start + length])


@pytest.mark.parametrize(("edges", "first"), [("zeros", [0, 0, 1, 2]), ("reflect", [3, 2, 1, 2])])
def test_a_centred_frame_lies_around_its_sample(edges, first):
    found = frames(np.array([1.0, 2, 3, 4, 5]), 4, 2, centre=True, edges=edges)
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], [1, 2, 3, 4])
    assert len(found) == 3


def test_magnitudes_are_those_of_scipys_transform():
    sound, weights = noise(4000).astype(np.float64), window("hann", 400)
    right = np.abs(ShortTimeFFT(weights, 160, 16000, mfft=512).stft(sound, p0=2, p1=20))
    found = magnitudes(frames(sound[2 * 160 - 200 :], 400, 160), weights, 512, middle=False)
    np.testing.assert_allclose(found[:18], right.T, atol=1e-9)


def test_a_window_in_the_middle_sees_the_middle():
    piece = np.zeros((1, 512))
    piece[0, 100] = 1.0
    weights = window("hann", 400)
    assert magnitudes(piece, weights, 512, middle=True)[0] == pytest.approx(np.full(257, weights[100 - 56]))
