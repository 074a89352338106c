"""What is accumulated of each tensor: extremes, and counts for the observers that look at the distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgepack.calibrate.histogram import CODES, Counts, clip_counts, count_codes
from edgepack.specs.calibration import Derivation
from edgepack.specs.types import Array


@dataclass
class Statistics:
    """The extremes of one tensor, and its counts when a histogram is wanted. Empty: minimum inf, maximum -inf.

    Nothing depends on the order in which samples are added: minima, maxima and whole numbers do not.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    counts: Counts | None = field(default=None)

    @property
    def is_usable(self) -> bool:
        """Whether there are values, and all of them are finite."""
        return -math.inf < self.minimum <= self.maximum < math.inf

    def add(self, extremes: Extremes) -> None:
        """Take in one sample's extremes and counts."""
        self.minimum = min(self.minimum, extremes.minimum)
        self.maximum = max(self.maximum, extremes.maximum)
        if self.counts is not None and extremes.counted is not None:
            self.counts.add(extremes.counted)


@dataclass(frozen=True)
class Extremes:
    """One sample's extremes of one tensor, and its counts by code, int64 [CODES], or None."""

    minimum: float
    maximum: float
    counted: Array | None = None

    @property
    def finite(self) -> bool:
        """Whether no value is NaN or infinite; true for an empty tensor."""
        empty = self.minimum == math.inf and self.maximum == -math.inf
        return empty or (math.isfinite(self.minimum) and math.isfinite(self.maximum))


def extremes_of(array: Array, histogram: bool) -> Extremes:
    """Return the extremes, and the counts when asked, of a float32 array of any shape; NaN gives NaN extremes."""
    if array.size == 0:
        return Extremes(math.inf, -math.inf)
    # + 0.0 turns -0.0 into 0.0: which of the two is the least depends on which comes first.
    minimum, maximum = float(array.min()) + 0.0, float(array.max()) + 0.0
    found = Extremes(minimum, maximum)
    return Extremes(minimum, maximum, count_codes(array)) if histogram and found.finite else found


def derive(derivation: Derivation, sources: list[Statistics]) -> Statistics:
    """Return the statistics of a tensor that holds its sources' values, clipped."""
    filled = [source for source in sources if source.minimum <= source.maximum]
    result = Statistics(counts=Counts() if sources[0].counts is not None else None)
    if not filled:
        return result
    low = -math.inf if derivation.low is None else float(np.float32(derivation.low))
    high = math.inf if derivation.high is None else float(np.float32(derivation.high))
    result.minimum = _clip(min(source.minimum for source in filled), low, high) + 0.0
    result.maximum = _clip(max(source.maximum for source in filled), low, high) + 0.0
    if result.counts is not None:
        counted = np.zeros(CODES, dtype=np.int64)
        for source in filled:
            if source.counts is not None:
                counted += source.counts.table()
        result.counts.add(clip_counts(counted, low, high))
    return result


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
