"""Average precision and recall as COCO defines them; what matches what is found by pycocotools, once a model.

Source: github.com/cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py (``accumulate``), for things of all sizes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.errors import ToolchainError

if TYPE_CHECKING:
    from edgepack.specs.answer import Boxes
    from edgepack.specs.types import Array

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
# The spread of each point that people's own labels have, github.com/cocodataset/cocoapi, cocoeval.py (kpt_oks_sigmas).
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The answers of one class over all pictures, best first, and how many things there are to be found.

    ``number`` is the class's. ``pictures`` [d] say which each answer is in; ``right`` and ``wrong`` [thresholds, d]
    whether it is, and both False where it does not count; ``things`` [pictures] how many there are in each.
    """

    pictures: Array
    right: Array
    wrong: Array
    things: Array
    number: int = 0

    def average_precision(self, weights: Array) -> Array | None:
        """Return the average precision [thresholds] when pictures count by ``weights``; None without any thing.

        It is the mean of the precision that is still reached at 101 recalls. Only right answers are looked at: the
        recall grows at them alone, and between two of them no precision is higher than at the first.
        """
        found = self._curve(weights)
        if found is None:
            return None
        recall, precision = found
        reached = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        passed = np.searchsorted(_RECALLS, recall, side="right")
        result: Array = (reached * np.diff(passed, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)
        return result

    def recall(self, weights: Array) -> Array | None:
        """Return the highest recall [thresholds]; None without any thing."""
        found = self._curve(weights)
        if found is None:
            return None
        last: Array = found[0][:, -1] if found[0].shape[1] else np.zeros(len(found[0]))
        return last

    def _curve(self, weights: Array) -> tuple[Array, Array] | None:
        """Return recall and precision [thresholds, k] at the right answers; None without any thing."""
        total = float(self.things @ weights)
        if total == 0:
            return None
        places, is_right, counted = self._places
        of_answer = weights[self.pictures]
        right = np.cumsum(of_answer[places] * is_right, axis=1)
        so_far = np.cumsum(of_answer * counted, axis=1)
        taken = so_far[0][places] if len(so_far) == 1 else np.take_along_axis(so_far, places, axis=1)
        return right / total, is_right * right / (taken + np.spacing(1))

    @cached_property
    def _places(self) -> tuple[Array, Array, Array]:
        """Return where the right answers are [thresholds, k], 1 where there is one, and 1 for answers that count.

        The last is [thresholds, d], or [1, d] where it is the same for all thresholds, as it is without crowds.
        """
        numbers = [np.flatnonzero(row) for row in self.right]
        most = max(map(len, numbers), default=0)
        places = np.zeros((len(numbers), most), np.intp)
        for row, found in zip(places, numbers, strict=True):
            row[: len(found)] = found
        is_right = np.arange(most) < np.array([[len(found)] for found in numbers])
        counted = self.right | self.wrong
        if (counted == counted[0]).all():
            counted = counted[:1]
        return places, is_right.astype(np.float64), counted.astype(np.float64)

    def without_end(self) -> ClassMatches:
        """Return it without the answers behind the last right one, which change no precision that is reached."""
        places = np.flatnonzero(self.right.any(axis=0))
        last = int(places[-1]) + 1 if len(places) else 0
        return ClassMatches(self.pictures[:last], self.right[:, :last], self.wrong[:, :last], self.things, self.number)


def find_matches(truths: Sequence[Boxes], answers: Sequence[Boxes], kind: str, most: int) -> tuple[ClassMatches, ...]:
    """Return what matches of each class that is labelled; ``kind`` is "bbox", or "keypoints" by their similarity.

    ``most`` answers a picture count. Raises ``ToolchainError`` without pycocotools.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ToolchainError(
            "pycocotools is not installed, which matches boxes with labels", hint="pip install pycocotools"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_dataset(truths, kind), _dataset(answers, kind), kind)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [most]
        evaluation.params.iouThrs = THRESHOLDS
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = _sigmas(truths)
        evaluation.evaluate()
    return tuple(_by_class(evaluation, len(truths)))


def point_spreads(k: int) -> Array:
    """Return the spread of each of k points: people's own for COCO's 17, else one for all, as Ultralytics takes."""
    return np.array(COCO_SIGMAS) if k == len(COCO_SIGMAS) else np.full(k, 1.0 / k)


def _sigmas(truths: Sequence[Boxes]) -> Array:
    """Return the spread of each point of what is labelled."""
    return point_spreads(next((t.points.shape[1] for t in truths if t.points is not None and len(t)), 17))


def _dataset(pictures: Sequence[Boxes], kind: str) -> Any:
    """Return boxes as a COCO object; classes and pictures are numbered from 1 there."""
    from pycocotools.coco import COCO

    found = COCO()
    numbers = {int(n) for boxes in pictures for n in boxes.numbers}
    found.dataset = {
        "images": [{"id": i + 1, "height": b.height, "width": b.width} for i, b in enumerate(pictures)],
        "categories": [{"id": n + 1} for n in sorted(numbers)],
        "annotations": [],
    }
    for number, row in enumerate(_rows(pictures, kind), 1):
        found.dataset["annotations"].append({"id": number, **row})
    found.createIndex()
    return found


def _rows(pictures: Sequence[Boxes], kind: str) -> Iterator[dict[str, Any]]:
    for i, boxes in enumerate(pictures):
        sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
        areas = boxes.areas if boxes.areas is not None else sides[:, 0] * sides[:, 1]
        for j in range(len(boxes)):
            row: dict[str, Any] = {
                "image_id": i + 1,
                "category_id": int(boxes.numbers[j]) + 1,
                "bbox": [*boxes.corners[j, :2].tolist(), *sides[j].tolist()],
                "area": float(areas[j]),
                "iscrowd": int(boxes.crowd is not None and boxes.crowd[j]),
                "score": float(boxes.scores[j]),
            }
            if kind == "keypoints" and boxes.points is not None:
                row["keypoints"] = boxes.points[j].ravel().tolist()
                row["num_keypoints"] = int((boxes.points[j, :, 2] > 0).sum())
            yield row


def _by_class(evaluation: Any, pictures: int) -> Iterator[ClassMatches]:
    """Yield the matches of every class, joined over pictures as ``accumulate`` joins them."""
    for k in range(len(evaluation.params.catIds)):
        found = evaluation.evalImgs[k * pictures : (k + 1) * pictures]
        things = np.array([0 if e is None else np.count_nonzero(e["gtIgnore"] == 0) for e in found], np.float64)
        if not things.any():
            continue
        known = [(i, e) for i, e in enumerate(found) if e is not None]
        scores = np.concatenate([e["dtScores"] for _, e in known])
        order = np.argsort(-scores, kind="mergesort")
        where = np.concatenate([np.full(len(e["dtScores"]), i, np.intp) for i, e in known])[order]
        matched = np.concatenate([e["dtMatches"] for _, e in known], axis=1)[:, order] != 0
        ignored = np.concatenate([e["dtIgnore"] for _, e in known], axis=1)[:, order] != 0
        number = int(evaluation.params.catIds[k]) - 1
        yield ClassMatches(where, matched & ~ignored, ~matched & ~ignored, things, number)


def mean_over_classes(values: Iterator[Array | None], thresholds: slice) -> float:
    """Return the mean over the classes that have things, and thresholds; NaN where there is none."""
    known = [value[thresholds].mean() for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
