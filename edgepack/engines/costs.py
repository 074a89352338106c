"""What operators cost in float and in int8, as far as an engine's kernels follow simple laws.

A cost is linear in what a node reads, makes and multiplies. Such a law is fitted once on one machine; it tells which
operators are worth computing in int8, and whether they were is measured where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cost:
    """CPU time of one node: ``node_ns``, and ns for each element that it makes or reads and for each multiply-add."""

    node_ns: float = 0.0
    made_ns: float = 0.0
    read_ns: float = 0.0
    mac_ns: float = 0.0

    def of(self, made: int, read: int, macs: int) -> float:
        """Return the time in ns of a node that makes and reads so many elements, with so many multiply-adds."""
        return self.node_ns + self.made_ns * made + self.read_ns * read + self.mac_ns * macs

    def times(self, factor: float) -> Cost:
        """Return the costs times a factor."""
        return Cost(*(factor * ns for ns in (self.node_ns, self.made_ns, self.read_ns, self.mac_ns)))


@dataclass(frozen=True)
class PrecisionCosts:
    """Costs of operators in float and in int8 by their kind, and of the conversions between.

    Kinds are operator types; of convolutions ``pointwise``, ``depthwise``, ``dense`` (larger kernels) and ``first``
    (such ones of few input channels, with what brings a picture in order); of products with weights ``vector`` (one
    row), else ``pointwise``. ``SiLU`` is of Sigmoid and Mul, which are one node in float. ``to_int8`` and ``to_float``
    are of a tensor that is quantized and dequantized; ``layout`` is added where one of the two sides stores channels
    otherwise. ``unfused``: of an activation behind an int8 convolution that is computed inside a float one; ``fuses``
    are the types of the nodes that such an activation consists of.
    """

    int8: Mapping[str, Cost]
    float32: Mapping[str, Cost]
    to_int8: Cost
    to_float: Cost
    layout: Cost
    unfused: Cost
    fuses: frozenset[str]

    def with_int8_at(self, factor: float) -> PrecisionCosts:
        """Return the same costs with those of int8 operators, not of conversions, times a factor."""
        return replace(self, int8={kind: cost.times(factor) for kind, cost in self.int8.items()})
