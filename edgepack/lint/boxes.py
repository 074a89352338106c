"""Judges whether a detector's preprocessing fits, by how well it finds labelled things with the usual alternatives."""

from __future__ import annotations

from functools import partial
from typing import Any

from edgepack.data.annotated import OF_BOXES
from edgepack.errors import DataError, ToolchainError
from edgepack.lint import Found, Inspected
from edgepack.lint.answered import Pictures, Trial, compare, labelled_pictures, try_where_poor
from edgepack.lint.encodings import Encoding
from edgepack.specs.answer import Boxes
from edgepack.specs.task import Task
from edgepack.specs.types import Array
from edgepack.verify.average_precision import find_matches, mean_over_classes

PICTURES = 12
_FEWEST = 6
_POOR = 0.3  # a detector that finds more than this with its preprocessing is not tried with others
_GAIN = 0.2
_FIRST = slice(0, 1)  # an overlap of .50, or a similarity of points of .50
_MOST = 100  # boxes a picture


def check(inspected: Inspected) -> Found:
    """Return how well a detector finds labelled boxes or points, and a warning when it does far better with others.

    The average precision at .50 on a few pictures is compared. Others are tried only where it is low: a good detector
    is run no more than 12 times. Outputs that the task cannot read are left to the evaluation, which names them.
    """
    pictures = labelled_pictures(inspected, OF_BOXES, _usable, _FEWEST, PICTURES)
    if pictures is None:
        return Found()
    try:
        trials = try_where_poor(pictures, partial(_tried, pictures), _POOR, partial(inspected.progress, "lint: boxes"))
    except (DataError, ToolchainError):
        return Found()
    finding = compare(trials, "average precision at .50", pictures.judged.title, _GAIN)
    return Found((finding,), len(pictures.wanted) * len(trials))


def _usable(label: Any, task: Task) -> bool:
    return isinstance(label, Boxes) and len(label) > 0 and (label.points is not None or task.kind != "keypoints")


def _tried(pictures: Pictures, encoding: Encoding) -> Trial:
    kind = "keypoints" if pictures.task.kind == "keypoints" else "bbox"
    found = find_matches(list(pictures.wanted), pictures.answers(encoding), kind, _MOST)
    matches = [one.without_end() for one in found]

    def precision(weights: Array) -> float:
        return mean_over_classes((one.average_precision(weights) for one in matches), _FIRST)

    return Trial(encoding, precision, len(pictures.wanted))
