from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgepack.verify import metrics


def test_top_k_counts_a_label_among_the_k_highest() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], np.float32)
    labels = np.array([1, 1, 0])
    assert metrics.top_k_correct(scores, labels, 1).tolist() == [True, False, False]
    assert metrics.top_k_correct(scores, labels, 2).tolist() == [True, True, False]


def test_a_constant_output_is_right_for_the_first_class_only() -> None:
    scores = np.zeros((3, 3), np.float32)
    assert metrics.top_k_correct(scores, np.array([0, 1, 2]), 1).tolist() == [True, False, False]


def test_nan_scores_are_wrong() -> None:
    scores = np.array([[np.nan, 1.0], [0.0, 1.0]], np.float32)
    assert metrics.top_k_correct(scores, np.array([1, 1]), 1).tolist() == [False, True]
    assert metrics.agreement(np.array([[0.0, 1.0], [0.0, 1.0]]), scores).tolist() == [False, True]


def test_the_paired_interval_is_not_empty_without_disagreement() -> None:
    same = np.ones(100, bool)
    low, high = metrics.paired_difference_ci95(same, same)
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
        low, high = metrics.paired_difference_ci95(first, second)
        covered += low <= truth <= high
    assert covered / rounds >= 0.93


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert metrics.proportion_ci95(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_mean_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 17)
    expected = stats.t.interval(0.95, 16, values.mean(), stats.sem(values))
    assert metrics.mean_ci95(values) == pytest.approx(expected)
    assert metrics.mean_ci95(values[:1]) is None


@given(st.floats(-60, 60))
def test_sqnr_is_the_ratio_of_energies_in_db(db: float) -> None:
    signal = np.array([4.0, 6.0])
    noise = signal * 10 ** (-db / 10)
    assert metrics.sqnr_db(signal, noise) == pytest.approx(db, abs=1e-6)


def test_sqnr_of_identical_outputs_has_no_number() -> None:
    assert metrics.sqnr_db(np.ones(3), np.zeros(3)) is None
    assert metrics.sqnr_ci95_db(np.ones(3), np.zeros(3), 0) is None


def test_the_sqnr_interval_holds_the_figure_and_is_reproducible() -> None:
    generator = np.random.default_rng(3)
    signal, noise = generator.gamma(2, 1, 80), generator.gamma(2, 0.01, 80)
    interval = metrics.sqnr_ci95_db(signal, noise, 5)
    figure = metrics.sqnr_db(signal, noise)
    assert interval is not None
    assert figure is not None
    assert interval[0] < figure < interval[1]
    assert interval == metrics.sqnr_ci95_db(signal, noise, 5)
    assert math.isfinite(interval[0])
