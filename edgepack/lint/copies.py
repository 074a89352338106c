"""Finds copies, exact and near, within a calibration set."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgepack.lint import Found, Inspected
from edgepack.lint.survey import Survey
from edgepack.specs.data import Finding

# Measured: the same photograph as JPEG of quality 30 or scaled to 96 pixels stays above 0.9998; of all pairs of 5000
# CIFAR-10 pictures two are above, of 32 photographs none is above 0.79.
_NEAR = 0.985
_BLOCK = 512
_SHOWN = 3
# Of the samples: fewer copies change neither ranges nor accuracy. (CIFAR-10's own sets share some pictures.)
SOME, SOME_NEAR = 0.01, 0.02
# Where this many pictures look alike (a fixed camera, a video), likeness does not tell a copy.
_ALIKE = 0.25


def check(inspected: Inspected) -> Found:
    """Return the samples that stand in the set more than once, exactly or nearly; a warning where they are many."""
    survey = inspected.calibration.survey
    first: dict[str, int] = {}
    pairs = []
    for index, digest in enumerate(survey.digests):
        if digest in first:
            pairs.append((survey.names[index], survey.names[first[digest]]))
        first.setdefault(digest, index)
    total = len(survey.digests)
    found = []
    if pairs:
        text = f"{len(pairs)} of {total} samples repeat others exactly: {show(pairs)}"
        hint = "remove the copies: they weigh twice and add nothing"
        found.append(Finding("copies", severity(len(pairs), total, SOME), text, hint))
    near = near_pairs(survey, survey, same_set=True)
    if near and look_alike(survey, near):
        text = f"{len(near)} of {len(survey.described)} pictures nearly repeat others: a fixed camera or a video?"
        found.append(Finding("copies", "note", text, "pictures of other moments and places show more of the range"))
    elif near:
        text = f"{len(near)} of {total} samples nearly repeat others (re-encoded, scaled, brightened): {show(near)}"
        found.append(Finding("copies", severity(len(near), len(survey.described), SOME_NEAR), text, "keep one of each"))
    return Found(tuple(found))


def look_alike(survey: Survey, near: list[tuple[str, str]]) -> bool:
    """Say whether so many pictures are near that likeness does not tell a copy."""
    return len(near) >= _ALIKE * len(survey.described)


def severity(count: int, total: int, share: float) -> Literal["warning", "note"]:
    """Return how much ``count`` of ``total`` samples matter: from the ``share`` on they are a warning."""
    return "warning" if count >= share * total else "note"


def near_pairs(one: Survey, other: Survey, *, same_set: bool) -> list[tuple[str, str]]:
    """Return the pairs of near but not exact copies, each sample of ``one`` at most once."""
    if one.signatures is None or other.signatures is None:
        return []
    pairs: list[tuple[str, str]] = []
    for start in range(0, len(one.signatures), _BLOCK):
        likeness = one.signatures[start : start + _BLOCK] @ other.signatures.T
        for row, column in np.argwhere(likeness > _NEAR).tolist():
            index, match = one.described[start + row], other.described[column]
            if same_set and match >= index:
                continue
            if one.digests[index] != other.digests[match] and (not pairs or pairs[-1][0] != one.names[index]):
                pairs.append((one.names[index], other.names[match]))
    return pairs


def show(pairs: list[tuple[str, str]]) -> str:
    """Return the first pairs in words."""
    shown = "; ".join(f"{one} = {other}" for one, other in pairs[:_SHOWN])
    return shown + ("; ..." if len(pairs) > _SHOWN else "")
