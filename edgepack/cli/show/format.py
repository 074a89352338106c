"""Quantities as people read them."""

from __future__ import annotations


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
    """Return a shape as ``[N, 3, 224, 224]``."""
    return "[" + ", ".join(str(d) for d in dims) + "]"
