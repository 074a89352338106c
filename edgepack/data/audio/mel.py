"""Mel filters and the cosine transform of their logarithms, by librosa's and by TensorFlow's definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# Slaney's scale (Auditory Toolbox, 1998): linear to 1000 Hz, 200/3 Hz a mel, then 27 mels a factor of 6.4.
_LINEAR_HZ = 200.0 / 3
_BREAK_HZ = 1000.0
_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: Array, scale: str) -> Array:
    """Return mels of frequencies; ``htk`` is 1127 ln(1 + f / 700) (The HTK Book 3.4, section 5.4), else Slaney's."""
    if scale == "htk":
        result: Array = 1127.0 * np.log1p(hz / 700.0)
        return result
    logarithmic = _BREAK_HZ / _LINEAR_HZ + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, logarithmic)


def mel_to_hz(mel: Array, scale: str) -> Array:
    """Return the frequencies of mels; the inverse of ``hz_to_mel``."""
    if scale == "htk":
        result: Array = 700.0 * np.expm1(mel / 1127.0)
        return result
    broken = _BREAK_HZ / _LINEAR_HZ
    return np.where(mel < broken, mel * _LINEAR_HZ, _BREAK_HZ * np.exp(_STEP * (np.maximum(mel, broken) - broken)))


def librosa_filters(mels: int, fft_length: int, rate: int, low: float, high: float, scale: str, norm: str) -> Array:
    """Return triangles [bins, mels] that are straight in Hz, as librosa.filters.mel (librosa 0.11, filters.py).

    The last bin of a transform of an odd length lies below half of the rate.
    ``norm`` "slaney" divides each by half its width in Hz, so that all have the same area.
    """
    edges = mel_to_hz(np.linspace(hz_to_mel(np.array(low), scale), hz_to_mel(np.array(high), scale), mels + 2), scale)
    filters = _triangles(np.fft.rfftfreq(fft_length, 1 / rate), edges)
    return filters * (2.0 / (edges[2:] - edges[:-2])) if norm == "slaney" else filters


def tensorflow_filters(mels: int, bins: int, rate: int, low: float, high: float) -> Array:
    """Return triangles [bins, mels] that are straight in mels of HTK's scale, not normalised, the bin of 0 Hz left out.

    As tf.signal.linear_to_mel_weight_matrix (tensorflow/python/ops/signal/mel_ops.py).
    """
    edges = np.linspace(hz_to_mel(np.array(low), "htk"), hz_to_mel(np.array(high), "htk"), mels + 2)
    filters = _triangles(hz_to_mel(np.linspace(0, rate / 2, bins), "htk"), edges)
    filters[0] = 0
    return filters


def _triangles(places: Array, edges: Array) -> Array:
    """Return [places, len(edges) - 2]: filter i rises from edge i to i + 1 and falls to i + 2."""
    gaps = np.diff(edges)
    slopes = edges[None, :] - places[:, None]
    rise, fall = -slopes[:, :-2] / gaps[:-1], slopes[:, 2:] / gaps[1:]
    return np.maximum(0, np.minimum(rise, fall))


def decibels(power: Array, top_db: float | None) -> Array:
    """Return 10 log10 of at least 1e-10, at most ``top_db`` below the largest, as librosa.power_to_db(ref=1.0)."""
    result: Array = 10.0 * np.log10(np.maximum(1e-10, power))
    return result if top_db is None else np.maximum(result, result.max() - top_db)


def cosine_transform(values: Array, coefficients: int) -> Array:
    """Return the first coefficients of the orthonormal DCT-II along the last axis, as scipy.fft.dct(norm="ortho").

    librosa.feature.mfcc is that of decibels; tf.signal.mfccs_from_log_mel_spectrograms (its DCT-II, which is twice
    the sum, by 1 / sqrt(2 mels)) is the same but for the first, which it does not divide by sqrt(2).
    """
    mels = values.shape[-1]
    angle = np.pi / mels * (np.arange(mels)[:, None] + 0.5) * np.arange(coefficients)[None, :]
    basis = np.sqrt(2.0 / mels) * np.cos(angle)
    basis[:, 0] /= np.sqrt(2.0)
    result: Array = values @ basis
    return result
