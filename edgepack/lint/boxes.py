"""Judges whether a detector's preprocessing fits, by how well it finds labelled things with the usual alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.data.annotated import OF_BOXES
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, does_not_fit, labelled_pictures
from edgepack.lint.encodings import Encoding, alternatives
from edgepack.specs.answer import Boxes
from edgepack.specs.data import Finding
from edgepack.specs.task import Task
from edgepack.specs.types import Array, Progress
from edgepack.verify.average_precision import ClassMatches, find_matches, mean_over_classes
from edgepack.verify.resampling import paired_interval

PICTURES = 12
_FEWEST = 6
_POOR = 0.3  # a detector that finds more than this with its preprocessing is not tried with others
_GAIN = 0.2
_FIRST = slice(0, 1)  # an overlap of .50, or a similarity of points of .50
_MOST = 100  # boxes a picture


@dataclass(frozen=True)
class _Trial:
    encoding: Encoding
    found: tuple[ClassMatches, ...]
    count: int

    def figure(self, weights: Array) -> float:
        return mean_over_classes((one.average_precision(weights) for one in self.found), _FIRST)

    @property
    def score(self) -> float:
        return self.figure(np.ones(self.count))


def check(inspected: Inspected) -> Found:
    """Return how well a detector finds labelled boxes or points, and a warning when it does far better with others.

    The average precision at .50 on a few pictures is compared. Others are tried only where it is low: a good detector
    is run no more than 12 times. Outputs that the task cannot read are left to the evaluation, which names them.
    """
    pictures = labelled_pictures(inspected, OF_BOXES, _usable, _FEWEST, PICTURES)
    if pictures is None:
        return Found()
    try:
        trials = _trials(pictures, inspected.progress)
    except (DataError, ToolchainError):
        return Found()
    count = len(pictures.wanted)
    return Found((_finding(trials, f"{pictures.judged.title}, n={count}"),), count * len(trials))


def _trials(pictures: Pictures, progress: Progress) -> list[_Trial]:
    """Return the trial of the present encoding and, where it finds little, those of the others."""
    trials = [_tried(pictures, pictures.present)]
    if trials[0].score < _POOR:
        others = alternatives(pictures.present)
        for number, encoding in enumerate(others, 1):
            trials.append(_tried(pictures, encoding))
            progress("lint: boxes", number, len(others))
    return trials


def _usable(label: Any, task: Task) -> bool:
    return isinstance(label, Boxes) and len(label) > 0 and (label.points is not None or task.kind != "keypoints")


def _tried(pictures: Pictures, encoding: Encoding) -> _Trial:
    kind = "keypoints" if pictures.task.kind == "keypoints" else "bbox"
    matches = find_matches(list(pictures.wanted), pictures.answers(encoding), kind, _MOST)
    return _Trial(encoding, tuple(one.without_end() for one in matches), len(pictures.wanted))


def _finding(trials: Sequence[_Trial], what: str) -> Finding:
    now, best = trials[0], max(trials, key=lambda one: one.score)
    words = f"average precision at .50 is {now.score:.3f} with {now.encoding.title}"
    if best.score - now.score < _GAIN:
        return Finding("preprocessing", "note", f"{words} ({what})")
    gain = paired_interval(best.figure, now.figure, now.count, 0)
    if gain[0] <= 0:
        return Finding("preprocessing", "note", f"{words}, {best.score:.3f} with {best.encoding.title} ({what})")
    return does_not_fit(words, best.encoding, best.score, what, gain)
