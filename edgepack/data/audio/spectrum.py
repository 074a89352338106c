"""Frames, windows and magnitudes of a short-time Fourier transform, by librosa's and by TensorFlow's definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.signals import Window
    from edgepack.specs.types import Array

_COSINES = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08), "ones": (1.0,)}


def window(kind: Window, length: int) -> Array:
    """Return a periodic window, float64 [length], as scipy.signal.get_window(kind, length, fftbins=True).

    tf.signal.hann_window and hamming_window are the same with their default ``periodic=True``. A periodic window is
    the symmetric one of length + 1 without its last value; that of one sample is 1 in all three.
    """
    if length == 1:
        return np.ones(1)
    angle = 2 * np.pi * np.arange(length) / length
    terms = [(-1) ** k * factor * np.cos(k * angle) for k, factor in enumerate(_COSINES[kind])]
    result: Array = np.sum(terms, axis=0)
    return result


def frames(samples: Array, length: int, hop: int, *, centre: bool = False, edges: str = "zeros") -> Array:
    """Return [frames, length] pieces of [n] samples, ``hop`` apart; what does not fill a last one is left out.

    With ``centre``, frame i is centred on sample ``i * hop``, as librosa.stft(center=True): length // 2 samples are
    added on both sides, zeros (pad_mode="constant") or the sound's mirror image without its edge ("reflect").
    """
    if centre:
        mode = "reflect" if edges == "reflect" else "constant"
        samples = np.pad(samples, length // 2, mode=mode)  # type: ignore[call-overload]
    if len(samples) < length:
        return np.empty((0, length), samples.dtype)
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]


def magnitudes(pieces: Array, weights: Array, fft_length: int, *, middle: bool) -> Array:
    """Return the magnitudes [frames, fft_length // 2 + 1] of pieces [frames, length] under a window.

    ``middle``: the window lies in the middle of ``fft_length`` samples, as librosa.stft(win_length=...) has it, and
    the pieces are that long. Else pieces are as long as the window, and zeros follow, as tf.signal.stft has it.
    """
    if middle:
        before = (fft_length - len(weights)) // 2
        weights = np.pad(weights, (before, fft_length - len(weights) - before))
    return np.abs(np.fft.rfft(pieces * weights, n=fft_length, axis=-1))
