"""Judges whether the preprocessing of a reader of text fits, by how many letters of labelled pictures it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, does_not_fit, labelled_pictures
from edgepack.lint.encodings import Encoding, alternatives
from edgepack.specs.data import Finding
from edgepack.specs.task import Task
from edgepack.specs.types import Array
from edgepack.verify.metrics.transcript import edits, letters, rate
from edgepack.verify.resampling import paired_interval

PICTURES = 12
_FEWEST = 6
_POOR = 0.75  # a reader of more than this share is not tried with others
_GAIN = 0.1


@dataclass(frozen=True)
class _Trial:
    """How many edits make the label of what was read with an encoding, and the labels' lengths [pictures]."""

    encoding: Encoding
    wrong: Array
    lengths: Array

    def figure(self, weights: Array) -> float:
        return max(1 - rate(self.wrong * weights, self.lengths * weights), 0.0)

    @property
    def score(self) -> float:
        return self.figure(np.ones(len(self.lengths)))


def check(inspected: Inspected) -> Found:
    """Return what share of letters a reader of text has right, and a warning where another encoding gives far more.

    Others are tried only where it is low: a good reader is run no more than 12 times. Outputs that the task cannot
    read are left to the evaluation, which names them.
    """
    pictures = labelled_pictures(inspected, ("text-recognition",), _usable, _FEWEST, PICTURES)
    if pictures is None:
        return Found()
    try:
        trials = [_tried(pictures, pictures.present)]
        if trials[0].score < _POOR:
            trials += [_tried(pictures, encoding) for encoding in alternatives(pictures.present)]
    except (DataError, ToolchainError):
        return Found()
    count = len(pictures.wanted)
    return Found((_finding(trials, f"{pictures.judged.title}, n={count}"),), count * len(trials))


def _usable(label: Any, _task: Task) -> bool:
    return isinstance(label, str) and bool(label.strip())


def _tried(pictures: Pictures, encoding: Encoding) -> _Trial:
    found = [one.text for one in pictures.answers(encoding)]
    return _Trial(encoding, *edits(letters, list(pictures.wanted), found))


def _finding(trials: list[_Trial], what: str) -> Finding:
    now, best = trials[0], max(trials, key=lambda one: one.score)
    words = f"share of right letters is {now.score:.3f} with {now.encoding.title}"
    if best.score - now.score < _GAIN:
        return Finding("preprocessing", "note", f"{words} ({what})")
    gain = paired_interval(best.figure, now.figure, len(now.lengths), 0)
    if gain[0] <= 0:
        return Finding("preprocessing", "note", f"{words}, {best.score:.3f} with {best.encoding.title} ({what})")
    return does_not_fit(words, best.encoding, best.score, what, gain)
