"""Judges whether the preprocessing of a reader of text fits, by how many letters of labelled pictures it reads."""

from __future__ import annotations

from functools import partial
from typing import Any

from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, Trial, compare, labelled_pictures, try_where_poor
from edgepack.lint.encodings import Encoding
from edgepack.specs.task import Task
from edgepack.specs.types import Array
from edgepack.verify.metrics.transcript import edits, letters, rate

PICTURES = 12
_FEWEST = 6
_POOR = 0.75  # a reader of more than this share is not tried with others
_GAIN = 0.1


def check(inspected: Inspected) -> Found:
    """Return what share of letters a reader of text has right, and a warning where another encoding gives far more.

    Others are tried only where it is low: a good reader is run no more than 12 times. Outputs that the task cannot
    read are left to the evaluation, which names them.
    """
    pictures = labelled_pictures(inspected, ("text-recognition",), _usable, _FEWEST, PICTURES)
    if pictures is None:
        return Found()
    try:
        trials = try_where_poor(
            pictures, partial(_tried, pictures), _POOR, partial(inspected.progress, "lint: letters")
        )
    except (DataError, ToolchainError):
        return Found()
    finding = compare(trials, "share of right letters", pictures.judged.title, _GAIN)
    return Found((finding,), len(pictures.wanted) * len(trials))


def _usable(label: Any, _task: Task) -> bool:
    return isinstance(label, str) and bool(label.strip())


def _tried(pictures: Pictures, encoding: Encoding) -> Trial:
    found = [one.text for one in pictures.answers(encoding)]
    wrong, lengths = edits(letters, list(pictures.wanted), found)

    def share(weights: Array) -> float:
        return max(1 - rate(wrong * weights, lengths * weights), 0.0)

    return Trial(encoding, share, len(found))
