"""percentile: the range that holds a share of the values."""

from __future__ import annotations

import numpy as np

from edgepack.calibrate.histogram import Histogram
from edgepack.calibrate.observers import Ends, RangeObserver, Seen


def _choose(seen: Seen) -> Ends:
    """Return ends such that ``seen.percentile`` per cent of all values, zeros included, lie inside.

    Asymmetric: half of the others is cut at either end of the two-sided distribution (as ONNX Runtime's
    PercentileCalibrater). Symmetric: they are the largest magnitudes (Wu et al., "Integer Quantization for Deep
    Learning Inference", arXiv 2004.09602, section 3.3).
    """
    histogram = seen.histogram
    cut = (100.0 - seen.percentile) / 100.0
    total = histogram.total + histogram.zeros
    below = float(histogram.below(np.zeros(1))[0])
    low = _value_at(histogram, total * cut / 2, below)
    high = _value_at(histogram, total * (1 - cut / 2), below)
    return Ends(low, high, _value_at(seen.folded, total * (1 - cut), 0.0))


def _value_at(histogram: Histogram, rank: float, below_zero: float) -> float:
    """Return the value with ``rank`` values below it; ``below_zero`` of the histogram's are negative."""
    if below_zero < rank <= below_zero + histogram.zeros:
        return 0.0
    if rank > below_zero:
        rank -= histogram.zeros
    sums = np.cumsum(histogram.counts)
    place = min(int(np.searchsorted(sums, rank)), len(sums) - 1)
    if histogram.exact[place]:
        return float(histogram.ends[place] if histogram.starts[place] > 0 else histogram.starts[place])
    inside = (rank - (sums[place] - histogram.counts[place])) / histogram.counts[place]
    start, end = histogram.starts[place], histogram.ends[place]
    return float(start + min(max(inside, 0.0), 1.0) * (end - start))


OBSERVER = RangeObserver(_choose, parameters=("percentile",))
