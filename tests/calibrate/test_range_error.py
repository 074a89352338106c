"""Costs of ranges against quantization value by value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.calibrate.histogram import Counts, Histogram, count_codes, to_histogram
from edgepack.calibrate.range_error import entropy_costs, squared_errors


def histogram_of(values: np.ndarray) -> Histogram:
    counts = Counts()
    counts.add(count_codes(values))
    return to_histogram(counts.table(), float(values.min()), float(values.max()))


def real_error(values: np.ndarray, low: float, high: float, steps: int) -> float:
    scale = (high - low) / steps
    zero = round(-low / scale)
    levels = np.clip(np.round(values.astype(np.float64) / scale) + zero, 0, steps) - zero
    return float(np.square(values - levels * scale).sum())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 500), low=st.floats(-4, -0.2), high=st.floats(0.2, 4), steps=st.sampled_from([255, 254, 15]))
def test_squared_errors_are_those_of_rounding(seed: int, low: float, high: float, steps: int) -> None:
    values = np.random.default_rng(seed).standard_normal(20_000).astype(np.float32)
    values = values[values != 0]
    (found,) = squared_errors(histogram_of(values), np.array([low]), np.array([high]), steps)
    # The values of a bin are taken as uniform: with many of them that is nearly what they are.
    assert found == pytest.approx(real_error(values, low, high, steps), rel=0.1)


def test_candidates_do_not_depend_on_each_other() -> None:
    histogram = histogram_of(np.random.default_rng(0).standard_normal(5000).astype(np.float32))
    lows, highs = -np.array([0.5, 1, 2, 3.0]), np.array([0.4, 1, 2.5, 3.0])
    for cost in (squared_errors, entropy_costs):
        together = cost(histogram, lows, highs, 255)
        alone = [float(cost(histogram, lows[n : n + 1], highs[n : n + 1], 255)[0]) for n in range(4)]
        np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_a_wider_range_clips_less_and_rounds_more() -> None:
    values = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    ends = np.array([0.5, 1, 2, 3, 4, 8, 16, 64.0])
    errors = squared_errors(histogram_of(values), -ends, ends, 254)
    best = int(errors.argmin())
    assert 0 < best < len(ends) - 1
    assert (np.diff(errors[: best + 1]) < 0).all()
    assert (np.diff(errors[best:]) > 0).all()


def test_clipping_alone_costs_the_distance_to_the_end() -> None:
    """All values beyond the range: one level holds them all."""
    values = np.full(100, 8.0, np.float32)
    (found,) = squared_errors(histogram_of(values), np.array([0.0]), np.array([2.0]), 255)
    assert found == pytest.approx(100 * 36.0, rel=1e-4)


def test_a_range_with_few_values_in_it_is_no_candidate() -> None:
    values = np.concatenate([np.linspace(0.1, 1, 100), np.linspace(50, 100, 9900)]).astype(np.float32)
    costs = entropy_costs(histogram_of(values), np.zeros(2), np.array([1.0, 100.0]), 128)
    assert costs[0] == np.inf
    assert np.isfinite(costs[1])


def test_levels_that_follow_the_density_lose_nothing() -> None:
    """Evenly spread values, a whole number of bins in each level: merging them loses nothing."""
    values = np.random.default_rng(0).uniform(0, 1, 400_000).astype(np.float32)
    whole, half = entropy_costs(histogram_of(values), np.zeros(2), np.array([1.0, 0.5]), 128)
    assert abs(whole) < 0.005
    assert half > 0.3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 500), st.floats(0.01, 100))
def test_costs_do_not_depend_on_the_unit(seed: int, exponent: float) -> None:
    factor = 2.0 ** round(exponent % 8)
    values = np.random.default_rng(seed).standard_normal(2000).astype(np.float32)
    ends = np.array([0.7, 1.9, 3.0])
    plain, scaled = histogram_of(values), histogram_of((values * factor).astype(np.float32))
    np.testing.assert_allclose(
        entropy_costs(scaled, -ends * factor, ends * factor, 255), entropy_costs(plain, -ends, ends, 255), rtol=1e-6
    )
    np.testing.assert_allclose(
        squared_errors(scaled, -ends * factor, ends * factor, 255) / factor**2,
        squared_errors(plain, -ends, ends, 255),
        rtol=1e-6,
    )
