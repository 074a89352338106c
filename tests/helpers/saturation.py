"""How near integer weights come to saturating 16-bit sums."""

from __future__ import annotations

import numpy as np


def worst_pair(integers: np.ndarray, orders: tuple[np.ndarray, ...]) -> int:
    """Return the largest absolute sum of two neighbours in ``integers`` [channels, terms]; 0 without neighbours."""
    wide = integers.astype(np.int64)
    return max((int(np.abs(wide[:, p[:, 0]] + wide[:, p[:, 1]]).max(initial=0)) for p in orders), default=0)
