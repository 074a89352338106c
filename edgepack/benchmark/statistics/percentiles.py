"""Percentiles, and how many queries a percentile needs before it may be printed. No sample is ever dropped."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.benchmark.statistics.bootstrap import between_launches, quantile_interval
from edgepack.specs.result import Percentile
from edgepack.specs.types import Array

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.99  # of LoadGen's early stopping
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_LARGEST_QUERIES = 1 << 62


def nearest_rank(ordered: Array, p: float) -> int:
    """Return the nearest-rank percentile of ascending values [n], n >= 1: the value at rank ceil(p/100 n), from 1."""
    return int(ordered[rank(len(ordered), p) - 1])


def rank(n: int, p: float) -> int:
    """Return the rank, from 1, of the nearest-rank percentile ``p`` (0..100) of ``n`` values.

    The product is taken in thousandths of a percent, so that 99.9 % of 1000 is rank 999 and not, by rounding, 1000.
    """
    thousandths = round(p * 1000)
    return min(max(-(-thousandths * n // 100_000), 1), n)


def binomial_tail(n: int, k: int, probability: float) -> float:
    """Return P(X <= k) for X of n independent events of this probability: an exact sum of k + 1 terms.

    It equals the regularized incomplete beta function I_(1-probability)(n - k, k + 1), DLMF 8.17.5.
    """
    if k >= n:
        return 1.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    log_n = math.lgamma(n + 1)
    terms = (
        math.exp(log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k + 1)
    )
    return math.fsum(terms)


@functools.lru_cache(maxsize=4096)
def queries_needed(p: float, over: int = 1, confidence: float = CONFIDENCE) -> int:
    """Return the fewest queries of which ``over`` may be slower than a bound for the bound to hold at percentile ``p``.

    LoadGen's early stopping (MLPerf inference rules, "Early stopping"; loadgen/early_stopping.cc): with n queries, at
    most ``over`` of them above the bound would have a probability of at most 1 - confidence if the true percentile
    were above it. With ``over`` = 1 this is the least number for an estimate at all: 64 for p90, 662 for p99.
    """
    slow = 1 - p / 100
    low, high = over + 1, over + 2
    while binomial_tail(high, over, slow) > 1 - confidence:
        low, high = high, high * 2
        if high > _LARGEST_QUERIES:
            raise ValueError(f"no number of queries supports the percentile {p}")
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, over, slow) > 1 - confidence:
            low = middle + 1
        else:
            high = middle
    return low


def allowed_over(n: int, p: float, confidence: float = CONFIDENCE) -> int:
    """Return how many of ``n`` queries may be above a bound for it to hold at percentile ``p``; 0 when none may."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if middle < n and binomial_tail(n, middle, 1 - p / 100) <= 1 - confidence:
            low = middle
        else:
            high = middle - 1
    return low


def percentile(latencies: Array, p: float, seed: int, lengths: Sequence[int] = ()) -> Percentile:
    """Return the percentile ``p`` of latencies in ns [n], in the order in which they were measured.

    ``lengths`` are the numbers of latencies of each launch, in order; with two and more launches the interval also
    holds what differs from launch to launch. The value is None below the number of queries that LoadGen's rule asks
    for; the interval is None where the latencies depend on one another so much that they are worth fewer than half as
    many independent ones.
    """
    needed = queries_needed(p)
    n = len(latencies)
    if n < needed:
        return Percentile(p, None, None, needed)
    value = nearest_rank(np.sort(latencies), p)
    interval = quantile_interval(latencies, rank(n, p), seed)
    if interval is None or interval.effective < needed / 2:
        return Percentile(p, value, None, needed)
    low, high = interval.ends
    if len(lengths) > 1:
        half = between_launches([nearest_rank(np.sort(part), p) for part in split(latencies, lengths)])
        low, high = min(low, value - half), max(high, value + half)
    return Percentile(p, value, (max(math.floor(low), 0), math.ceil(high)), needed)


def split(latencies: Array, lengths: Sequence[int]) -> list[Array]:
    """Return the latencies of each launch."""
    return np.split(latencies, np.cumsum(lengths)[:-1])


def percentiles(
    latencies: Array, seed: int, lengths: Sequence[int] = (), which: Sequence[float] = PERCENTILES
) -> tuple[Percentile, ...]:
    """Return the percentiles of latencies in ns [n], in the order in which they were measured, launch by launch."""
    return tuple(percentile(latencies, p, seed, lengths) for p in which)


def coefficient_of_variation(values: Array) -> float | None:
    """Return standard deviation / mean of values [n]; None for fewer than two or a mean of zero."""
    if len(values) < 2 or float(np.mean(values)) == 0:
        return None
    return float(np.std(values, ddof=1) / np.mean(values))


def distribution(latencies: Array, points: int = 101) -> tuple[int, ...]:
    """Return evenly spaced order statistics, from the smallest to the largest, of latencies in ns [n]; () for n = 0."""
    if len(latencies) == 0:
        return ()
    ordered = np.sort(latencies)
    places = np.rint(np.linspace(0, len(ordered) - 1, min(points, len(ordered)))).astype(int)
    return tuple(int(v) for v in ordered[places])
