"""Metrics per sample and their 95 % intervals; always paired with the fp32 model on the same samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.specs import Array

_Z95 = 1.959963984540054  # standard normal quantile at 0.975
_RESAMPLES = 2000


def top_k_correct(scores: Array, labels: Array, k: int) -> Array:
    """Return for each sample whether its label is among the k highest scores.

    ``scores`` is [n, classes], ``labels`` [n] of integers; the result is bool [n]. Of equal scores the lower class
    counts as higher, so that a constant output is not called right. A sample with a NaN score is wrong.
    """
    import numpy as np

    of_label = np.take_along_axis(scores, labels.astype(np.int64)[:, None], axis=1)
    position = np.arange(scores.shape[1])[None, :]
    before = (scores > of_label) | ((scores == of_label) & (position < labels[:, None]))
    result: Array = (before.sum(axis=1) < k) & np.isfinite(scores).all(axis=1)
    return result


def agreement(reference: Array, scores: Array) -> Array:
    """Return for each sample whether both score vectors [n, classes] have the same highest class; bool [n]."""
    import numpy as np

    result: Array = (reference.argmax(axis=1) == scores.argmax(axis=1)) & np.isfinite(scores).all(axis=1)
    return result


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
    half = _Z95 * math.sqrt(max(only_first + only_second - centre**2, 0.0) / (n + 2))
    return max(centre - half, -1.0), min(centre + half, 1.0)


def proportion_ci95(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22)."""
    p, z2 = successes / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
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


def sqnr_db(signal: Array, noise: Array) -> float | None:
    """Return 10 log10(sum(signal) / sum(noise)) of per-sample energies [n]; None when there is no noise at all.

    The figure is kept within -200 and 200 dB: beyond, one of the two is zero but for rounding.
    """
    total_signal, total_noise = float(signal.sum()), float(noise.sum())
    if total_noise == 0:
        return None
    ratio = min(max(total_signal / total_noise, 1e-20), 1e20)
    return 10 * math.log10(ratio)


def sqnr_ci95_db(signal: Array, noise: Array, seed: int) -> tuple[float, float] | None:
    """Return the 95 % percentile-bootstrap interval of the SQNR over samples; None where it is not finite."""
    import numpy as np

    n = len(signal)
    if n < 2 or float(noise.sum()) == 0:
        return None
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = 10 * np.log10((counts @ signal) / (counts @ noise))
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
