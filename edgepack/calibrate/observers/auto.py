"""auto: for each tensor the range of another observer that changes the layers reading it least.

What a range costs depends on what is computed from the tensor: clipping a peak costs a classifier nothing and a
detector its boxes, and channels of one tensor may differ by orders of magnitude. So ranges are tried on the layers
themselves (``calibrate/choice.py``): by their outputs, as Q-YOLO (arXiv 2307.04816) and DetPTQ (arXiv 2304.09785) do,
but without labels, and each channel by its own signal.
"""

from __future__ import annotations

from edgepack.calibrate.observers import Ends, RangeObserver, Seen


def _choose(seen: Seen) -> Ends:
    """Return the extremes, which stand for tensors that nothing could be tried on."""
    plain = seen.plain
    return Ends(plain.low, plain.high, plain.magnitude)


OBSERVER = RangeObserver(_choose, among=("minmax", "percentile", "mse", "entropy"))
