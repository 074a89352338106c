"""auroc and average-precision: how well scores put the samples of a class before the others, the mean over classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edgepack.base.intervals import Z95
from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy
from edgepack.verify.metrics.scores import positives, read_scores

if TYPE_CHECKING:
    from edgepack.specs.types import Array


_FEWEST = 10  # samples: fewer say nothing
_CHANCE, _NEAR = 0.5, 0.1


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


def doubt_order(compared: Compared, found: Accuracy) -> str | None:
    """Return why labels are likely others than the model's: its scores put them hardly better in order than chance.

    It is said where the upper end of the 95 % interval of the AUROC is less than a tenth of the way from a half to 1.
    """
    import numpy as np

    if compared.labels is None or found.n < _FEWEST:
        return None
    scored = positives(read_scores(compared))
    scores = np.where(np.isnan(scored.fp32), -np.inf, scored.fp32)
    columns = [k for k in range(scored.truth.shape[1]) if scored.truth[:, k].any() and not scored.truth[:, k].all()]
    if not columns:
        return None
    figures = [auroc(scored.truth[:, k], scores[:, k]) for k in columns]
    errors = [auroc_error(one, int(scored.truth[:, k].sum()), found.n) for one, k in zip(figures, columns, strict=True)]
    figure, upper = float(np.mean(figures)), float(np.mean(figures) + Z95 * np.mean(errors))
    if upper >= _CHANCE + _NEAR * (1 - _CHANCE):
        return None
    why = "the labels are the other way round" if upper < _CHANCE else "the labels are not those of its classes"
    return (
        f"the fp32 model's own scores have an AUROC of {figure:.3f} (n={found.n}), and guessing has {_CHANCE}: {why}, "
        "or the preprocessing is wrong"
    )


def auroc_error(figure: float, positive: int, n: int) -> float:
    """Return the standard error of an AUROC (Hanley and McNeil, Radiology 143, 1982, "The Meaning and Use of the Area
    under a ROC Curve").

    0 and 1 have none by it: they are taken for what one pair of samples in the other order would give.
    """
    pairs = positive * (n - positive)
    inner = min(max(figure, 1 / pairs), 1 - 1 / pairs) if pairs > 1 else 0.5
    both, neither = inner / (2 - inner), 2 * inner**2 / (1 + inner)
    variance = inner * (1 - inner) + (positive - 1) * (both - inner**2) + (n - positive - 1) * (neither - inner**2)
    return math.sqrt(max(variance, 0.0) / pairs)


AUROC = Metric(partial(_measure, auroc), "area under the ROC curve", uses_labels=True, doubt=doubt_order)
AVERAGE_PRECISION = Metric(
    partial(_measure, average_precision), "average precision", uses_labels=True, doubt=doubt_order
)
