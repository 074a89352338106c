"""What fp32's outputs are over all samples: constant, or so near to zero that no ratio to them means anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array


@dataclass(frozen=True)
class Span:
    """One output of the fp32 model over ``n`` samples.

    ``constant``: every sample's values are the same. ``largest`` is the largest magnitude of a finite value, and
    ``max_abs`` the largest difference of a compared model's values from it.
    """

    name: str
    n: int
    constant: bool
    largest: float
    max_abs: float = 0.0

    def nearly_zero(self, within: float) -> bool:
        """Return whether no value is further than ``within`` from zero; an output of zeros only is not meant."""
        return 0 < self.largest <= within


class SpanSums:
    """Takes in samples one by one; memory is one sample's outputs."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._first: dict[str, Array] = {}
        self._same = dict.fromkeys(names, True)
        self._largest = dict.fromkeys(names, 0.0)
        self._apart = dict.fromkeys(names, 0.0)
        self._n = 0

    def add(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Take in one sample's fp32 outputs and the compared model's."""
        for name in self._names:
            value = np.asarray(expected[name])
            first = self._first.setdefault(name, np.array(value))
            if self._same[name]:
                self._same[name] = np.array_equal(first, value, equal_nan=value.dtype.kind == "f")
            self._largest[name] = max(self._largest[name], _largest(value))
            if np.shape(found[name]) == value.shape:
                with np.errstate(invalid="ignore", over="ignore"):
                    apart = np.asarray(found[name], np.float64) - value.astype(np.float64)
                self._apart[name] = max(self._apart[name], _largest(apart))
        self._n += 1

    def result(self) -> tuple[Span, ...]:
        """Return a span for each output."""
        return tuple(
            Span(name, self._n, self._same[name] and self._n > 1, self._largest[name], self._apart[name])
            for name in self._names
        )


def _largest(values: Array) -> float:
    magnitudes = np.abs(values[np.isfinite(values)].astype(np.float64))
    return float(magnitudes.max()) if magnitudes.size else 0.0
