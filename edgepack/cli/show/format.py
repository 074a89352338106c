"""Quantities as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgepack.base.shapes import show_shape

Units = tuple[tuple[str, float], ...]
TIMES: Units = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
SIZES: Units = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9))


def size(value: int | None) -> str:
    """Return bytes as kB, MB or GB (powers of 1000, as disks and networks count)."""
    if value is None:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} B"


def time_ns(value: float | None) -> str:
    """Return nanoseconds as µs, ms or s with three digits."""
    if value is None:
        return "-"
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 1000 * factor else f"{value / factor:.0f} {unit}"
    return f"{value:.0f} ns"


def interval_ns(value: float, ends: tuple[float, float]) -> str:
    """Return an interval in the unit that ``time_ns`` gives its ``value``, without the unit."""
    factor = next((factor for factor in (1e9, 1e6, 1e3) if value >= factor), 1.0)
    return "..".join(f"{end / factor:.3g}" for end in ends)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as per cent."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """Return a difference of fractions as percentage points, with its sign."""
    return "-" if value is None else f"{100 * value:+.2f}"


def decibel(value: float | None) -> str:
    """Return dB with one digit."""
    return "-" if value is None else f"{value:.1f} dB"


def shape(dims: tuple[int | str, ...]) -> str:
    """Return a shape as ``[N, 3, 224, 224]``, and ``any`` where the name of a free size tells nothing."""
    return show_shape(dims)


def column(values: Sequence[float | None], units: Units) -> tuple[str, tuple[str, ...]]:
    """Return the unit that suits all values of a column, and each in it; a dash, and no unit, where there is none."""
    if all(value is None for value in values):
        return "", ("-",) * len(values)
    unit, factor = unit_for(values, units)
    return unit, tuple("-" if value is None else digits(value / factor) for value in values)


def unit_for(values: Sequence[float | None], units: Units) -> tuple[str, float]:
    """Return the largest unit, with its factor, in which the geometric mean of the values is at least 1."""
    known = [math.log(abs(value)) for value in values if value]
    middle = math.exp(sum(known) / len(known)) if known else 0.0
    return next(((name, factor) for name, factor in reversed(units) if factor <= middle), units[0])


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent; large ones keep their whole digits."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    return f"{value:.{min(9, max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12)))}f}"


def stored(count: int) -> str:
    """Return how many outputs of stages: '1 output of a stage'."""
    return "1 output of a stage" if count == 1 else f"{count} outputs of stages"
