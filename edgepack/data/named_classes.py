"""Words of a label column to the numbers of classes, in the order of the model's classes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.data.rows import is_number, read_number
from edgepack.data.source import Bad
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edgepack.specs.data import SampleSet
    from edgepack.specs.types import Array

_WHOLE = re.compile(r"\+?([0-9]{1,9})(?:\.0*)?")
_FEW = 0.1  # of all labels


def number_classes(
    words: Sequence[str], classes: tuple[str, ...], where: Callable[[int], str]
) -> tuple[Array, tuple[str, ...], tuple[Bad, ...]]:
    """Return the labels int64 [n], the names of the classes, and the samples whose word is none of them.

    Words that all are whole numbers from 0 are labels as they are, where the classes do not name them; else a word is
    its place in ``classes``, or among all words in sorted order where no classes are known. Empty words decide nothing.
    ``where`` names a sample.
    """
    words = [word.strip() for word in words]
    numbers = {word: whole_number(word) for word in words if word}
    if numbers and not set(numbers) <= set(classes) and _are_numbers(words, numbers, classes):
        return _as_numbers(words, numbers, classes, where)
    names = classes or _in_order(numbers)
    places = {name: place for place, name in enumerate(names)}
    bad = tuple(_unknown(i, word, names, where) for i, word in enumerate(words) if word not in places)
    return np.array([places.get(word, 0) for word in words], np.int64), names, bad


def whole_number(word: str) -> int | None:
    """Return the label that a word is, also as tables write whole numbers once a cell is missing ("3.0"); else None."""
    found = _WHOLE.fullmatch(word)
    return int(found[1]) if found else None


def _in_order(words: Iterable[str]) -> tuple[str, ...]:
    """Return words in sorted order, numbers by their values: -2, -1, 0.5, 10.5."""
    found = list(words)
    if all(is_number(word) and math.isfinite(read_number(word)) for word in found):
        return tuple(sorted(found, key=lambda word: (read_number(word), word)))
    return tuple(sorted(found))


def _are_numbers(words: Sequence[str], numbers: Mapping[str, int | None], classes: tuple[str, ...]) -> bool:
    """Say whether words are numbers of classes: all are, or all but a few, and no classes are known.

    Sorted with those few as names, every label would be another: "10" comes before "2".
    """
    others = sum(numbers[word] is None for word in words if word)
    return not others or (not classes and others < _FEW * len(words))


def _as_numbers(
    words: Sequence[str], numbers: Mapping[str, int | None], classes: tuple[str, ...], where: Callable[[int], str]
) -> tuple[Array, tuple[str, ...], tuple[Bad, ...]]:
    bad = []
    for i, word in enumerate(words):
        number = numbers.get(word)
        if number is None and word:
            bad.append(
                Bad(i, f"{where(i)}: {word[:80]!r} is not a number, as the other labels are", "correct the label")
            )
        elif number is None:
            bad.append(_unknown(i, word, classes, where))
        elif classes and number >= len(classes):
            bad.append(
                Bad(i, f"{where(i)}: the label {word} is beyond the {len(classes)} classes", "give labels from 0")
            )
    return np.array([numbers.get(word) or 0 for word in words], np.int64), classes, tuple(bad)


def common_classes(one: SampleSet, other: SampleSet) -> tuple[str, ...] | None:
    """Return the classes, in order, that number the labels of both; None where they number them alike as they are.

    Each source numbers the classes that it has, in sorted order unless something states another: where one lacks a
    class, the same label would mean another class in each. Raises ``DataError`` where neither has all classes, or two
    orders are stated.
    """
    if not (one.labelled and other.labelled and one.classes and other.classes) or one.classes == other.classes:
        return None
    stated = [found for found in (one, other) if list(found.classes) != sorted(found.classes)]
    whole = stated[0] if stated else max(one, other, key=lambda found: len(found.classes))
    lacking = sorted({*one.classes, *other.classes} - {*whole.classes})
    if len(stated) < 2 and not lacking:
        return whole.classes
    wrong = f"{whole.source} has no class {lacking[0]!r}" if lacking else "they have orders of their own"
    raise DataError(
        f"the labels of {one.source} and of {other.source} have different classes: {wrong}",
        hint="write all classes of the model, in its order: classes = [...] in the recipe's [task], or a labels.txt "
        "with one in a line in both folders",
    )


def _unknown(index: int, word: str, names: tuple[str, ...], where: Callable[[int], str]) -> Bad:
    if not word:
        return Bad(index, f"{where(index)} is empty", "write a label in every row")
    return Bad(index, f"{where(index)}: {word[:80]!r} is not a class of the model", suggestion(word, names))
