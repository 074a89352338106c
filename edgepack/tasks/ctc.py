"""Connectionist temporal classification: the classes of moments to a text (Graves et al. 2006), greedily."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array


def greedy(scores: Array, blank: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the best path through scores [moments, classes]: classes, repeats made one and blanks left out.

    With them the scores of the moments that each was first read at. A moment with a NaN is blank.
    """
    known = ~np.isnan(scores).any(axis=1)
    best = np.where(known, np.argmax(np.nan_to_num(scores, nan=-np.inf), axis=1), blank)
    first = np.concatenate(([True], best[1:] != best[:-1])) if len(best) else np.zeros(0, bool)
    kept = np.flatnonzero(first & (best != blank))
    return tuple(int(c) for c in best[kept]), tuple(float(scores[i, best[i]]) for i in kept)


def spell(numbers: Sequence[int], charset: Sequence[str], blank: int) -> str:
    """Return the text of classes; ``charset`` are the classes without the blank, in order.

    A class behind the end of the charset is a blank letter, which recognizers that read words have as their last class.
    """
    places = (number - (number > blank) for number in numbers)
    return "".join(charset[place] if place < len(charset) else " " for place in places)
