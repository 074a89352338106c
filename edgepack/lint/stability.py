"""Checks whether there are enough samples for the observer: the ranges of two halves must agree."""

from __future__ import annotations

import numpy as np

from edgepack.calibrate import calibrate
from edgepack.calibrate.observers import OBSERVERS
from edgepack.data.samples import split_samples, take_samples
from edgepack.lint import Found, Inspected
from edgepack.specs.data import Finding, Ranges, SampleSet

# Disagreement of halves in the median tensor, relative to the range; 7.5 % more range is 0.6 dB more rounding noise.
# Measured on EfficientNet-Lite0, minmax and mse: 4 samples 0.09, 8 0.06, 32 0.04, 128 0.04 and 0.015; on ResNet20:
# 4 samples 0.13 and 0.11, 64 0.09 and 0.065, 256 0.07 and 0.036.
_UNSTEADY, _VERY_UNSTEADY = 0.075, 0.15
_FEW = 8
# Halves of so many samples are compared first; if they disagree, halves of up to so many.
ROUNDS = (64, 256)


def check(inspected: Inspected) -> Found:
    """Return how far the ranges of two random halves differ, as a note, or a warning when that is much.

    With more samples than the last of ``ROUNDS`` there is no warning: halves of some of them are less steady than all.
    """
    samples, observer = inspected.calibration.samples, _simplest(inspected.observer)
    count = len(samples.indices)
    if count < _FEW:
        text = f"there are only {count} calibration samples" if count > 1 else "there is only one calibration sample"
        return Found((Finding("samples", "warning", text, "give at least 50"),))
    runs = 0
    for most in ROUNDS:
        taken = min(count, most)
        halves = split_samples(take_samples(samples, taken, seed=0), taken // 2, seed=0)
        first, second = (_ranges(inspected, half) for half in halves)
        runs += taken
        differences = range_differences(first, second)
        if not len(differences):
            return Found((), runs)
        median, worst = float(np.median(differences)), float(np.percentile(differences, 90))
        if median < _UNSTEADY or taken == count:
            break
    text = (
        f"the {observer} ranges of two halves of {taken} calibration samples differ by {median:.1%} in the median "
        f"tensor, {worst:.1%} in the worst tenth"
    )
    if median < _UNSTEADY or taken < count:
        return Found((Finding("samples", "note", text),), runs)
    factor = 4 if median >= _VERY_UNSTEADY else 2
    by_extremes = not OBSERVERS.get(observer).needs_counts
    steadier = " or an observer that ignores single extremes, such as mse" if by_extremes else ""
    hint = f"give about {factor * count} samples to calibrate with{steadier}"
    return Found((Finding("samples", "warning", f"too few samples: {text}", hint),), runs)


def _simplest(observer: str) -> str:
    """Return what an observer that chooses among others begins with: trying them on the layers would cost too much."""
    return next(iter(OBSERVERS.get(observer).among), observer)


def _ranges(inspected: Inspected, samples: SampleSet) -> Ranges:
    observer, percentile = _simplest(inspected.observer), inspected.percentile
    return calibrate(inspected.model, samples, observer, percentile, inspected.scratch, inspected.progress)


def range_differences(first: Ranges, second: Ranges) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return for each tensor of both how far its range's ends lie apart, relative to the width of both together."""
    found = []
    for name in sorted(first.tensors.keys() & second.tensors.keys()):
        one, other = first.tensors[name], second.tensors[name]
        width = max(one.high, other.high) - min(one.low, other.low)
        if width > 0:
            found.append((abs(one.high - other.high) + abs(one.low - other.low)) / width)
    return np.array(found, dtype=np.float64)
