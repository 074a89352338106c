"""auroc and average-precision: how well scores put the samples of a class before the others, the mean over classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy
from edgepack.verify.metrics.scores import read_scores
from edgepack.verify.metrics.threshold import positives

if TYPE_CHECKING:
    from edgepack.specs.types import Array


def ranks(values: Array) -> Array:
    """Return the ranks of values [n] from 1, equal ones their mean."""
    import numpy as np

    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: Array = (ends - (counts - 1) / 2)[which]
    return result


def auroc(truth: Array, scores: Array) -> float:
    """Return the chance that a true sample has a higher score than another, equal ones half (Mann and Whitney 1947)."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks(scores)[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(truth: Array, scores: Array) -> float:
    """Return the sum over thresholds of precision by the recall gained, as scikit-learn's average_precision_score."""
    import numpy as np

    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, right = scores[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)  # equal scores are one threshold
    precision = right[last] / (last + 1)
    return float(np.sum(np.diff(right[last], prepend=0) * precision) / truth.sum())


def mean_over_classes(figure: Callable[[Array, Array], float], truth: Array, scores: Array) -> float:
    """Return the mean over the classes that have a figure."""
    import numpy as np

    found = np.array([figure(truth[:, k], scores[:, k]) for k in range(truth.shape[1])])
    known = found[~np.isnan(found)]
    return float(known.mean()) if known.size else float("nan")


def _measure(figure: Callable[[Array, Array], float], compared: Compared) -> Accuracy | str:
    import numpy as np

    scored = positives(read_scores(compared))
    truth = scored.truth
    before, after = (np.where(np.isnan(s), -np.inf, s) for s in (scored.fp32, scored.other))  # NaN is last of all
    return paired_accuracy(
        compared.metric, len(truth), lambda i: mean_over_classes(figure, truth[i], before[i]),
        lambda i: mean_over_classes(figure, truth[i], after[i]), compared.seed, width=20 * truth.shape[1],
    )  # fmt: skip


AUROC = Metric(partial(_measure, auroc), "area under the ROC curve", uses_labels=True)
AVERAGE_PRECISION = Metric(partial(_measure, average_precision), "average precision", uses_labels=True)
