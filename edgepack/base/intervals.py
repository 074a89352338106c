"""95 % intervals of a proportion, of a mean, and of the difference of two proportions on the same samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.specs.types import Array

Z95 = 1.959963984540054  # standard normal quantile at 0.975


def paired_difference_ci95(first: Array, second: Array) -> tuple[float, float]:
    """Return the 95 % interval of mean(first) - mean(second) for two bool arrays [n] on the same samples.

    The adjusted Wald interval of Bonett and Price (2012), "Adjusted Wald Confidence Interval for a Difference of
    Binomial Proportions Based on Paired Data", J. Educ. Behav. Stat. 37(4): one is added to each kind of disagreement,
    so that no disagreement in a small sample is not mistaken for certainty.
    """
    n = len(first)
    only_first = (float((first & ~second).sum()) + 1) / (n + 2)
    only_second = (float((second & ~first).sum()) + 1) / (n + 2)
    centre = only_first - only_second
    half = Z95 * math.sqrt(max(only_first + only_second - centre**2, 0.0) / (n + 2))
    return max(centre - half, -1.0), min(centre + half, 1.0)


def proportion_ci95(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22)."""
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mean_ci95(values: Array) -> tuple[float, float] | None:
    """Return Student's 95 % interval of the mean of [n] values; None for fewer than two."""
    import numpy as np
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(values))
    return mean - half, mean + half
