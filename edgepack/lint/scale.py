"""Compares the size of the values for calibration with that of those for evaluation."""

from __future__ import annotations

import numpy as np

from edgepack.lint import Found, Inspected
from edgepack.specs.data import Finding

# Far above what two samples of the same data differ by, far below 255.
_OTHER_SCALE = 20.0


def check(inspected: Inspected) -> Found:
    """Return a warning for an input whose values are of another size in the evaluation set: 0 to 255 and 0 to 1."""
    if inspected.evaluation is None:
        return Found()
    survey, evaluation = inspected.calibration.survey, inspected.evaluation.survey
    found = []
    others = {channels.name: channels for channels in evaluation.channels}
    for channels in survey.channels:
        other = others.get(channels.name)
        if other is None or not len(channels.minima) or not len(other.minima):
            continue
        sizes = [float(np.maximum(np.abs(c.minima), np.abs(c.maxima)).max()) for c in (channels, other)]
        if min(sizes) > 0 and max(sizes) >= _OTHER_SCALE * min(sizes):
            spans = [f"{c.minima.min():.3g} to {c.maxima.max():.3g}" for c in (channels, other)]
            text = f"{channels.name!r} spans {spans[0]} in the calibration set and {spans[1]} in the evaluation set"
            found.append(Finding("range", "warning", text, "scale both as in training"))
    return Found(tuple(found))
