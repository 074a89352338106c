"""What quantizing a distribution to a range costs: expected squared error, and Kullback-Leibler divergence.

Both are computed for many candidate ranges at once from cumulative sums over the histogram, so that a candidate costs
a few hundred look-ups however many bins there are.
"""

from __future__ import annotations

import numpy as np

from edgepack.calibrate.histogram import Histogram
from edgepack.specs.types import Array


def squared_errors(histogram: Histogram, lows: Array, highs: Array, steps: int) -> Array:
    """Return the sum of squared errors of quantizing to the ``steps`` + 1 levels of each range [low, high].

    The levels are those of the affine scheme (Jacob et al., arXiv 1712.05877, equation 1): scale
    ``d = (high - low) / steps``, zero point ``z = round(-low / d)``, level k at ``(k - z) d``. A value x goes to the
    nearest level q, or to the first or last one when it is beyond; the error is ``sum of (x - q)^2`` =
    ``M2 - 2 q M1 + q^2 M0`` with the moments of the values nearest to q. Within a bin values are taken as uniform.
    ``lows`` and ``highs`` are [candidates]; so is the result.
    """
    scales = (highs - lows) / steps
    zero_points = np.round(-lows / scales)
    levels = (np.arange(steps + 1)[None, :] - zero_points[:, None]) * scales[:, None]
    middles = levels[:, 1:] - scales[:, None] / 2
    moments = []
    for below, total in zip(histogram.moments(middles), _totals(histogram), strict=True):
        ends = np.full((len(levels), 1), total)
        moments.append(np.diff(np.concatenate([np.zeros_like(ends), below, ends], axis=1), axis=1))
    zeroth, first, second = moments
    result: Array = np.maximum(second - 2 * levels * first + levels**2 * zeroth, 0.0).sum(axis=1)
    return result


def entropy_costs(histogram: Histogram, lows: Array, highs: Array, steps: int) -> Array:
    """Return the Kullback-Leibler divergence of each range's quantized distribution Q from the original P.

    After Migacz, "8-bit Inference with TensorRT" (GTC 2017): P is the distribution clipped to the range, so that what
    is beyond an end piles up at it; Q spreads the unclipped values of each of the ``steps`` levels evenly over the
    part of the level where there are values. With densities f of the N values, mass S and support W of a level, and
    n = sum of S, the divergence of the inside is
    ``(integral of f log f - sum of S log(S / W)) / N + n / N log(n / N)``, from cumulative sums; ``_pile_up`` adds
    what is clipped, over the whole last level: putting it into a half, a quarter or an eighth of it moved the ranges
    of eight usual distributions by less than 13 %. A bin that holds one value only, at an end of the values, is exact
    in every range that holds it, as zero is, and lost in every other one.

    ``lows`` and ``highs`` are [candidates]; so is the result, infinite where less than a sixteenth of the values is
    inside: what is clipped piles up at one place in P and in Q, so that a range around a single value would cost
    nothing (Migacz does not come to such ranges, as he begins at a sixteenth of the extreme).
    """
    edges = lows[:, None] + (highs - lows)[:, None] / steps * np.arange(steps + 1)[None, :]
    masses, widths, logs = histogram.supports(edges)
    mass, support = np.maximum(np.diff(masses, axis=1), 0.0), np.diff(widths, axis=1)
    total, below_low, below_high = histogram.total, histogram.below(lows), histogram.below(highs)
    inside = below_high - below_low
    merged = (mass * _log_ratio(mass, support)).sum(axis=1)
    result = (logs[:, -1] - logs[:, 0] - merged) / total
    result += inside / total * _log_ratio(inside, np.full_like(inside, total))
    result += _pile_up(mass[:, 0], below_low, inside, total)
    result += _pile_up(mass[:, -1], total - below_high, inside, total)
    return np.where(inside >= total / 16, result, np.inf)


def _pile_up(mass: Array, clipped: Array, inside: Array, total: float) -> Array:
    """Return what the divergence grows by when ``clipped`` values join the ``mass`` of the first or last level.

    There P has the share p and then p + c, and Q, which does not know of the clipped values, has q in both cases: the
    difference is ``(p + c) log((p + c) / q) - p log(p / q)``. A level without values counts as one with a single value,
    since no divergence exists against a Q of zero (Migacz leaves that choice open).
    """
    held = np.maximum(mass, 1.0)
    expected = held / np.maximum(inside, 1.0)
    before, after = held / total, (held + clipped) / total
    growth: Array = after * np.log(after / expected) - before * np.log(before / expected)
    return np.where(clipped > 0, growth, 0.0)


def _totals(histogram: Histogram) -> tuple[float, float, float]:
    zeroth, first, second = histogram.moments(histogram.ends[-1:])
    return float(zeroth[0]), float(first[0]), float(second[0])


def _log_ratio(upper: Array, lower: Array) -> Array:
    """Return log(upper / lower), 0 where either is not positive (0 log 0 is 0)."""
    usable = (upper > 0) & (lower > 0)
    return np.where(usable, np.log(np.where(usable, upper, 1.0) / np.where(usable, lower, 1.0)), 0.0)
