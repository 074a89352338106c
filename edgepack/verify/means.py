"""What outputs have in common over all samples: the mean of each value, which tells no sample from another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.verify.distance import is_decision

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# An output of which no more than this share of the energy varies is constant but for rounding: fp32 engines differ by
# as much (117 to 174 dB, see tolerance.py).
CONSTANT = 1e-12


def sample_means(names: Sequence[str], outputs: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """Return for each output the mean of each value over samples, float64, broadcastable against each sample's.

    ``outputs`` are one mapping a sample; memory is two of them. Along axes whose extent differs between samples, as a
    number of words, there is one mean. Values that are not finite do not count; where none is, the mean is 0.
    Decisions, and outputs of which samples differ in rank, have none.
    """
    sums: dict[str, _Sum] = {}
    for sample in outputs:
        for name in names:
            value = np.asarray(sample[name])
            if is_decision(value):
                continue
            if name not in sums:
                sums[name] = _Sum(list(value.shape), np.zeros(value.shape), np.zeros(value.shape))
            sums[name].add(value)
    return {name: found.total / np.maximum(found.count, 1.0) for name, found in sums.items() if found.known}


@dataclass
class _Sum:
    """``total`` and ``count`` of the finite values at each place; ``extents`` are those of all samples, -1 if others.

    ``known`` is False from the first sample of another rank on.
    """

    extents: list[int]
    total: Array
    count: Array
    known: bool = True

    def add(self, value: Array) -> None:
        if value.ndim != len(self.extents):
            self.known = False
        if not self.known:
            return
        for axis, extent in enumerate(value.shape):
            if self.extents[axis] not in (extent, -1):
                self.extents[axis] = -1
                self.total = self.total.sum(axis=axis, keepdims=True)
                self.count = self.count.sum(axis=axis, keepdims=True)
        free = tuple(axis for axis, extent in enumerate(self.extents) if extent == -1)
        finite = np.isfinite(value)
        self.total += np.where(finite, value, 0).sum(axis=free, keepdims=True, dtype=np.float64)
        self.count += finite.sum(axis=free, keepdims=True)


def offsets_db(outputs: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Return for each output how much larger its energy is than that of what varies between samples, in dB.

    It is 0 where that is not known: of one sample, of decisions, and of outputs that do not vary.
    """
    names, n = list(outputs[0]), len(outputs)
    means = sample_means(names, outputs)
    found = dict.fromkeys(names, 0.0)
    for name, mean in means.items():
        values = [np.asarray(sample[name], np.float64) for sample in outputs]
        whole, varying = (
            sum(float(np.square(part, where=np.isfinite(part), out=np.zeros_like(part)).sum()) for part in parts)
            for parts in (values, [value - mean for value in values])
        )
        if n > 1 and varying > CONSTANT * whole:
            found[name] = max(0.0, 10 * math.log10(whole * (n - 1) / (varying * n)))
    return found
