"""map, map50, mar and oks: mean average precision and recall of boxes and of points, as COCO defines them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from edgepack.errors import DataError
from edgepack.specs.answer import Boxes
from edgepack.specs.run import Accuracy, ClassFigure
from edgepack.verify.answers import answers, class_name, most_changed, truth_of, truths
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.resampling import paired_interval

if TYPE_CHECKING:
    from edgepack.specs.types import Array
    from edgepack.verify.average_precision import ClassMatches

_Figure: TypeAlias = "Callable[[tuple[ClassMatches, ...], Array], float]"
_Classes: TypeAlias = list[ClassFigure]
_ALL, _FIRST = slice(None), slice(0, 1)
_LOW = 0.01  # of labels that mean what the model's classes mean, even a poor detector finds more


def _precision(thresholds: slice, found: tuple[ClassMatches, ...], weights: Array) -> float:
    from edgepack.verify.average_precision import mean_over_classes

    return mean_over_classes((one.average_precision(weights) for one in found), thresholds)


def _recall(found: tuple[ClassMatches, ...], weights: Array) -> float:
    from edgepack.verify.average_precision import mean_over_classes

    return mean_over_classes((one.recall(weights) for one in found), _ALL)


def _measure(kind: str, most: int, figure: _Figure, compared: Compared) -> Accuracy | str:
    import numpy as np

    from edgepack.verify.average_precision import find_matches

    wanted = truths(compared)
    if not all(isinstance(boxes, Boxes) for boxes in wanted):
        raise DataError(
            f"{compared.metric} needs labels of boxes", hint="give COCO's JSON, a YOLO folder or Pascal VOC as --data"
        )
    if not any(len(boxes) for boxes in wanted):
        return f"{compared.metric}: nothing is labelled in the samples, or fp32 finds nothing in them"
    both: list[tuple[ClassMatches, ...]] = []
    for reader in (compared.expected, compared.found):
        boxes: list[Any] = list(answers(compared, reader))
        both.append(tuple(one.without_end() for one in find_matches(wanted, boxes, kind, most)))
    every = np.ones(len(wanted))
    before, after = (figure(found, every) for found in both)
    interval = paired_interval(partial(figure, both[0]), partial(figure, both[1]), len(wanted), compared.seed)
    classes = most_changed(_by_class(wanted[0].names, both, figure, every))
    truth = truth_of(compared)
    return Accuracy(compared.metric, len(wanted), before, after, before - after, interval, truth, classes)


def _by_class(names: tuple[str, ...], both: list[tuple[ClassMatches, ...]], figure: _Figure, every: Array) -> _Classes:
    """Return the metric of each class that is labelled, which are the same in both."""
    return [
        ClassFigure(
            class_name(names, one.number), int(one.things.sum()), figure((one,), every), figure((other,), every)
        )
        for one, other in zip(*both, strict=True)
    ]


def _doubt(_compared: Compared, found: Accuracy) -> str | None:
    if found.truth != "labels" or found.fp32 >= _LOW:
        return None
    return (
        f"the fp32 model itself has a {found.metric} of {100 * found.fp32:.2f} % (n={found.n}): the labels are not "
        "those of its classes, or are in another order, or the preprocessing or the decoder is wrong"
    )


_BOXES, _POINTS = ("bbox", 100), ("keypoints", 20)  # as many answers a picture as COCO counts

MAP = Metric(
    partial(_measure, *_BOXES, partial(_precision, _ALL)), "mAP of IoU .50 to .95", "%", of_answers=True, doubt=_doubt
)
MAP50 = Metric(
    partial(_measure, *_BOXES, partial(_precision, _FIRST)), "mAP of IoU .50", "%", of_answers=True, doubt=_doubt
)
MAR = Metric(partial(_measure, *_BOXES, _recall), "mean recall of 100 boxes", "%", of_answers=True, doubt=_doubt)
OKS = Metric(
    partial(_measure, *_POINTS, partial(_precision, _ALL)), "mAP of OKS .50 to .95", "%", of_answers=True, doubt=_doubt
)
