"""Ratios of figures that were measured apart from each other, with an interval from theirs."""

from __future__ import annotations

import math

from edgepack.specs.result import Percentile


def unpaired_ratio(numerator: Percentile, denominator: Percentile) -> tuple[float, tuple[float, float] | None]:
    """Return the ratio of two percentiles and its 95 % interval; None where either has none.

    Both are taken as log-normal and independent: half-widths of their logarithms add by squares (the delta method).
    What slowed only one of the two runs is in the ratio; a paired comparison would cancel it.
    """
    assert numerator.value_ns is not None
    assert denominator.value_ns is not None
    value = max(numerator.value_ns, 1) / max(denominator.value_ns, 1)
    if numerator.ci95_ns is None or denominator.ci95_ns is None:
        return value, None
    low = math.hypot(_down(numerator), _up(denominator))
    high = math.hypot(_up(numerator), _down(denominator))
    return value, (value * math.exp(-low), value * math.exp(high))


def _down(found: Percentile) -> float:
    assert found.ci95_ns is not None
    return math.log(max(found.value_ns or 1, 1) / max(found.ci95_ns[0], 1))


def _up(found: Percentile) -> float:
    assert found.ci95_ns is not None
    return math.log(max(found.ci95_ns[1], 1) / max(found.value_ns or 1, 1))
