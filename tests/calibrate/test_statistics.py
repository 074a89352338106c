"""Extremes and counts, which depend on no order."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.calibrate.histogram import Counts, count_codes
from edgepack.calibrate.statistics import Extremes, Statistics, derive, extremes_of
from edgepack.specs.calibration import Derivation

FLOATS = st.floats(-1e4, 1e4, width=32)
SAMPLES = st.lists(arrays(np.float32, st.integers(0, 8), elements=FLOATS), min_size=1, max_size=6)


def statistics_of(samples: list[np.ndarray]) -> Statistics:
    result = Statistics(counts=Counts())
    for sample in samples:
        result.add(extremes_of(sample, histogram=True))
    return result


def same(first: Statistics, second: Statistics) -> bool:
    tables = []
    for one in (first, second):
        assert one.counts is not None
        table = one.counts.table()
        table[0] += table[1 << 15]  # zeros of both signs are counted as one
        table[1 << 15] = 0
        tables.append(table)
    return (first.minimum, first.maximum) == (second.minimum, second.maximum) and (tables[0] == tables[1]).all()


@given(SAMPLES, st.randoms())
def test_the_order_of_samples_and_their_batches_do_not_matter(samples: list[np.ndarray], chance: random.Random) -> None:
    shuffled = list(samples)
    chance.shuffle(shuffled)
    whole = statistics_of(samples)
    assert same(whole, statistics_of(shuffled))
    assert same(whole, statistics_of([np.concatenate(samples)]))


def test_nothing_seen_has_no_range() -> None:
    assert (Statistics().minimum, Statistics().maximum) == (math.inf, -math.inf)
    empty = extremes_of(np.zeros((0, 3), np.float32), histogram=True)
    assert empty == Extremes(math.inf, -math.inf)
    assert empty.finite


@pytest.mark.parametrize(
    ("values", "finite"), [([1, 2], True), ([1, np.nan], False), ([np.inf], False), ([-np.inf, 0], False)]
)
def test_what_is_not_finite_is_told_and_not_counted(values: list[float], finite: bool) -> None:
    found = extremes_of(np.float32(values), histogram=True)
    assert found.finite == finite
    assert (found.counted is not None) == finite


def test_a_zero_has_no_sign() -> None:
    for values in ([0.0, -0.0], [-0.0, 0.0], [-0.0]):
        found = extremes_of(np.float32(values), histogram=False)
        assert math.copysign(1, found.minimum) == math.copysign(1, found.maximum) == 1.0


def test_without_a_histogram_nothing_is_counted() -> None:
    assert extremes_of(np.float32([1, 2]), histogram=False).counted is None
    statistics = Statistics()
    statistics.add(extremes_of(np.float32([1, 2]), histogram=True))
    assert statistics.counts is None


@given(SAMPLES, FLOATS, st.floats(0, 1e4, width=32))
def test_what_follows_from_another_tensor_is_as_if_measured(
    samples: list[np.ndarray], low: float, width: float
) -> None:
    high = float(np.float32(low + width))
    derived = derive(Derivation("clipped", ("source",), low, high), [statistics_of(samples)])
    clipped = [np.clip(sample, np.float32(low), np.float32(high)) for sample in samples]
    assert same(derived, statistics_of(clipped))


@given(SAMPLES, SAMPLES)
def test_what_joins_two_tensors_has_the_values_of_both(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    joined = derive(Derivation("both", ("a", "b")), [statistics_of(first), statistics_of(second)])
    assert same(joined, statistics_of([*first, *second]))


def test_extremes_alone_are_derived_without_counts() -> None:
    found = derive(Derivation("t", ("a",), 0.0, 6.0), [Statistics(-3.0, 9.0)])
    assert (found.minimum, found.maximum, found.counts) == (0.0, 6.0, None)


def test_counts_are_those_of_the_values() -> None:
    values = np.float32([1, 1, -2, 0])
    found = extremes_of(values, histogram=True).counted
    assert found is not None
    np.testing.assert_array_equal(found, count_codes(values))
    assert found.sum() == 4
