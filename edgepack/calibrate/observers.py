"""Chooses the range of one tensor from its statistics: minmax, percentile, entropy, mse.

Every observer gives two ranges: [low, high] for asymmetric 8-bit quantization, which always holds zero, and a magnitude
m for symmetric quantization over [-m, m]. None goes beyond the extremes seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from edgepack.calibrate.histogram import Histogram, fold_counts, to_histogram
from edgepack.calibrate.range_error import entropy_costs, squared_errors
from edgepack.calibrate.statistics import Statistics
from edgepack.specs import Array, Observer, TensorRange

# The cost of ranges [lows, highs], one number each; the last argument is the number of steps in a range.
Costs: TypeAlias = Callable[[Histogram, Array, Array, int], Array]

# Levels of 8 bits: 256 asymmetric; symmetric ones -127..127, as every engine in FACTS scales by magnitude / 127.
_STEPS, _SYMMETRIC_STEPS = 255, 254
# Migacz (2017) merges the histogram of magnitudes into 128 levels.
_MAGNITUDE_STEPS = 128

# Shares of an extreme that are tried as the end of a range: 6 for each halving, and then finer around the best one.
_SHARES = 2.0 ** -(np.arange(49) / 6.0)
_FINE_SHARES = 2.0 ** (np.arange(-5, 6) / 36.0)
_ROUNDS = 2
_ROUNDING = 1e-12


def choose_range(observer: Observer, statistics: Statistics, percentile: float) -> TensorRange:
    """Return the range of a tensor with at least one value; ``percentile`` (50..100) is that observer's own."""
    minimum, maximum = statistics.minimum, statistics.maximum
    plain = TensorRange(minimum, maximum, min(minimum, 0.0), max(maximum, 0.0), max(abs(minimum), abs(maximum)))
    if observer == "minmax" or statistics.counts is None:
        return plain
    counted = statistics.counts.table()
    histogram = to_histogram(counted, minimum, maximum)
    if histogram.total == 0:
        return plain
    folded = to_histogram(fold_counts(counted), 0.0, plain.magnitude)
    if observer == "percentile":
        low, high, magnitude = percentile_ends(histogram, folded, percentile)
    elif observer == "entropy":
        low, high, magnitude = entropy_ends(histogram, folded, plain)
    else:
        low, high, magnitude = mse_ends(histogram, folded, plain)
    return TensorRange(
        minimum=minimum,
        maximum=maximum,
        low=max(min(low, 0.0), plain.low),
        high=min(max(high, 0.0), plain.high),
        magnitude=min(magnitude, plain.magnitude),
    )


def percentile_ends(histogram: Histogram, folded: Histogram, percentile: float) -> tuple[float, float, float]:
    """Return low, high and magnitude such that ``percentile`` per cent of all values, zeros included, lie inside.

    Asymmetric: half of the others is cut at either end of the two-sided distribution (as ONNX Runtime's
    PercentileCalibrater). Symmetric: they are the largest magnitudes (Wu et al., "Integer Quantization for Deep
    Learning Inference", arXiv 2004.09602, section 3.3).
    """
    cut = (100.0 - percentile) / 100.0
    total = histogram.total + histogram.zeros
    below = float(histogram.below(np.zeros(1))[0])
    low = _value_at(histogram, total * cut / 2, below)
    high = _value_at(histogram, total * (1 - cut / 2), below)
    return low, high, _value_at(folded, total * (1 - cut), 0.0)


def _value_at(histogram: Histogram, rank: float, below_zero: float) -> float:
    """Return the value with ``rank`` values below it; ``below_zero`` of the histogram's are negative."""
    if below_zero < rank <= below_zero + histogram.zeros:
        return 0.0
    if rank > below_zero:
        rank -= histogram.zeros
    sums = np.cumsum(histogram.counts)
    place = min(int(np.searchsorted(sums, rank)), len(sums) - 1)
    if histogram.exact[place]:
        return float(histogram.ends[place] if histogram.starts[place] > 0 else histogram.starts[place])
    inside = (rank - (sums[place] - histogram.counts[place])) / histogram.counts[place]
    start, end = histogram.starts[place], histogram.ends[place]
    return float(start + min(max(inside, 0.0), 1.0) * (end - start))


def mse_ends(histogram: Histogram, folded: Histogram, plain: TensorRange) -> tuple[float, float, float]:
    """Return the ends that minimise the expected squared error of 8-bit quantization, rounding and clipping together.

    See ``squared_errors``. Zeros are exact in either scheme and count for nothing.
    """
    magnitude = _best_magnitude(lambda ends: squared_errors(folded, -ends, ends, _SYMMETRIC_STEPS), plain.magnitude)
    low, high = _best_ends(squared_errors, histogram, plain, _STEPS)
    return low, high, magnitude


def entropy_ends(histogram: Histogram, folded: Histogram, plain: TensorRange) -> tuple[float, float, float]:
    """Return the ends that lose least information by the Kullback-Leibler divergence (Migacz 2017).

    See ``entropy_costs``. The symmetric range merges magnitudes into 128 levels, as in the paper; the asymmetric one
    merges the values themselves into 255. Exact zeros, which a rectifier makes by the million and every level set
    holds exactly, are left out, as TensorRT's calibrator leaves out its first bin.
    """
    magnitude = _best_magnitude(
        lambda ends: entropy_costs(folded, np.zeros_like(ends), ends, _MAGNITUDE_STEPS), plain.magnitude
    )
    low, high = _best_ends(entropy_costs, histogram, plain, _STEPS)
    return low, high, magnitude


def _best_magnitude(cost: Callable[[Array], Array], largest: float) -> float:
    """Return the end of least cost, tried coarsely from the largest downwards, then finely; ties go to the largest."""
    coarse = largest * _SHARES
    best = coarse[_first_least(cost(coarse))]
    fine = np.minimum(best * _FINE_SHARES, largest)[::-1]
    return float(fine[_first_least(cost(fine))])


def _first_least(costs: Array) -> int:
    """Return the place of the first cost that is the least but for rounding, which must not decide among equals."""
    least = costs.min()
    return int(np.argmax(costs <= least + _ROUNDING * (abs(least) + np.abs(costs).max())))


def _best_ends(costs: Costs, histogram: Histogram, plain: TensorRange, steps: int) -> tuple[float, float]:
    """Return the best [low, high], each end searched in turn while the other one stands."""
    low, high = plain.low, plain.high

    def of_highs(lowest: float, ends: Array) -> Array:
        return costs(histogram, np.full_like(ends, lowest), ends, steps)

    def of_lows(highest: float, ends: Array) -> Array:
        return costs(histogram, -ends, np.full_like(ends, highest), steps)

    for _ in range(_ROUNDS if low < 0.0 < high else 1):
        if high > 0.0:
            high = _best_magnitude(partial(of_highs, low), plain.high)
        if low < 0.0:
            low = -_best_magnitude(partial(of_lows, high), -plain.low)
    return low, high
