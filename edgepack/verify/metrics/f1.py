"""f1 and f1-micro: the harmonic mean of precision and recall, the mean over classes or over all decisions together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy
from edgepack.verify.metrics.scores import decide, read_scores
from edgepack.verify.metrics.top_k import near_chance

if TYPE_CHECKING:
    from edgepack.specs.types import Array


def f1(truth: Array, said: Array, *, macro: bool) -> float:
    """Return F1 of decisions bool [n, classes] as scikit-learn's f1_score with average "macro" or "micro".

    A class that no sample has and that is never said counts for nothing.
    """
    import numpy as np

    right, truly, named = (truth & said).sum(axis=0), truth.sum(axis=0), said.sum(axis=0)
    if not macro:
        right, truly, named = right.sum(keepdims=True), truly.sum(keepdims=True), named.sum(keepdims=True)
    there = (truly + named) > 0
    return float(np.mean(2 * right[there] / (truly + named)[there])) if there.any() else float("nan")


def _measure(macro: bool, compared: Compared) -> Accuracy | str:
    scored = read_scores(compared)
    before, after = (decide(scores, exclusive=scored.exclusive) for scores in (scored.fp32, scored.other))
    truth = scored.truth
    return paired_accuracy(
        compared.metric, len(truth), lambda i: f1(truth[i], before[i], macro=macro),
        lambda i: f1(truth[i], after[i], macro=macro), compared.seed, width=truth.shape[1],
    )  # fmt: skip


def _doubt(compared: Compared, found: Accuracy) -> str | None:
    """Return why labels are likely those of other classes: fp32 has hardly more of them right than a guess."""
    scored = read_scores(compared)
    if compared.labels is None or not scored.exclusive:
        return None
    right = int((scored.truth & decide(scored.fp32, exclusive=True)).sum())
    return near_chance("share of right answers", right, found.n, 1 / scored.truth.shape[1])


F1 = Metric(partial(_measure, True), "macro F1", "%", uses_labels=True, doubt=_doubt)
F1_MICRO = Metric(partial(_measure, False), "micro F1", "%", uses_labels=True, doubt=_doubt)
