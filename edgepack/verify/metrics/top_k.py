"""top1 and top5: the share of samples whose label is the highest class score, or among the five highest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgepack.base.intervals import paired_difference_ci95, proportion_ci95
from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_NEAR = 0.1
_EACH, _FAR = 10, 1 / 3  # samples of a class, and the share of them by which labels are in another order
_BEYOND_CONSTANT = 1 / 2  # how far renumbered answers are at least from those of a constant to all right


def _measure(most: int, compared: Compared) -> Accuracy:
    metric, labels = compared.metric, compared.labels
    assert labels is not None, "it says that it needs labels"
    fp32, scores = compared.expected.whole(compared.names[0]), compared.found.whole(compared.names[0])
    if fp32.ndim != 2 or fp32.shape[1] < 2 or len(fp32) != len(labels):
        raise DataError(
            f"{metric} needs a first output of class scores [n, classes] for {len(labels)} labels; it is {fp32.shape}",
            hint="choose --metric agreement, sqnr, cosine, or your own module:function(outputs, labels)",
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.min() < 0 or labels.max() >= fp32.shape[1]:
        raise DataError(
            f"{metric} needs whole-number labels from 0 to {fp32.shape[1] - 1}; they are {labels.dtype} "
            f"from {labels.min()} to {labels.max()}",
            hint="the class folders or labels must be in the order of the model's classes",
        )
    k = min(most, fp32.shape[1])
    before, after = top_k_correct(fp32, labels, k), top_k_correct(scores, labels, k)
    first, second = float(before.mean()), float(after.mean())
    return Accuracy(metric, len(labels), first, second, first - second, paired_difference_ci95(before, after))


def _doubt(most: int, compared: Compared, found: Accuracy) -> str | None:
    scores = compared.expected.whole(compared.names[0])
    classes = scores.shape[1]
    near = near_chance(found.metric, round(found.fp32 * found.n), found.n, min(most, classes) / classes)
    assert compared.labels is not None, "it says that it needs labels"
    names = compared.samples.classes if compared.samples is not None else ()
    return other_order(scores, compared.labels, names) or near


def other_order(scores: Array, labels: Array, names: tuple[str, ...] = ()) -> str | None:
    """Return why labels seem to be in another order than the model's classes; None where they do not.

    ``scores`` [n, classes] are the fp32 model's, ``labels`` [n]. It is said where the best renumbering of the labels
    makes right a third more of the samples, of 10 or more a class, and gets at least half of the way from what one
    constant answer gets to all right: a model that is weak, or nearly always answers the same, has no such renumbering.
    """
    import numpy as np

    present = np.unique(labels)
    if len(present) < 2 or len(labels) < _EACH * len(present):
        return None
    answers = scores.argmax(axis=1)
    counts = np.zeros((len(present), scores.shape[1]), np.int64)
    np.add.at(counts, (np.searchsorted(present, labels), answers), 1)
    right = int((answers == labels).sum())
    if int(counts.max(axis=1).sum()) - right < _FAR * len(labels):
        return None  # no renumbering gets more than each label's most frequent answer, and scipy takes long to load
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        return None
    rows, columns = linear_sum_assignment(counts, maximize=True)
    best = int(counts[rows, columns].sum())
    constant = int(counts.sum(axis=1).max())  # any renumbering of a constant answer gets as much
    if best - right < _FAR * len(labels) or best - constant < _BEYOND_CONSTANT * (len(labels) - constant):
        return None
    moved = max((r for r in rows if present[r] != columns[r]), key=lambda r: counts[r, columns[r]])
    label, answer = int(present[moved]), int(columns[moved])
    name = f" ({names[label]!r})" if label < len(names) else ""
    return (
        f"the labels are in another order than the model's classes: renumbered, {100 * best / len(labels):.3g} % of "
        f"{len(labels)} samples are right, and {100 * right / len(labels):.3g} % as they are; the samples of class "
        f"{label}{name} are of its class {answer}, for example; labels.txt or the recipe's classes give the order"
    )


def near_chance(metric: str, right: int, n: int, chance: float) -> str | None:
    """Return why the fp32 model's own accuracy is not to be believed, where it is hardly better than guessing.

    ``right`` of ``n`` samples are; ``chance`` is the share of a guess. That labels are those of other classes, or in
    another order, is then likelier than that somebody ships such a model. It is said where the upper end of the 95 %
    interval is less than a tenth of the way from chance to all right; few samples never show that.
    """
    if proportion_ci95(right, n)[1] >= chance + _NEAR * (1 - chance):
        return None
    return (
        f"the fp32 model itself has a {metric} of {100 * right / n:.2f} % (n={n}), and guessing has "
        f"{100 * chance:.3g} %: the labels are not those of its classes, or the preprocessing is wrong"
    )


def top_k_correct(scores: Array, labels: Array, k: int) -> Array:
    """Return for each sample whether its label is among the k highest scores.

    ``scores`` is [n, classes], ``labels`` [n] of integers; the result is bool [n]. Of equal scores the lower class
    counts as higher, so that a constant output is not called right. A sample with a NaN score is wrong; -inf is the
    score of a forbidden class.
    """
    import numpy as np

    of_label = np.take_along_axis(scores, labels.astype(np.int64)[:, None], axis=1)
    position = np.arange(scores.shape[1])[None, :]
    before = (scores > of_label) | ((scores == of_label) & (position < labels[:, None]))
    result: Array = (before.sum(axis=1) < k) & ~np.isnan(scores).any(axis=1)
    return result


TOP1 = Metric(
    partial(_measure, 1), "top-1 accuracy", "%", needs_labels=True, needs_scores=True, doubt=partial(_doubt, 1)
)
TOP5 = Metric(
    partial(_measure, 5), "top-5 accuracy", "%", needs_labels=True, needs_scores=True, doubt=partial(_doubt, 5)
)
