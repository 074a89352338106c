"""A metric of two models on the same samples: both figures, and the interval of their paired difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepack.specs.run import Accuracy

if TYPE_CHECKING:
    from edgepack.specs.types import Array

RESAMPLES = 400
_LEAST_RESAMPLES = 100
_MOST_WORK = 80_000_000  # values that are looked at for one interval

Statistic = Callable[["Array"], float]


def paired_accuracy(
    metric: str, n: int, fp32: Statistic, other: Statistic, seed: int, *, less: bool = False, width: int = 1
) -> Accuracy | str:
    """Return a metric's figures of both models, which ``fp32`` and ``other`` compute of the samples [k] they are given.

    ``less``: a smaller figure is a better one, and the drop is how much larger it became. The interval is the 2.5 and
    97.5 percentile of paired resamples of the samples (Efron and Tibshirani 1993, chapter 13), 400 of them unless
    ``width`` values a sample make that long; a resample for which there is no figure (nan) is left out. Returns a text
    that says so where there is no figure.
    """
    import numpy as np

    whole = np.arange(n)
    first, second = fp32(whole), other(whole)
    if not math.isfinite(first) or not math.isfinite(second):
        who = "the fp32 model" if not math.isfinite(first) else "this model"
        return f"{metric} has no value for the outputs of {who}: they hold NaN or infinity, or the labels are all alike"
    generator = np.random.default_rng(seed)
    count = max(_LEAST_RESAMPLES, min(RESAMPLES, _MOST_WORK // max(1, n * width)))
    differences = []
    for _ in range(count):
        chosen = generator.integers(0, n, n)
        one, two = fp32(chosen), other(chosen)
        differences.append(two - one if less else one - two)
    kept = [value for value in differences if math.isfinite(value)]
    drop = second - first if less else first - second
    low, high = np.percentile(kept, [2.5, 97.5]) if kept else (drop, drop)
    return Accuracy(metric, n, first, second, drop, (float(low), float(high)))
