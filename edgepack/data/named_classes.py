"""Words of a label column to the numbers of classes, in the order of the model's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.data.source import Bad
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepack.specs.data import SampleSet
    from edgepack.specs.types import Array


def number_classes(
    words: Sequence[str], classes: tuple[str, ...], where: Callable[[int], str]
) -> tuple[Array, tuple[str, ...], tuple[Bad, ...]]:
    """Return the labels int64 [n], the names of the classes, and the samples whose word is none of them.

    Words that all are whole numbers from 0 are labels as they are, where the classes do not name them; else a word is
    its place in ``classes``, or among all words in sorted order where no classes are known. ``where`` names a sample.
    """
    words = [word.strip() for word in words]
    whole = all(word.isascii() and word.isdigit() and len(word) < 10 for word in words)
    if whole and not set(words) <= set(classes):
        bad = tuple(
            Bad(i, f"{where(i)}: the label {word} is beyond the {len(classes)} classes", "give labels from 0")
            for i, word in enumerate(words)
            if classes and int(word) >= len(classes)
        )
        return np.array([int(word) for word in words], np.int64), classes, bad
    names = classes or tuple(sorted({word for word in words if word}))
    numbers = {name: number for number, name in enumerate(names)}
    bad = tuple(_unknown(i, word, names, where) for i, word in enumerate(words) if word not in numbers)
    return np.array([numbers.get(word, 0) for word in words], np.int64), names, bad


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
