"""Which of one answer's parts another answer gives again: boxes by their overlap, others by being the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.specs.answer import Boxes, Classes, Mask
from edgepack.specs.signal_answers import Anomaly, Spans, Transcript

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# Where boxes, or points, overlap so much they are of one thing: the least that COCO calls right.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Again:
    """Of one sample: ``n`` answers of the first model, ``lost`` of them that the other does not give again.

    ``unsure`` of the lost ones the other has found, but with a score too low to be shown.
    """

    n: int
    lost: int
    unsure: int = 0


@dataclass(frozen=True)
class Kind:
    """How answers of one type are compared.

    ``words`` says what is counted, in the plural. ``compare`` is given the first model's answer and the other's, both
    as they are shown, and all that the other found.
    """

    words: str
    compare: Callable[[Any, Any, Any], Again]


def _boxes(first: Boxes, shown: Boxes, everything: Boxes) -> Again:
    at_all = _matched(first, everything)
    again = _matched(first, shown)
    return Again(len(first), int((~again).sum()), int((at_all & ~again).sum()))


def _matched(first: Boxes, other: Boxes) -> Array:
    """Return which boxes of ``first`` have one of their own in ``other``, of the same class; bool [n].

    Pairs are made from the largest overlap down. Where things have points these must be found, too.
    """
    import numpy as np

    from edgepack.tasks.boxes import pair

    fits = _overlaps(first, other)
    fits[first.numbers[:, None] != other.numbers[None]] = 0
    return np.asarray(pair(fits, LEAST_OVERLAP).any(axis=1))


def _overlaps(first: Boxes, other: Boxes) -> Array:
    """Return by how much boxes overlap [n, m]: the least of boxes (IoU) and of points (OKS)."""
    import numpy as np

    from edgepack.tasks.boxes import likeness

    found = likeness(first.corners, other.corners)
    if first.points is not None and other.points is not None:
        found = np.minimum(found, _near_points(first, other))
    return found


def _near_points(first: Boxes, other: Boxes) -> Array:
    """Return COCO's object keypoint similarity [n, m]; a box's area stands for that of its thing.

    Source: github.com/cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py (``computeOks``).
    """
    import numpy as np

    from edgepack.tasks.boxes import areas
    from edgepack.verify.average_precision import point_spreads

    assert first.points is not None, "boxes with points"
    assert other.points is not None, "boxes with points"
    distances = np.square(first.points[:, None, :, :2] - other.points[None, :, :, :2]).sum(axis=3)
    variances = np.square(2 * point_spreads(first.points.shape[1]))
    scales = np.maximum(areas(first.corners), np.spacing(1))[:, None, None]
    result: Array = np.exp(-distances / (2 * variances * scales)).mean(axis=2)
    return result


def _classes(first: Classes, shown: Classes, _everything: Classes) -> Again:
    known = bool(shown.scores) and shown.scores[0] == shown.scores[0]  # of NaN no class is the best
    return _whole(known and first.numbers[0] == shown.numbers[0])


def _mask(first: Mask, shown: Mask, _everything: Mask) -> Again:
    alike = first.labels.shape == shown.labels.shape
    return Again(first.labels.size, int((first.labels != shown.labels).sum()) if alike else first.labels.size)


def _transcript(first: Transcript, shown: Transcript, _everything: Transcript) -> Again:
    return _whole(first.text == shown.text)


def _spans(first: Spans, shown: Spans, _everything: Spans) -> Again:
    one, other = ({(span.start, span.end, span.name) for span in spans} for spans in (first, shown))
    return Again(len(one), len(one - other))


def _anomaly(first: Anomaly, shown: Anomaly, _everything: Anomaly) -> Again:
    return _whole(first.unusual == shown.unusual)


def _whole(same: bool) -> Again:
    return Again(1, 0 if same else 1)


_KINDS: Mapping[type, Kind] = {
    Boxes: Kind("boxes", _boxes),
    Classes: Kind("classes", _classes),
    Mask: Kind("pixels", _mask),
    Transcript: Kind("texts", _transcript),
    Spans: Kind("spans", _spans),
    Anomaly: Kind("verdicts", _anomaly),
}


def kind_of_answer(answer: object) -> Kind | None:
    """Return how an answer is compared with others of its type; None where no two of them are simply the same."""
    if isinstance(answer, Anomaly) and answer.threshold is None:
        return None
    return _KINDS.get(type(answer))
