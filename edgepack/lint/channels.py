"""Checks the values of a calibration set: constant channels, blank samples, grey pictures."""

from __future__ import annotations

import numpy as np

from edgepack.lint import Found, Inspected
from edgepack.lint.survey import Channels, Survey
from edgepack.specs.data import Finding

_SHOWN = 3
_SHOWN_CHANNELS = 8


def check(inspected: Inspected) -> Found:
    """Return constant channels, blank samples, and pictures that are grey where those for evaluation are not."""
    survey = inspected.calibration.survey
    evaluation = inspected.evaluation.survey if inspected.evaluation is not None else None
    found = []
    whole = [c for c in survey.channels if len(c.minima) and (c.minima == c.maxima).all()]
    for channels in survey.channels:
        if channels in whole:
            # A mask, a state or a size beside the real input may well stay the same.
            all_are = len(whole) == len(survey.channels)
            text = f"the input {channels.name!r} is constant over all samples"
            hint = "give samples of what the device will see"
            found.append(Finding("channels", "warning" if all_are else "note", text, hint))
        else:
            found += _constant_channels(channels)
            found += _grey(channels, evaluation)
    if survey.blank and not (whole and len(whole) == len(survey.channels)):
        names = ", ".join(survey.names[index] for index in survey.blank[:_SHOWN])
        more = ", ..." if len(survey.blank) > _SHOWN else ""
        text = f"{len(survey.blank)} of {len(survey.names)} samples are blank, one single value: {names}{more}"
        found.append(Finding("channels", "warning", text, "remove them, unless the device sees such inputs"))
    return Found(tuple(found))


def _constant_channels(channels: Channels) -> list[Finding]:
    constant = np.flatnonzero(channels.minima == channels.maxima)
    if not len(constant):
        return []
    shown = ", ".join(str(c) for c in constant[:_SHOWN_CHANNELS]) + (", ..." if len(constant) > _SHOWN_CHANNELS else "")
    text = f"{len(constant)} of {len(channels.minima)} channels of {channels.name!r} never change: {shown}"
    hint = "check how the samples were made: a channel may be missing or overwritten"
    # Of a row of features some are often constant: the corners of a flattened picture, a rare flag.
    return [Finding("channels", "warning" if channels.rank > 2 else "note", text, hint)]


def _grey(channels: Channels, evaluation: Survey | None) -> list[Finding]:
    if not channels.all_equal or len(channels.minima) != 3:
        return []
    other = next((c for c in evaluation.channels if c.name == channels.name), None) if evaluation else None
    coloured = other is not None and not other.all_equal
    text = f"all calibration pictures are grey: the channels of {channels.name!r} are alike in every sample"
    text += ", those for evaluation have colour" if coloured else ""
    hint = "calibrate with colour pictures if the device will see colour"
    return [Finding("channels", "warning" if coloured else "note", text, hint)]
