"""Which of two is faster: the decision from paired measurements, without the processes that made them.

A *launch* is one pair of fresh processes; in it the two are measured in turn, in rounds. The ratio of a round cancels
what slows both; the spread between launches holds what differs from process to process (where memory came to lie, say),
so the interval is made of launches, not of rounds.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgepack.benchmark.statistics.bootstrap import student_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict: TypeAlias = Literal["faster", "slower", "same", "undecided"]

MARGIN = 0.01
# Two looks share an error of 5 % (Bonferroni), so that looking early cannot make the verdict wrong more often.
EARLY_ERROR, FINAL_ERROR = 0.01, 0.04
LEAST_LAUNCHES = 3


@dataclass(frozen=True)
class Decision:
    """``ratio`` is the time of the second over the time of the first; ``ci95`` covers it with at least 95 %.

    ``launches_needed`` estimates the launches after which a verdict would be reached; None once there is one.
    """

    verdict: Verdict
    ratio: float
    ci95: tuple[float, float]
    launches_needed: int | None


def launch_ratio(rounds: Sequence[tuple[float, float]]) -> float:
    """Return the log ratio, second over first, of one launch from its rounds of (first ns, second ns).

    Hodges and Lehmann (1963), "Estimates of Location Based on Rank Tests", Ann. Math. Stat. 34: the median of the means
    of all pairs of rounds. Disturbed rounds move it as little as the median of the rounds, of which it is as good as
    with half as many again where they are not disturbed.
    """
    ratios = np.log([second / first for first, second in rounds])
    one, other = np.triu_indices(len(ratios))
    return float(np.median((ratios[one] + ratios[other]) / 2))


def decide(launches: Sequence[float], error: float = FINAL_ERROR, margin: float = MARGIN) -> Decision | None:
    """Return the verdict over log ratios, one a launch; None for fewer than two.

    Student's interval of their mean at confidence 1 - ``error``. "same" when it lies within the margin, "faster" (the
    second takes less time) or "slower" when it excludes 1, else "undecided".
    """
    n = len(launches)
    if n < 2:
        return None
    mean = statistics.fmean(launches)
    z = statistics.NormalDist().inv_cdf(1 - error / 2)
    half = student_quantile(n - 1, z) * statistics.stdev(launches) / math.sqrt(n)
    low, high = mean - half, mean + half
    verdict = _verdict(low, high, math.log1p(margin), n)
    needed = None if verdict != "undecided" else _launches_needed(n, abs(mean), half, math.log1p(margin))
    return Decision(verdict, math.exp(mean), (_exp(low), _exp(high)), needed)


def _verdict(low: float, high: float, margin: float, n: int) -> Verdict:
    if n < LEAST_LAUNCHES:
        return "undecided"
    if -margin <= low and high <= margin:
        return "same"
    if high < 0:
        return "faster"
    return "slower" if low > 0 else "undecided"


def _launches_needed(n: int, distance: float, half: float, margin: float) -> int:
    """Return how many launches would decide if mean and spread stayed: the interval shrinks with their square root."""
    excludes_one = (half / distance) ** 2 if distance > 0 else math.inf
    within_margin = (half / (margin - distance)) ** 2 if distance < margin else math.inf
    factor = min(excludes_one, within_margin)
    return max(LEAST_LAUNCHES, n + 1, math.ceil(n * min(factor, 1e6)))


def _exp(value: float) -> float:
    return math.exp(min(max(value, -50.0), 50.0))
