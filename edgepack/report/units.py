"""Quantities as people read them: the only place of the report where units are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.verify.metrics import METRICS, has_own_unit

if TYPE_CHECKING:
    from edgepack.specs.run import Accuracy

NONE = "–"  # noqa: RUF001
_MINUS = "−"  # noqa: RUF001  the minus sign, as wide as a digit


@dataclass(frozen=True)
class Scale:
    """A unit for a whole column, so that its figures can be compared at a glance."""

    unit: str
    factor: float

    def show(self, value: float | None) -> str:
        """Return the value in this unit with three digits, without the unit."""
        return NONE if value is None else digits(value / self.factor)

    def interval(self, ends: tuple[float, float] | None) -> str:
        """Return both ends in this unit."""
        return "" if ends is None else between(digits(ends[0] / self.factor), digits(ends[1] / self.factor))


TIMES = (Scale("ns", 1), Scale("µs", 1e3), Scale("ms", 1e6), Scale("s", 1e9))
SIZES = (Scale("B", 1), Scale("kB", 1e3), Scale("MB", 1e6), Scale("GB", 1e9))
ENERGIES = (Scale("µJ", 1), Scale("mJ", 1e3), Scale("J", 1e6))


def scale_for(values: Iterable[float | None], scales: tuple[Scale, ...]) -> Scale:
    """Return the largest unit in which the geometric mean of the values is at least 1."""
    known = [abs(v) for v in values if v]
    if not known:
        return scales[-2] if len(scales) > 2 else scales[0]
    # Of one value the logarithm is not taken: it would round 1000 ns to below 1 µs, and takes most of the time.
    middle = known[0] if len(known) == 1 else math.exp(sum(map(math.log, known)) / len(known))
    return next((scale for scale in reversed(scales) if scale.factor <= middle), scales[0])


def digits(value: float, count: int = 3) -> str:
    """Return a number with so many significant digits and no exponent; large ones keep their whole digits."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    decimals = max(0, count - 1 - math.floor(math.log10(abs(value)) + 1e-12))
    if decimals > 9:
        return f"{value:.{count}g}"
    return f"{value:.{decimals}f}".replace("-", _MINUS)


def between(low: str, high: str) -> str:
    """Return an interval: with a dash, or with a word where a minus sign would be read as one."""
    return f"{low} to {high}" if _MINUS in low + high else f"{low}–{high}"  # noqa: RUF001


def quantity(value: float | None, scales: tuple[Scale, ...]) -> str:
    """Return one value with the unit that suits it."""
    if value is None:
        return NONE
    scale = scale_for([value], scales)
    return f"{scale.show(value)} {scale.unit}"


def short(value: float) -> str:
    """Return a large round number with the letter of its power: 20G."""
    for letter, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def count(value: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction as per cent, without the sign of it."""
    return NONE if fraction is None else f"{100 * fraction:.{decimals}f}".replace("-", _MINUS)


def signed(value: float | None, decimals: int = 2) -> str:
    """Return a number with its sign; what rounds to zero has none."""
    if value is None:
        return NONE
    text = f"{value:+.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", _MINUS)


def ratio(value: float | None) -> str:
    """Return a ratio with the sign of multiplication behind it."""
    return NONE if value is None else f"{digits(value)}×"  # noqa: RUF001


def threads(number: int | None) -> str:
    """Return a number of threads in words."""
    if number is None:
        return "default threads"
    return f"{number} thread{'' if number == 1 else 's'}"


def is_fraction(metric: str) -> bool:
    """Say whether a metric is a fraction that is read as per cent."""
    found = METRICS.find(metric)
    return found is not None and found.unit == "%"


def drop(value: float, metric: str) -> str:
    """Return a drop with its sign: in points of a fraction, else in the metric's own unit with three digits."""
    if is_fraction(metric) or not has_own_unit(metric):
        return signed(value * (100 if is_fraction(metric) else 1))
    return "0" if value == 0 else f"{'+' if value > 0 else _MINUS}{digits(abs(value))}"


def less_is_better(metric: str) -> bool:
    """Say whether a smaller figure of a metric is a better one."""
    found = METRICS.find(metric)
    return found is not None and found.less_is_better


def metric_title(metric: str) -> str:
    """Return a metric's name in words; a user's ``module:function`` is its own name."""
    found = METRICS.find(metric)
    return (found.title if found is not None else "") or metric


def accuracy_title(found: Accuracy) -> str:
    """Return in words what was measured: a metric, or agreement by it where fp32's own answers are taken for right."""
    title = metric_title(found.metric)
    return title if found.truth == "labels" else f"agreement with fp32 by {title}"


def accuracy_heading(found: Accuracy) -> str:
    """Return ``accuracy_title`` as a heading begins; a name written in its own way, as mAP or a function, stays so."""
    title = accuracy_title(found)
    own = title == found.metric or any(letter.isupper() for letter in title.split(" ")[0])
    return title if own else title[:1].upper() + title[1:]


def duration(nanoseconds: int) -> str:
    """Return a duration as the command line takes it: ``10s``, ``500ms``."""
    for unit, factor in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if nanoseconds % factor == 0:
            return f"{nanoseconds // factor}{unit}"
    return f"{nanoseconds}ns"
