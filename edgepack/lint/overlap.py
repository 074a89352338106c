"""Finds copies, exact and near, of calibration samples in the evaluation set."""

from __future__ import annotations

from edgepack.lint import Found, Inspected
from edgepack.lint.copies import SOME, SOME_NEAR, look_alike, near_pairs, severity, show
from edgepack.specs.data import Finding


def check(inspected: Inspected) -> Found:
    """Return the calibration samples that are in the evaluation set: a warning where they are a share of either."""
    if inspected.evaluation is None:
        return Found()
    calibration, evaluation = inspected.calibration.survey, inspected.evaluation.survey
    known = dict(zip(evaluation.digests, evaluation.names, strict=True))
    pairs = [
        (name, known[digest])
        for name, digest in zip(calibration.names, calibration.digests, strict=True)
        if digest in known
    ]
    found = []
    total = len(calibration.digests)
    fewer = min(total, len(evaluation.digests))
    hint = "remove them from the calibration set: accuracy would be measured on what the ranges were fitted to"
    if pairs:
        text = f"{len(pairs)} of {total} calibration samples are in the evaluation set: {show(pairs)}"
        found.append(Finding("overlap", severity(len(pairs), fewer, SOME), text, hint))
    near = near_pairs(calibration, evaluation, same_set=False)
    if near:
        alike = look_alike(calibration, near_pairs(calibration, calibration, same_set=True))
        text = f"{len(near)} of {total} calibration samples are nearly in the evaluation set: {show(near)}"
        fewer = min(len(calibration.described), len(evaluation.described))
        found.append(Finding("overlap", "note" if alike else severity(len(near), fewer, SOME_NEAR), text, hint))
    return Found(tuple(found))
