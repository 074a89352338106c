"""mse: the range of least expected squared error."""

from __future__ import annotations

from edgepack.calibrate.observers import Ends, RangeObserver, Seen
from edgepack.calibrate.observers.search import STEPS, SYMMETRIC_STEPS, best_ends, best_magnitude
from edgepack.calibrate.range_error import squared_errors


def _choose(seen: Seen) -> Ends:
    """Return the ends that minimise the expected squared error of 8-bit quantization, rounding and clipping together.

    See ``squared_errors``. Zeros are exact in either scheme and count for nothing.
    """
    magnitude = best_magnitude(
        lambda ends: squared_errors(seen.folded, -ends, ends, SYMMETRIC_STEPS), seen.plain.magnitude
    )
    low, high = best_ends(squared_errors, seen.histogram, seen.plain, STEPS)
    return Ends(low, high, magnitude)


OBSERVER = RangeObserver(_choose)
