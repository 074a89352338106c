"""How much further than all samples that were seen the next one may go, for each channel of a tensor.

Beyond a high value the extremes of samples are taken to fall off exponentially, as many distributions do there
(Pickands, "Statistical Inference Using Extreme Order Statistics", 1975, shape 0): a tail has one number, its length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# The highest of the samples, one in so many, show a channel's tail.
_ONE_IN = 4
# Fewer samples show none: four extremes of 16 are too few to take a length from (with the room that they asked for,
# three detectors lost 2 to 5 dB).
FEWEST = 32


def tail_lengths(extremes: Array) -> Array:
    """Return the length of each channel's tail, in the unit of the values: 0 where samples show none.

    ``extremes`` [samples, channels]: the largest value of each channel in each sample. The mean excess of the highest
    samples over the next below them is the tail's length. Whether tails are longer than exponential ones, a tensor's
    channels tell together: the square of the gap between the two highest has the mean 2 length^2 in exponential ones.
    All lengths are multiplied by what brings its mean over channels there.
    """
    samples, channels = extremes.shape
    if samples < FEWEST:
        return np.zeros(channels)
    highest = samples // _ONE_IN
    ordered = np.partition(extremes.astype(np.float64), [samples - highest - 1, samples - 2, samples - 1], axis=0)
    lengths = ordered[samples - highest :].mean(axis=0) - ordered[samples - highest - 1]
    gaps = ordered[-1] - ordered[-2]
    expected = 2 * np.square(lengths).mean()
    if not np.isfinite(expected) or expected <= 0:
        return np.zeros(channels)
    return np.asarray(lengths * np.sqrt(np.square(gaps).mean() / expected))
