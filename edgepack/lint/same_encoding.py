"""Compares how arrays of pictures were made for calibration and for evaluation, as far as their values tell."""

from __future__ import annotations

from dataclasses import replace

from edgepack.lint import Found, Inspected
from edgepack.lint.encodings import guess_encoding
from edgepack.lint.survey import picture_input
from edgepack.specs.data import Finding


def check(inspected: Inspected) -> Found:
    """Return a warning when arrays of pictures were plainly made in two ways; the order of channels does not show."""
    arrays = inspected.calibration.samples.preprocessing is None and picture_input(inspected.model) is not None
    if inspected.evaluation is None or not arrays:
        return Found()
    surveys = inspected.calibration.survey, inspected.evaluation.survey
    told = [guess_encoding(s.channels[0].minima, s.channels[0].maxima) for s in surveys]
    if told[0] is None or told[1] is None or replace(told[0], bgr=False).near(replace(told[1], bgr=False)):
        return Found()
    text = f"as their values look, calibration samples are {told[0].name}, those for evaluation {told[1].name}"
    return Found((Finding("preprocessing", "warning", text, "encode both as in training"),))
