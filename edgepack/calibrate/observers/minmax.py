"""minmax: the range of the extremes seen."""

from __future__ import annotations

from edgepack.calibrate.observers import Ends, RangeObserver, Seen


def _choose(seen: Seen) -> Ends:
    return Ends(seen.plain.low, seen.plain.high, seen.plain.magnitude)


OBSERVER = RangeObserver(_choose, needs_counts=False)
