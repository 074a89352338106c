"""entropy: the range that loses least information, by the Kullback-Leibler divergence (Migacz 2017)."""

from __future__ import annotations

import numpy as np

from edgepack.calibrate.observers import Ends, RangeObserver, Seen
from edgepack.calibrate.observers.search import STEPS, best_ends, best_magnitude
from edgepack.calibrate.range_error import entropy_costs

# Migacz (2017) merges the histogram of magnitudes into 128 levels.
_MAGNITUDE_STEPS = 128


def _choose(seen: Seen) -> Ends:
    """Return the ends that lose least information.

    See ``entropy_costs``. The symmetric range merges magnitudes into 128 levels, as in the paper; the asymmetric one
    merges the values themselves into 255. Exact zeros, which a rectifier makes by the million and every level set
    holds exactly, are left out, as TensorRT's calibrator leaves out its first bin.
    """
    magnitude = best_magnitude(
        lambda ends: entropy_costs(seen.folded, np.zeros_like(ends), ends, _MAGNITUDE_STEPS), seen.plain.magnitude
    )
    low, high = best_ends(entropy_costs, seen.histogram, seen.plain, STEPS)
    return Ends(low, high, magnitude)


OBSERVER = RangeObserver(_choose)
