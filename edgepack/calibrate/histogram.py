"""Counts the values of a tensor by their leading 16 bits, and reads distributions from such counts.

The code of a value is the upper half of its float32 bits: sign, exponent and 7 bits of mantissa, in other words its
bfloat16 truncated towards zero. There are 65536 codes whatever the range is, so one pass over the samples is enough,
no range must be known before, no value falls outside, and the counts do not depend on the samples' order. A code's
width is between 1/256 and 1/128 of its value: as fine at the end of the range as a linear histogram of 256 bins, and
ever finer towards zero, where most values are. Exact zeros have a code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from edgepack.specs.types import Array

CODES = 1 << 16
_NEGATIVE = 1 << 15  # the sign bit of a code
_INFINITE = 0x7F80  # the code of infinity; above it are NaNs
PAGE = 512  # codes that are kept together, four powers of two: a tensor has values in a few such pages only
_EXACT_WIDTH = 2.0**-20  # the width, relative to its value, of a bin that holds one value only
_CHUNK = 1 << 20  # values counted at once, because numpy counts 8-byte copies of them


class Counts:
    """The counts of one tensor by code; only pages with a value in them take memory (4 KiB each)."""

    def __init__(self) -> None:
        self.pages: dict[int, Array] = {}

    def add(self, counted: Array) -> None:
        """Add counts by code, int64 [CODES]."""
        table = counted.reshape(-1, PAGE)
        for page in np.flatnonzero(table.any(axis=1)):
            known = self.pages.get(int(page))
            if known is None:
                self.pages[int(page)] = table[page].copy()
            else:
                known += table[page]

    def table(self) -> Array:
        """Return all counts, int64 [CODES]."""
        result = np.zeros((CODES // PAGE, PAGE), dtype=np.int64)
        for page, counted in self.pages.items():
            result[page] = counted
        return result.reshape(-1)


@cache
def finite_codes() -> Array:
    """Return which codes are those of finite values, bool [CODES]."""
    return np.asarray((np.arange(CODES) & (_NEGATIVE - 1)) < _INFINITE)


def count_codes(values: Array) -> Array:
    """Return how often each code occurs in a float32 array of any shape, int64 [CODES]."""
    halves = np.ascontiguousarray(values, dtype="<f4").reshape(-1).view("<u2")[1::2]
    if halves.size <= _CHUNK:
        whole: Array = np.asarray(np.bincount(halves, minlength=CODES))
        return whole
    counted: Array = np.zeros(CODES, dtype=np.int64)
    for start in range(0, halves.size, _CHUNK):
        counted += np.bincount(halves[start : start + _CHUNK], minlength=CODES)
    return counted


def within(counts: Counts, minimum: float, maximum: float) -> bool:
    """Say whether all values that were counted may lie between these two, which are finite."""
    if not counts.pages:
        return True
    pages, places = np.nonzero(np.stack([*counts.pages.values()]))
    found = _places(np.array([*counts.pages])[pages] * PAGE + places)
    low, high = _places((np.array([minimum, maximum], dtype="<f4").view("<u4") >> 16).astype(np.int64))
    return bool(((found >= low) & (found <= high)).all())


def _places(codes: Array) -> Array:
    """Return numbers that rise with the values of codes; both zeros have 0."""
    return np.where(codes >= _NEGATIVE, _NEGATIVE - codes, codes)


def clip_counts(counted: Array, low: float, high: float) -> Array:
    """Return the counts of a tensor whose values are those of ``counted`` clipped to [low, high].

    Exact, because truncation keeps the order of values: a value beyond a bound has the bound's code afterwards, one
    within the bound's own code keeps it.
    """
    order = _ascending_codes()
    ranks = np.empty(CODES, dtype=np.int64)
    ranks[order] = np.arange(CODES)
    bounds = np.array([low, high], dtype="<f4")
    first, last = ranks[(bounds.view("<u4") >> 16).astype(np.int64)]
    clipped = order[np.clip(ranks, first, last)]
    result: Array = np.bincount(clipped, weights=counted, minlength=CODES).astype(np.int64)
    return result


def _ascending_codes() -> Array:
    """Return all codes by ascending value: the negative ones backwards, then the positive ones."""
    codes = np.arange(CODES)
    return np.concatenate([codes[_NEGATIVE:][::-1], codes[:_NEGATIVE]])


def fold_counts(counted: Array) -> Array:
    """Return the counts of the magnitudes |x|."""
    folded = counted.copy()
    folded[:_NEGATIVE] += folded[_NEGATIVE:]
    folded[_NEGATIVE:] = 0
    return folded


@dataclass(frozen=True)
class Histogram:
    """A distribution of values: bins with a value in them, ascending, each of uniform density, and the exact zeros.

    ``starts`` and ``ends`` are the bins' edges and ``counts`` their numbers of values, float64 [bins]. ``exact`` says
    of a bin that it holds one single value, as the last one of an activation clipped at 6; it is made just wide enough
    to have a density.
    """

    starts: Array
    ends: Array
    counts: Array
    exact: Array
    zeros: float

    @cached_property
    def total(self) -> float:
        """The number of values that are not exactly zero."""
        return float(self.counts.sum())

    def below(self, points: Array) -> Array:
        """Return the number of values below each point; zeros are not counted."""
        index, part = self._locate(points)
        result: Array = self._sums[0][index] + part * self._densities[index]
        return result

    def moments(self, points: Array) -> tuple[Array, Array, Array]:
        """Return the number, the sum and the sum of squares of the values below each point; zeros are not counted."""
        index, part = self._locate(points)
        start, density = self.starts[index], self._densities[index]
        inside = start + part
        zeroth, first, second = self._sums
        square, start_square = inside * inside, start * start
        return (
            zeroth[index] + density * part,
            first[index] + density * (square - start_square) / 2,
            second[index] + density * (square * inside - start_square * start) / 3,
        )

    def supports(self, points: Array) -> tuple[Array, Array, Array]:
        """Return the number of values, the joint width of bins and the integral of f log f below each point.

        f is the density, in values per unit. Exact bins, which have none, are left out of all three.
        """
        index, part = self._locate(points)
        part = np.where(self.exact[index], 0.0, part)
        counts, widths, logs = self._supports
        return (
            counts[index] + part * self._densities[index],
            widths[index] + part,
            logs[index] + part * self._entropies[index],
        )

    def _locate(self, points: Array) -> tuple[Array, Array]:
        """Return for each point the bin that it is in or after, and how far into the bin it is."""
        index = np.minimum(np.searchsorted(self.ends, points, side="right"), len(self.ends) - 1)
        return index, np.clip(points, self.starts[index], self.ends[index]) - self.starts[index]

    @cached_property
    def _densities(self) -> Array:
        result: Array = self.counts / (self.ends - self.starts)
        return result

    @cached_property
    def _entropies(self) -> Array:
        return self._densities * np.log(self._densities)

    @cached_property
    def _sums(self) -> tuple[Array, Array, Array]:
        first = self._densities * (self.ends**2 - self.starts**2) / 2
        second = self._densities * (self.ends**3 - self.starts**3) / 3
        return _sums_before(self.counts), _sums_before(first), _sums_before(second)

    @cached_property
    def _supports(self) -> tuple[Array, Array, Array]:
        widths = np.where(self.exact, 0.0, self.ends - self.starts)
        counts = np.where(self.exact, 0.0, self.counts)
        return _sums_before(counts), _sums_before(widths), _sums_before(widths * self._entropies)


def to_histogram(counted: Array, minimum: float, maximum: float) -> Histogram:
    """Return the distribution behind counts by code, of values between ``minimum`` and ``maximum``.

    Both ends are known better than their codes tell, so the outer bins are cut there. Codes of infinite values and NaN
    must be empty.
    """
    codes = np.flatnonzero(counted)
    codes = codes[(codes & ~_NEGATIVE) != 0]
    magnitudes = codes & ~_NEGATIVE
    near, far = _values(magnitudes), _values(magnitudes + 1)
    negative = codes >= _NEGATIVE
    order = np.argsort(np.where(negative, -far, near), kind="stable")
    starts = np.clip(np.where(negative, -far, near)[order], minimum, maximum)
    ends = np.clip(np.where(negative, -near, far)[order], minimum, maximum)
    exact = ends <= starts
    width = np.maximum(np.abs(starts) * _EXACT_WIDTH, np.finfo(np.float64).tiny)
    starts = np.where(exact & (starts > 0), starts - width, starts)
    ends = np.where(exact & (starts < 0), ends + width, ends)
    zeros = float(counted[0] + counted[_NEGATIVE])
    return Histogram(starts, ends, counted[codes][order].astype(np.float64), exact, zeros)


def _values(codes: Array) -> Array:
    """Return the least magnitude that has each code, float64; the code of infinity gives the float32 limit's end."""
    limited = np.minimum(codes, _INFINITE).astype(np.uint32)
    values: Array = (limited << 16).view(np.float32).astype(np.float64)
    return np.where(np.isinf(values), 2.0**128, values)


def _sums_before(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(values)[:-1]]) if len(values) else values
