"""Searches the ends of a range for the least cost, coarsely and then finely."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from edgepack.calibrate.histogram import Histogram
from edgepack.specs.data import TensorRange
from edgepack.specs.types import Array

# The cost of ranges [lows, highs], one number each; the last argument is the number of steps in a range.
Costs: TypeAlias = Callable[[Histogram, Array, Array, int], Array]

# Levels of 8 bits: 256 asymmetric; symmetric ones -127..127, as every engine in FACTS scales by magnitude / 127.
STEPS, SYMMETRIC_STEPS = 255, 254

# Shares of an extreme that are tried as the end of a range: 6 for each halving, and then finer around the best one.
_SHARES = 2.0 ** -(np.arange(49) / 6.0)
_FINE_SHARES = 2.0 ** (np.arange(-5, 6) / 36.0)
_ROUNDS = 2
_ROUNDING = 1e-12


def best_magnitude(cost: Callable[[Array], Array], largest: float) -> float:
    """Return the end of least cost, tried coarsely from the largest downwards, then finely; ties go to the largest."""
    coarse = largest * _SHARES
    best = coarse[_first_least(cost(coarse))]
    fine = np.minimum(best * _FINE_SHARES, largest)[::-1]
    return float(fine[_first_least(cost(fine))])


def _first_least(costs: Array) -> int:
    """Return the place of the first cost that is the least but for rounding, which must not decide among equals."""
    least = costs.min()
    return int(np.argmax(costs <= least + _ROUNDING * (abs(least) + np.abs(costs).max())))


def best_ends(costs: Costs, histogram: Histogram, plain: TensorRange, steps: int) -> tuple[float, float]:
    """Return the best [low, high], each end searched in turn while the other one stands."""
    low, high = plain.low, plain.high

    def of_highs(lowest: float, ends: Array) -> Array:
        return costs(histogram, np.full_like(ends, lowest), ends, steps)

    def of_lows(highest: float, ends: Array) -> Array:
        return costs(histogram, -ends, np.full_like(ends, highest), steps)

    for _ in range(_ROUNDS if low < 0.0 < high else 1):
        if high > 0.0:
            high = best_magnitude(partial(of_highs, low), plain.high)
        if low < 0.0:
            low = -best_magnitude(partial(of_lows, high), -plain.low)
    return low, high
