"""The integers that OpenVINO holds: it computes those of 64 bits in 32, some in float32, and tells nobody."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.graph.integer_ranges import HIGHEST, LOWEST

EXACT = 2**24  # float32 holds all whole numbers up to here


def beyond(array: Any, *, exact: bool) -> int | None:
    """Return an integer of an array that 32 bits, or float32 unless ``exact``, do not hold; None where all are held."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or not array.size:
        return None
    lowest, highest = (LOWEST, HIGHEST) if exact else (-EXACT, EXACT)
    low, high = int(array.min()), int(array.max())
    if high > highest:
        return high
    return low if low < lowest else None
