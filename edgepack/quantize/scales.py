"""Scale and zero point of an activation tensor, from its range and the target's rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepack.specs.data import TensorRange
from edgepack.specs.target import QuantizationRules

# Below this a scale's reciprocal is not a float32 any more, and engines multiply by reciprocals.
SMALLEST_SCALE = 2.0**-120
# How far above what was measured an output with known bounds may go: two bits of eight.
_ROOM = 4.0


@dataclass(frozen=True)
class ActivationScale:
    """How a tensor is stored: ``real = (integer - zero_point) * scale``; ``dtype`` is uint8 or int8."""

    scale: float
    zero_point: int
    dtype: str

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        return integer_limits(self.dtype)

    @property
    def low(self) -> float:
        """The least value that can be stored, as engines compute it in float32."""
        return float(np.float32(self.scale) * np.float32(self.limits[0] - self.zero_point))

    @property
    def high(self) -> float:
        """The greatest value that can be stored, as engines compute it in float32."""
        return float(np.float32(self.scale) * np.float32(self.limits[1] - self.zero_point))


def integer_limits(dtype: str) -> tuple[int, int]:
    """Return the least and the greatest value of uint8 or int8."""
    return (0, 255) if dtype == "uint8" else (-128, 127)


def join_ranges(ranges: list[TensorRange]) -> TensorRange:
    """Return the smallest range that holds all of ``ranges``, for tensors that must share one scale."""
    return TensorRange(
        minimum=min(r.minimum for r in ranges),
        maximum=max(r.maximum for r in ranges),
        low=min(r.low for r in ranges),
        high=max(r.high for r in ranges),
        magnitude=max(r.magnitude for r in ranges),
    )


def bounded_range(low: float, high: float, measured: TensorRange | None) -> TensorRange:
    """Return the range of an output that by construction stays within [low, high]; ``low`` is 0.

    Where the samples stay far below ``high`` it is a few times what they reach: a probability of one in 640 tokens
    would be less than half a step of the whole range, and a score that was low on all samples may be high on others.
    """
    if measured is not None and 0 < _ROOM * measured.maximum < high:
        high = _ROOM * measured.maximum
    return TensorRange(low, high, low, high, max(abs(low), abs(high)))


def activation_scale(chosen: TensorRange, rules: QuantizationRules) -> ActivationScale:
    """Return scale and zero point for a range; zero is always stored exactly, as ONNX's padding needs.

    Asymmetric: ``scale = (high - low) / 255``, ``zero_point = round(qmin - low / scale)``. Symmetric: zero point 0 and
    ``scale = magnitude / 127``; symmetric uint8 stores what is never negative from 0 on, else around 128. The scale is
    float32 and never so large that the stored range leaves the chosen one at an end that is zero or beyond
    (engines drop a Relu or Clip only then). A range of zero width around zero gets the scale 1.
    """
    low, high = min(chosen.low, 0.0), max(chosen.high, 0.0)
    if rules.activation_symmetric and not (rules.activation_type == "uint8" and low == 0.0):
        zero = 128 if rules.activation_type == "uint8" else 0
        return ActivationScale(_usable(chosen.magnitude / 127), zero, rules.activation_type)
    least, greatest = integer_limits(rules.activation_type)
    scale = _usable((high - low) / (greatest - least))
    zero = int(np.clip(np.round(least - low / scale), least, greatest))
    result = ActivationScale(scale, zero, rules.activation_type)
    while low == 0.0 and high / scale > 1 and result.high > high:
        scale = float(np.nextafter(np.float32(scale), np.float32(0)))
        result = ActivationScale(scale, zero, rules.activation_type)
    return result


def _usable(scale: float) -> float:
    """Return a float32 scale that engines can invert; 1 stands in for a range without width."""
    rounded = float(np.float32(scale))
    return rounded if rounded >= SMALLEST_SCALE else 1.0
