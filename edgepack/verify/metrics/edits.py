"""How many letters or words must be changed, put in or left out to make one text another."""

from __future__ import annotations

from collections.abc import Sequence


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Return Levenshtein's distance of two sequences (1966): the least number of changes, insertions and deletions.

    Computed row by row (Wagner and Fischer 1974); insertions along a row are a running minimum.
    """
    import numpy as np

    numbers = {item: number for number, item in enumerate(dict.fromkeys([*one, *other]))}
    across = np.array([numbers[item] for item in other], np.int64)
    place = np.arange(len(other) + 1)
    row = place.copy()
    for i, item in enumerate(one, 1):
        changed = row[:-1] + (across != numbers[item])
        row = np.concatenate(([i], np.minimum(changed, row[1:] + 1)))
        row = np.minimum.accumulate(row - place) + place
    return int(row[-1])
