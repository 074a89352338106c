"""Intervals of metrics that are not means over samples: both models on the same resampled samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.specs.types import Array

RESAMPLES = 400


def paired_interval(
    first: Callable[[Array], float], second: Callable[[Array], float], n: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of ``first - second`` over ``n`` samples.

    Both are given how often each sample was drawn, float64 [n], and are measured on the same draws (Efron and
    Tibshirani 1993, chapter 13). A draw on which one of them is not defined (NaN) does not count.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    differences = np.array([first(weights) - second(weights) for weights in counts])
    known = differences[np.isfinite(differences)]
    if not len(known):
        return 0.0, 0.0
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
