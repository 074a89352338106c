"""span-f1: F1 of the parts of texts, which are right where begin, end and name are, over all texts together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.specs.signal_answers import Span, Spans
from edgepack.verify.answers import answers, truths
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.paired import paired_accuracy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgepack.specs.types import Array


_FEWEST = 10  # true spans: fewer say nothing
_LOW = 0.1  # a model that finds less is not one that somebody ships
_FAR = 1 / 3


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


def _doubt(compared: Compared, found: Accuracy) -> str | None:
    """Return why the labels are likely not those of the model's tags: where hardly a span is right, or only places."""
    if compared.labels is None:
        return None
    said = list(answers(compared, compared.expected))
    counts, places = count_spans(compared.labels, said), count_spans(*map(_without_names, (compared.labels, said)))
    if counts[:, 1].sum() < _FEWEST:
        return None
    figure = f"the fp32 model itself has a {found.metric} of {100 * found.fp32:.2f} % (n={found.n})"
    if f1_of(places) - found.fp32 >= _FAR:
        return (
            f"{figure}, and {100 * f1_of(places):.3g} % where names do not count: the recipe's classes are in another "
            f"order than the model's, or labels have other names{_example(compared.labels, said)}"
        )
    if found.fp32 >= _LOW:
        return None
    return f"{figure}: the classes, the tokenizer or the labels are not those of the model"


def _without_names(spans: Sequence[object]) -> list[Spans]:
    return [Spans(tuple(Span(start, end, "") for start, end, _ in sorted(_parts(one)))) for one in spans]


def _example(truth: Sequence[object], said: Sequence[object]) -> str:
    """Return the commonest pair of two names for one place, in words."""
    pairs: Counter[tuple[str, str]] = Counter()
    for one, other in zip(truth, said, strict=True):
        named = {(start, end): name for start, end, name in _parts(other)}
        pairs.update(
            (name, named[start, end])
            for start, end, name in _parts(one)
            if (start, end) in named and named[start, end] != name
        )
    if not pairs:
        return ""
    (true, answered), _ = min(pairs.items(), key=lambda item: (-item[1], item[0]))
    return f"; {answered!r} is answered for {true!r}, for example"


SPAN_F1 = Metric(_measure, "F1 of spans", "%", of_answers=True, doubt=_doubt)
