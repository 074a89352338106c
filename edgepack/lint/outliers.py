"""Checks for samples whose values are far larger than all others': one is enough to spoil ranges made of extremes."""

from __future__ import annotations

import numpy as np

from edgepack.lint import Found, Inspected
from edgepack.specs.data import Finding

# Samples of one kind of data hardly differ by this; a unit that was forgotten, or a broken sensor, does.
_TIMES = 20.0
_SHOWN = 3
_FEWEST = 4


def check(inspected: Inspected) -> Found:
    """Return a warning that names the samples whose largest magnitude is 20 times the median of all samples'."""
    survey = inspected.calibration.survey
    found = []
    for name, peaks in survey.peaks.items():
        usual = float(np.median(peaks)) if len(peaks) >= _FEWEST else 0.0
        far = [int(place) for place in np.argsort(-peaks, kind="stable") if peaks[place] > _TIMES * usual > 0]
        if not far or len(far) > len(peaks) // 4:
            continue
        shown = ", ".join(f"{survey.names[survey.read[place]]} ({peaks[place]:.3g})" for place in far[:_SHOWN])
        more = ", ..." if len(far) > _SHOWN else ""
        text = (
            f"{len(far)} of {len(peaks)} samples hold values of {name!r} more than {_TIMES:g} times as large as usual "
            f"({usual:.3g}): {shown}{more}"
        )
        hint = "remove them, or scale them like the others; until then --observer auto or entropy, not minmax"
        found.append(Finding("outliers", "warning", text, hint))
    return Found(tuple(found))
