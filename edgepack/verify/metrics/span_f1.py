"""span-f1: F1 of the parts of texts, which are right where begin, end and name are, over all texts together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.specs.signal_answers import Spans
from edgepack.verify.answers import answers, truths
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgepack.specs.types import Array


def count_spans(truth: Iterable[object], found: Iterable[object]) -> Array:
    """Return for each text how many spans are right, true and found: whole numbers [n, 3]. Raises ``DataError``."""
    import numpy as np

    counts = []
    for true, said in zip(truth, found, strict=True):
        one, other = _parts(true), _parts(said)
        counts.append((len(one & other), len(one), len(other)))
    return np.array(counts, np.int64).reshape(-1, 3)


def _parts(spans: object) -> set[tuple[int, int, str]]:
    if not isinstance(spans, Spans):
        raise DataError("span-f1 needs spans, in labels and answers", hint="give labels as [[start, end, name], ...]")
    return {(span.start, span.end, span.name) for span in spans}


def f1_of(counts: Array) -> float:
    """Return F1 of counts [n, 3]; nan where there is no span at all."""
    right, true, found = (int(total) for total in counts.sum(axis=0))
    return 2 * right / (true + found) if true + found else float("nan")


def _measure(compared: Compared) -> Accuracy | str:
    truth = list(truths(compared))
    before, after = (count_spans(truth, answers(compared, r)) for r in (compared.expected, compared.found))
    return paired_accuracy(
        compared.metric, len(truth), lambda i: f1_of(before[i]), lambda i: f1_of(after[i]), compared.seed
    )


SPAN_F1 = Metric(_measure, "F1 of spans", "%", of_answers=True)
