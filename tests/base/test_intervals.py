from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgepack.base import intervals


def test_the_paired_interval_is_not_empty_without_disagreement() -> None:
    same = np.ones(100, bool)
    low, high = intervals.paired_difference_ci95(same, same)
    assert low < 0 < high


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_the_paired_interval_covers_the_truth(share: float) -> None:
    generator = np.random.default_rng(1)
    n, covered, rounds = 200, 0, 400
    for _ in range(rounds):
        first = generator.random(n) < 0.9
        flips = generator.random(n) < share
        second = np.where(flips, ~first, first)
        truth = 0.9 - (0.9 * (1 - share) + 0.1 * share)
        low, high = intervals.paired_difference_ci95(first, second)
        covered += low <= truth <= high
    assert covered / rounds >= 0.93


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert intervals.proportion_ci95(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_mean_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 17)
    expected = stats.t.interval(0.95, 16, values.mean(), stats.sem(values))
    assert intervals.mean_ci95(values) == pytest.approx(expected)
    assert intervals.mean_ci95(values[:1]) is None
