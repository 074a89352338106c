"""precision and recall of decisions by a threshold on probabilities, over all classes of all samples together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy
from edgepack.verify.metrics.ranking import doubt_order
from edgepack.verify.metrics.scores import decide, positives, read_scores

if TYPE_CHECKING:
    from edgepack.specs.types import Array

THRESHOLD = 0.5


def share(truth: Array, said: Array, *, recall: bool) -> float:
    """Return the share of the true decisions that were said, or of the said ones that are true; nan of none."""
    of = truth.sum() if recall else said.sum()
    return float((truth & said).sum() / of) if of else float("nan")


def _threshold(compared: Compared) -> float:
    """Return the threshold that the task's settings name, else 0.5."""
    task = compared.samples.task if compared.samples is not None else None
    found = task.settings.get("threshold", THRESHOLD) if task is not None else THRESHOLD
    return float(found) if isinstance(found, int | float) else THRESHOLD


def _measure(recall: bool, compared: Compared) -> Accuracy | str:
    scored = positives(read_scores(compared))
    threshold = _threshold(compared)
    before, after = (decide(s, exclusive=False, threshold=threshold) for s in (scored.fp32, scored.other))
    truth = scored.truth
    return paired_accuracy(
        compared.metric, len(truth), lambda i: share(truth[i], before[i], recall=recall),
        lambda i: share(truth[i], after[i], recall=recall), compared.seed, width=truth.shape[1],
    )  # fmt: skip


PRECISION = Metric(partial(_measure, False), "precision", "%", uses_labels=True, doubt=doubt_order)
RECALL = Metric(partial(_measure, True), "recall", "%", uses_labels=True, doubt=doubt_order)
