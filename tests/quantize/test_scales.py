"""Scales and zero points: every rule, on ranges of every kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.quantize.scales import activation_scale, join_ranges
from edgepack.specs.data import TensorRange
from edgepack.specs.target import QuantizationRules

RULES = [
    QuantizationRules(activation_type=kind, activation_symmetric=symmetric)  # type: ignore[arg-type]
    for kind, symmetric in itertools.product(("uint8", "int8"), (False, True))
]
floats = st.floats(-(2.0**100), 2.0**100, width=32)


def span(low: float, high: float) -> TensorRange:
    return TensorRange(low, high, low, high, max(abs(low), abs(high)))


@given(floats, floats, st.sampled_from(RULES))
def test_zero_is_exact_and_the_range_is_covered(a: float, b: float, rules: QuantizationRules) -> None:
    low, high = min(a, b), max(a, b)
    scale = activation_scale(span(low, high), rules)
    least, greatest = scale.limits
    assert least <= scale.zero_point <= greatest
    assert scale.scale > 0
    assert np.isfinite(np.float32(1) / np.float32(scale.scale))
    if high - low > 1e-30:
        assert scale.low <= min(low, 0) + scale.scale * 0.51
        assert scale.high >= max(high, 0) - scale.scale * 0.51 - 1e-6 * abs(high)


@given(st.floats(2.0**-60, 2.0**60, width=32))
def test_what_is_never_negative_starts_at_the_least_integer(high: float) -> None:
    for kind, least in (("uint8", 0), ("int8", -128)):
        scale = activation_scale(span(0.0, high), QuantizationRules(activation_type=kind))  # type: ignore[arg-type]
        assert scale.zero_point == least
        assert scale.high <= high, "a Clip at this value would not be dropped by the engine"


@pytest.mark.parametrize("rules", [RULES[1], RULES[3]])
def test_symmetric_uses_the_magnitude(rules: QuantizationRules) -> None:
    scale = activation_scale(TensorRange(-3.0, 1.0, -3.0, 1.0, 2.54), rules)
    assert scale.scale == pytest.approx(0.02)
    assert scale.zero_point == (128 if rules.activation_type == "uint8" else 0)


def test_symmetric_uint8_of_what_is_never_negative_has_zero_point_zero() -> None:
    scale = activation_scale(span(0.0, 255.0), RULES[1])
    assert (scale.scale, scale.zero_point) == (1.0, 0)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("value", [0.0, 1e-44, -1e-44])
def test_range_without_width_has_a_scale_that_engines_can_invert(rules: QuantizationRules, value: float) -> None:
    assert activation_scale(span(min(value, 0), max(value, 0)), rules).scale == 1.0


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("value", [5.0, -5.0])
def test_constant_activation_is_stored_nearly_exactly(rules: QuantizationRules, value: float) -> None:
    scale = activation_scale(TensorRange(value, value, value, value, 5.0), rules)
    integer = np.clip(np.rint(value / scale.scale) + scale.zero_point, *scale.limits)
    assert (integer - scale.zero_point) * scale.scale == pytest.approx(value, rel=1e-6)


def test_joined_ranges_hold_all() -> None:
    joined = join_ranges([span(-1.0, 2.0), TensorRange(-9.0, 9.0, -0.5, 7.0, 3.0)])
    assert (joined.minimum, joined.maximum, joined.low, joined.high, joined.magnitude) == (-9.0, 9.0, -1.0, 7.0, 3.0)
