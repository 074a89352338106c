"""cer and wer: the share of letters and of words of the true text that a transcript has wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgepack.errors import DataError
from edgepack.specs.run import Accuracy
from edgepack.specs.signal_answers import Transcript
from edgepack.verify.answers import answers
from edgepack.verify.metrics import Compared, Metric
from edgepack.verify.metrics.edits import edit_distance
from edgepack.verify.metrics.paired import paired_accuracy

if TYPE_CHECKING:
    from edgepack.specs.answer import Answer
    from edgepack.specs.types import Array
    from edgepack.verify.outputs import OutputReader

_FEWEST = 20  # letters: fewer say nothing
_HIGH = 0.9  # texts of wrong letters have about 0.8 to 1 of them wrong, and more where they are longer

Split = Callable[[str], Sequence[str]]


def letters(text: str) -> Sequence[str]:
    """Return the letters of a text, blanks among them but not at its ends."""
    return text.strip()


def words(text: str) -> Sequence[str]:
    """Return the words of a text, which white space parts."""
    return text.split()


def edits(split: Split, truth: Sequence[str], found: Sequence[str]) -> tuple[Array, Array]:
    """Return for each sample how many edits make the truth of what was found, and how long the truth is."""
    import numpy as np

    pairs = [(split(one), split(other)) for one, other in zip(truth, found, strict=True)]
    return np.array([edit_distance(*pair) for pair in pairs]), np.array([len(one) for one, _ in pairs])


def rate(wrong: Array, lengths: Array) -> float:
    """Return all edits by all lengths, as jiwer does: long texts count for more. nan of empty texts alone."""
    total = int(lengths.sum())
    return float(wrong.sum() / total) if total else float("nan")


def _texts(compared: Compared, reader: OutputReader) -> list[str]:
    return [_text(found, compared.metric) for found in answers(compared, reader)]


def _text(answer: Answer, metric: str) -> str:
    if not isinstance(answer, Transcript):
        raise DataError(
            f"{metric} needs texts; {type(answer).__name__.lower()} are answered", hint="choose another metric"
        )
    return answer.text


def _measure(split: Split, compared: Compared) -> Accuracy | str:
    fp32, other = (_texts(compared, reader) for reader in (compared.expected, compared.found))
    truth = fp32 if compared.labels is None else [str(label) for label in compared.labels]
    before, lengths = edits(split, truth, fp32)
    after, _ = edits(split, truth, other)
    return paired_accuracy(
        compared.metric, len(truth), lambda i: rate(before[i], lengths[i]), lambda i: rate(after[i], lengths[i]),
        compared.seed, less=True,
    )  # fmt: skip


def _doubt(compared: Compared, found: Accuracy) -> str | None:
    """Return why letters are likely read in another order: nearly none is where the labels have it."""
    if compared.labels is None:
        return None
    wrong, lengths = edits(letters, [str(label) for label in compared.labels], _texts(compared, compared.expected))
    if lengths.sum() < _FEWEST or rate(wrong, lengths) < _HIGH:
        return None
    return (
        f"the fp32 model itself has {100 * rate(wrong, lengths):.3g} % of the letters wrong (n={found.n}): the "
        "recipe's classes are not its letters or are in another order, or the preprocessing is wrong"
    )


CER = Metric(partial(_measure, letters), "letter error rate", "%", of_answers=True, less_is_better=True, doubt=_doubt)
WER = Metric(partial(_measure, words), "word error rate", "%", of_answers=True, less_is_better=True, doubt=_doubt)
