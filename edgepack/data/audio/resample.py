"""Changes the rate of a sound by a polyphase filter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# The filter is a sinc under a Kaiser window. By Kaiser's formula (Oppenheim and Schafer, Discrete-Time Signal
# Processing, 7.5) beta 12 damps by 117 dB, and with 96 zero crossings a side the slope takes 0.04 of the lower
# Nyquist frequency on either side of the cut: it passes what lies below 0.91 of that and stops what would fold back.
CROSSINGS = 96
ROLLOFF = 0.95
BETA = 12.0
MOST_SAMPLES = 1 << 27  # 47 minutes at 48 kHz
_CHUNK = 1 << 21  # taps that are computed at once


def resample(samples: Array, rate: int, wanted: int) -> Array:
    """Return ``samples`` [n] at ``rate`` Hz as float32 [ceil(n * wanted / rate)] at ``wanted`` Hz.

    What lies below 0.9 of the lower Nyquist frequency is kept within 1e-5 of its amplitude, what lies above the lower
    Nyquist frequency is damped by 100 dB; the sound is taken for zero outside. The first moments of both are the same
    moment. Raises ``DataError`` where that would be more than ``MOST_SAMPLES``.
    """
    if rate == wanted:
        return np.asarray(samples, np.float32)
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    count = -(-len(samples) * up // down)
    reach = math.ceil(CROSSINGS * max(1.0, down / up))  # how far the filter reaches, in samples
    if count > MOST_SAMPLES or reach > _CHUNK:
        raise DataError(
            f"{len(samples)} samples at {rate} Hz would become {count} at {wanted} Hz",
            hint="the rate that the file gives is likely wrong; cut the sound into shorter ones otherwise",
        )
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(np.asarray(samples, np.float64), (reach, reach + 1)), 2 * reach + 1
    )
    result = np.empty(count, np.float32)
    chunk = max(1, _CHUNK // (2 * reach + 1))
    for start in range(0, min(up, count), chunk):
        first, phases = np.divmod(np.arange(start, min(start + chunk, up, count), dtype=np.int64) * down, up)
        for i, taps in enumerate(_filters(phases / up, reach, up, down)):
            place = result[start + i :: up]  # every up-th moment lies as far after a sample
            place[:] = around[first[i] :: down][: len(place)] @ taps
    return result


def _filters(fractions: Array, reach: int, up: int, down: int) -> Array:
    """Return the filter [fractions, 2 * reach + 1] around a moment that lies a fraction after a sample."""
    width = CROSSINGS * max(1.0, down / up)
    cut = ROLLOFF * min(1.0, up / down)
    distance = np.arange(-reach, reach + 1)[None, :] - fractions[:, None]
    inside = np.clip(1 - (distance / width) ** 2, 0, None)
    window = np.where(np.abs(distance) <= width, np.i0(BETA * np.sqrt(inside)) / np.i0(BETA), 0)
    taps: Array = cut * np.sinc(cut * distance) * window
    taps /= taps.sum(axis=1, keepdims=True)  # so that silence on any level stays on it
    return taps
