"""Compares answers that a model gives itself: boxes, classes, masks; a distance of its outputs would say nothing.

Boxes of equal scores may come in another order, and one at the edge of being shown may be missing; none of that is
wrong, and every row behind it has other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.specs.answer import Boxes, Classes, Mask
from edgepack.specs.run import OutputDistance
from edgepack.tasks import answer
from edgepack.tasks.boxes import likeness, pair
from edgepack.verify.distance import distances
from edgepack.verify.tolerance import Tolerance, widest

if TYPE_CHECKING:
    from edgepack.specs.task import Frame, Task
    from edgepack.specs.types import Array, Precision
    from edgepack.verify.golden import Compare, Outputs


@dataclass(frozen=True)
class Alike:
    """When answers are alike.

    Boxes of one class whose overlap is at least ``overlap`` and whose sides and points are within ``pixels`` are the
    same; one whose score is within ``margin`` of the least that is shown, or a best class that is within it of the
    second, may be another. Of a mask's pixels no more than ``share`` may be of another class.
    """

    margin: float
    overlap: float
    pixels: float = np.inf
    share: float = 0.005


# The same model on the same machine.
STRICT = Alike(margin=0.02, overlap=0.5, pixels=0.5)
# On another machine: rounding moves scores and sides by so much.
_ALIKE: Mapping[Precision, Alike] = {
    "fp32": Alike(0.02, 0.95),
    "fp16": Alike(0.03, 0.9, share=0.01),
    "bf16": Alike(0.05, 0.8, share=0.02),
    "int8": Alike(0.1, 0.6, share=0.05),
}


@dataclass(frozen=True)
class Difference:
    """How many things two answers hold, how many of them are in one of the two only, and the largest difference.

    ``largest`` is of sides of boxes and of points in pixels, of scores of classes, or the share of a mask's pixels.
    """

    things: int
    differing: int
    largest: float


def difference(expected: Any, found: Any, alike: Alike, least: float = 0.0) -> Difference:
    """Return how two answers of one kind differ; ``least`` is the score that boxes are shown from."""
    if isinstance(expected, Boxes) and isinstance(found, Boxes):
        return _of_boxes(expected, found, alike, least)
    if isinstance(expected, Classes) and isinstance(found, Classes):
        return _of_classes(expected, found, alike)
    if isinstance(expected, Mask) and isinstance(found, Mask):
        other = float(np.mean(expected.labels != found.labels)) if expected.labels.size else 0.0
        return Difference(1, int(other > alike.share), other)
    raise TypeError(f"answers {type(expected).__name__} and {type(found).__name__} are not compared")


def compare_answers(task: Task, frame: Frame, precision: Precision) -> Compare:
    """Return what compares outputs by what they answer; the largest share that may differ is that of decisions."""
    least = float(task.settings.get("score", 0.25)) if "score" in task.settings else 0.25  # type: ignore[arg-type]

    def compare(
        reference: Sequence[Outputs], outputs: Sequence[Outputs], _tolerance: Mapping[str, Tolerance] | None
    ) -> tuple[OutputDistance, ...]:
        formal = distances(reference, outputs, None)
        if not all(found.passed for found in formal):
            return formal
        pairs = [
            (answer(task, one, frame), answer(task, other, frame))
            for one, other in zip(reference, outputs, strict=True)
        ]
        found = [difference(one, other, _ALIKE[precision], least) for one, other in pairs]
        things, differing = sum(d.things for d in found), sum(d.differing for d in found)
        allowed = widest(precision, things).mismatch
        share = differing / things if things else 0.0
        note = f"compared by what they answer: {differing} of {things} differ, {100 * allowed:.4g} % may"
        return tuple(
            OutputDistance(name, None, 1.0, 0.0, None, passed=share <= allowed, mismatch=share, note=note,
                           tolerance_mismatch=allowed)
            for name in reference[0]
        )  # fmt: skip

    return compare


def unmatched(expected: Boxes, found: Boxes, alike: Alike, least: float) -> tuple[Array, Array]:
    """Return the rows of boxes that are in the first answer only, and of those that are in the second only."""
    near, _ = _matching(expected, found, alike)
    first, second = (np.asarray(near.any(axis=axis)) for axis in (1, 0))
    return _missing(expected, first, alike, least), _missing(found, second, alike, least)


def _missing(boxes: Boxes, matched: Array, alike: Alike, least: float) -> Array:
    return np.flatnonzero((np.asarray(boxes.scores) > least + alike.margin) & ~matched)


def _of_boxes(expected: Boxes, found: Boxes, alike: Alike, least: float) -> Difference:
    near, sides = _matching(expected, found, alike)
    lost, gained = (len(rows) for rows in unmatched(expected, found, alike, least))
    things = int((np.asarray(expected.scores) > least + alike.margin).sum())
    matched = sides[near]
    return Difference(things + gained, lost + gained, float(matched.max()) if matched.size else 0.0)


def _matching(expected: Boxes, found: Boxes, alike: Alike) -> tuple[Array, Array]:
    """Return which boxes [n, m] are the same, and their largest difference of sides or points in pixels; none twice."""
    same = np.asarray(expected.numbers)[:, None] == np.asarray(found.numbers)[None]
    shared = likeness(np.asarray(expected.corners, float), np.asarray(found.corners, float))
    sides = np.abs(expected.corners[:, None] - found.corners[None]).max(axis=2, initial=0.0)
    if expected.points is not None and found.points is not None and expected.points.shape[1:] == found.points.shape[1:]:
        places = np.abs(expected.points[:, None, :, :2] - found.points[None, :, :, :2])
        sides = np.maximum(sides, places.max(axis=(2, 3), initial=0.0))
    return pair(np.where(same & (sides <= alike.pixels), shared, 0), alike.overlap), sides


def _of_classes(expected: Classes, found: Classes, alike: Alike) -> Difference:
    first, second = expected.scores, found.scores
    close = len(first) > 1 and first[0] - first[1] <= alike.margin
    wrong = expected.numbers[:1] != found.numbers[:1] and not close
    known = dict(zip(found.numbers, second, strict=True))
    largest = max((abs(s - known[n]) for n, s in zip(expected.numbers, first, strict=True) if n in known), default=0.0)
    return Difference(1, int(wrong or largest > max(alike.margin, 0.02)), largest)
