"""95 % intervals of dependent measurements by the circular block bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_RESAMPLES = 1000
_MOST_BLOCKS = 2000  # more blocks than this sharpen nothing; longer blocks only cover more dependence
_Z975 = 1.959963984540054  # standard normal quantile at 0.975


@dataclass(frozen=True)
class Interval:
    """An interval, the block length it was found with, and how many independent values the data are worth."""

    ends: tuple[float, float]
    block: int
    effective: float


def block_length(values: Array) -> int:
    """Return the block length for a series [n] from its autocorrelation; at least 1.

    Politis and White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric Reviews
    23(1), as corrected by Patton, Politis and White (2009), Econometric Reviews 28(4), for the circular bootstrap:
    b = (2 G^2 n / D)^(1/3) with D = 4/3 g(0)^2, where g(0) and G are sums of autocovariances under a flat-top window.
    The window reaches to twice the lag after which max(5, log10 n) autocorrelations are insignificant.
    """
    n = len(values)
    if n < 8:
        return 1
    run = max(5, math.ceil(math.log10(n)))
    furthest = min(math.ceil(math.sqrt(n)) + run, n - 1)
    covariances = autocovariances(values, furthest)
    if covariances[0] <= 0:
        return 1
    reach = min(2 * _insignificant_after(covariances, n, run), furthest)
    if reach == 0:
        return 1
    lags = np.arange(1, reach + 1)
    weights = np.minimum(1.0, 2 * (1 - lags / reach)) * covariances[1 : reach + 1]
    spectrum = float(covariances[0] + 2 * weights.sum())
    if spectrum <= 0:
        return 1
    curvature = float(2 * (weights * lags).sum())
    best = float(np.cbrt(2 * curvature**2 * n / (4 / 3 * spectrum**2)))
    return max(1, min(math.ceil(best), math.ceil(min(3 * math.sqrt(n), n / 3))))


def _insignificant_after(covariances: Array, n: int, run: int) -> int:
    """Return the lag after which ``run`` autocorrelations in a row lie within 2 sqrt(log10 n / n)."""
    significant = np.abs(covariances[1:] / covariances[0]) >= 2 * math.sqrt(math.log10(n) / n)
    for lag in range(len(significant) - run + 1):
        if not significant[lag : lag + run].any():
            return lag
    return int(np.nonzero(significant)[0][-1]) + 1


def autocovariances(values: Array, furthest: int) -> Array:
    """Return the autocovariances of a series [n] at lags 0..furthest, each divided by n, by fast Fourier transform."""
    n = len(values)
    centred = np.asarray(values, dtype=np.float64) - float(np.mean(values))
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    result: Array = np.fft.irfft(spectrum * np.conj(spectrum), size)[: furthest + 1] / n
    return result


def quantile_interval(values: Array, rank: int, seed: int) -> Interval | None:
    """Return the 95 % interval of the value at ``rank`` (from 1) of a series [n]; None where the data cannot tell.

    The share of values not above the estimate is bootstrapped in blocks, and its deviations are turned back into
    ranks (Woodruff 1952, "Confidence Intervals for Medians and Other Position Measures", J. Am. Stat. Assoc. 47): the
    ends are values that were measured, and one resample costs as many additions as there are blocks.
    The block length is the longest of what the shares below the estimate and below the median ask for, and
    2 n^(1/3), because dependence in short series escapes the tests of autocorrelation.
    """
    n = len(values)
    ordered = np.sort(values)
    below = _share_nearest(values, float(ordered[rank - 1]), rank / n)
    below_median = (values <= ordered[(n - 1) // 2]).astype(np.float64)
    block = _usable_block(n, max(block_length(below), block_length(below_median)))
    deviations = _bootstrap_deviations(below, block, seed)
    low, high = _spread(deviations, n, block)
    first, last = math.floor(rank + low * n), math.ceil(rank + high * n)
    share = float(below.mean())
    ideal = share * (1 - share) / n
    effective = n if ideal == 0 else n * min(1.0, ideal / max(float(deviations.var()), 1e-300))
    if first < 1 or last > n:
        return None
    return Interval((float(ordered[first - 1]), float(ordered[last - 1])), block, effective)


def _share_nearest(values: Array, estimate: float, wanted: float) -> Array:
    """Return which values are not above the estimate, or of many equal ones which are below it, as 0.0 or 1.0 [n]."""
    candidates = (values <= estimate, values < estimate)
    nearest = min(candidates, key=lambda c: (c.all() or not c.any(), abs(float(c.mean()) - wanted)))
    result: Array = nearest.astype(np.float64)
    return result


def mean_interval(values: Array, seed: int) -> Interval | None:
    """Return the 95 % interval of the mean of a series [n] by the same blocks; None for fewer than 8 values."""
    n = len(values)
    if n < 8:
        return None
    data = np.asarray(values, dtype=np.float64)
    block = _usable_block(n, block_length(data))
    deviations = _bootstrap_deviations(data, block, seed)
    low, high = _spread(deviations, n, block)
    mean, ideal = float(data.mean()), float(data.var()) / n
    effective = n if ideal == 0 else n * min(1.0, ideal / max(float(deviations.var()), 1e-300))
    return Interval((mean + low, mean + high), block, effective)


def between_launches(values: Sequence[float]) -> float:
    """Return the half-width of Student's 95 % interval of the mean of one value a launch; infinite for one launch."""
    n = len(values)
    if n < 2:
        return math.inf
    return student_975(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)


def _usable_block(n: int, wanted: int) -> int:
    block = max(wanted, math.ceil(2 * float(np.cbrt(n))), math.ceil(n / _MOST_BLOCKS))
    return max(1, min(block, n // 6))


def _bootstrap_deviations(values: Array, block: int, seed: int) -> Array:
    """Return the deviations from the mean of ``_RESAMPLES`` circular block resamples of a series [n]."""
    n = len(values)
    count = math.ceil(n / block)
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[:block])))))
    of_block = sums[block : block + n] - sums[:n]  # of the block that starts at each place, round the end
    starts = np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, count))
    result: Array = of_block[starts].sum(axis=1) / (count * block) - float(values.mean())
    return result


def _spread(deviations: Array, n: int, block: int) -> tuple[float, float]:
    """Return the deviations at 2.5 % and 97.5 %, widened for the few blocks as Student's t is against the normal."""
    widening = student_975(max(math.ceil(n / block) - 1, 1)) / _Z975
    low, high = np.percentile(deviations, [2.5, 97.5])
    return float(low) * widening, float(high) * widening


def student_975(freedom: int) -> float:
    """Return the 0.975 quantile of Student's t, to 1e-3 or better for 3 and more degrees of freedom.

    Abramowitz and Stegun 26.7.5, the expansion in powers of 1/freedom; the closed forms for 1 and 2.
    """
    return student_quantile(freedom, _Z975)


def student_quantile(freedom: int, z: float) -> float:
    """Return the quantile of Student's t at the probability where the standard normal's is ``z``.

    Closed forms for 1 and 2 degrees of freedom (DLMF 8.17 gives the distribution), else Abramowitz and Stegun 26.7.5.
    """
    probability = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        a = 2 * probability - 1
        return a * math.sqrt(2 / (1 - a * a))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** (i + 1) for i, term in enumerate(terms))
