import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.benchmark.statistics import percentiles


@settings(deadline=None)  # a busy machine takes its time
@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0])
)
def test_nearest_rank_is_the_least_value_with_enough_at_or_below_it(values, p):
    found = percentiles.nearest_rank(np.sort(np.array(values)), p)
    share = [sum(v <= x for v in values) / len(values) for x in values]
    assert found == min(x for x, s in zip(values, share, strict=True) if s >= p / 100 - 1e-12)


def test_percentiles_with_decimals_do_not_round_up_a_rank():
    assert percentiles.rank(1000, 99.9) == 999
    assert percentiles.rank(10, 90.0) == 9


@pytest.mark.parametrize(("p", "needed"), [(50.0, 11), (90.0, 64), (99.0, 662)])
def test_the_least_number_of_queries_is_loadgens(p, needed):
    assert percentiles.queries_needed(p) == needed


@settings(deadline=None)  # a busy machine takes its time
@given(st.integers(2, 5000), st.integers(0, 60), st.sampled_from([0.5, 0.1, 0.03, 0.01, 0.001]))
def test_the_tail_equals_the_incomplete_beta_function(n, k, probability):
    from scipy.special import betainc

    if k >= n:
        assert percentiles.binomial_tail(n, k, probability) == 1
        return
    expected = float(betainc(n - k, k + 1, 1 - probability))
    # Below about 1e-288 SciPy returns 0 where the exact sum is not (n = 1075, k = 16: 3.4e-289).
    assert percentiles.binomial_tail(n, k, probability) == pytest.approx(expected, rel=1e-8, abs=1e-288)


@pytest.mark.parametrize("p", [50.0, 90.0, 97.0, 99.0, 99.9])
@pytest.mark.parametrize("over", [1, 2, 5, 20])
def test_one_query_less_than_needed_is_not_enough(p, over):
    from scipy.special import betainc

    n = percentiles.queries_needed(p, over)
    assert betainc(n - over, over + 1, p / 100) <= 0.01 < betainc(n - 1 - over, over + 1, p / 100)


@settings(deadline=None)  # a busy machine takes its time
@given(st.integers(1, 3000), st.sampled_from([50.0, 90.0, 99.0]))
def test_as_many_slow_queries_are_allowed_as_their_number_supports(n, p):
    over = percentiles.allowed_over(n, p)
    if over:
        assert percentiles.queries_needed(p, over) <= n
    assert percentiles.queries_needed(p, over + 1) > n


def early_stopping_estimate(ordered, p):
    """Return LoadGen's estimate of a percentile, from how many queries are allowed above it; None with too few."""
    over = percentiles.allowed_over(len(ordered), p)
    return int(ordered[len(ordered) - over]) if over else None


def test_the_early_stopping_estimate_is_the_largest_of_64_for_p90():
    latencies = np.arange(64)
    assert early_stopping_estimate(latencies, 90.0) == 63
    assert early_stopping_estimate(latencies[:63], 90.0) is None


def test_the_early_stopping_estimate_is_a_bound_in_99_of_100_runs():
    generator = np.random.default_rng(4)
    runs, true = 2000, -math.log(0.1)  # p90 of the unit exponential distribution
    draws = np.sort(generator.exponential(size=(runs, 200)), axis=1) * 1e9
    below = sum(early_stopping_estimate(run, 90.0) < true * 1e9 for run in draws)
    assert below / runs <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)


def test_a_percentile_that_the_queries_do_not_support_is_absent():
    p50, p90, p99 = percentiles.percentiles(np.arange(100, 200), 0, which=(50.0, 90.0, 99.0))
    assert p50.value_ns == 149
    assert p90.value_ns == 189
    assert (p99.value_ns, p99.ci95_ns, p99.queries_needed) == (None, None, 662)


def test_no_slow_query_is_dropped():
    latencies = np.full(100, 10)
    latencies[40:45] = 10**9
    assert percentiles.distribution(latencies)[-1] == 10**9
    assert percentiles.percentile(latencies, 95.0, 0).value_ns is None
    latencies = np.tile(latencies, 2)
    assert percentiles.percentile(latencies, 95.0, 0).value_ns == 10
    latencies[0] = 10**9
    assert percentiles.percentile(latencies, 95.0, 0).value_ns == 10**9


def test_the_same_data_and_seed_give_the_same_interval():
    latencies = np.random.default_rng(0).integers(900, 1100, 500)
    first = percentiles.percentiles(latencies, 7)
    assert first == percentiles.percentiles(latencies, 7)


def test_what_differs_between_launches_is_in_the_interval():
    parts = [np.full(200, median) for median in (100, 102, 104, 98, 96)]
    latencies = np.concatenate(parts)
    low, high = percentiles.percentile(latencies, 50.0, 0, [200] * 5).ci95_ns
    half = 2.776 * math.sqrt(10) / math.sqrt(5)  # Student's t of 4 degrees, standard deviation of the five medians
    assert low <= 100 - half + 1
    assert high >= 100 + half - 1
    assert [len(part) for part in percentiles.split(latencies, [200, 300, 500])] == [200, 300, 500]


def test_one_launch_changes_nothing():
    latencies = np.random.default_rng(0).integers(900, 1100, 500)
    assert percentiles.percentile(latencies, 50.0, 0, [500]) == percentiles.percentile(latencies, 50.0, 0)


@pytest.mark.parametrize("launch_sd", [0.0, 0.005, 0.05])
def test_intervals_of_two_measurements_cover_their_pooled_median(launch_sd):
    """Each launch's latencies are shifted as a whole, as a load's luck with memory does."""
    generator = np.random.default_rng(12)

    def measured():
        parts = [generator.lognormal(generator.normal(0, launch_sd), 0.05, 300) * 1e6 for _ in range(5)]
        return np.concatenate(parts).astype(np.int64)

    covered = 0
    for seed in range(100):
        both = [measured(), measured()]
        pooled = percentiles.nearest_rank(np.sort(np.concatenate(both)), 50.0)
        ends = [percentiles.percentile(one, 50.0, seed, [300] * 5).ci95_ns for one in both]
        covered += all(low <= pooled <= high for low, high in ends)
    assert covered >= 90


def test_coefficient_of_variation():
    assert percentiles.coefficient_of_variation(np.array([1.0, 3.0])) == pytest.approx(math.sqrt(2) / 2)
    assert percentiles.coefficient_of_variation(np.array([1.0])) is None
    assert percentiles.coefficient_of_variation(np.array([0, 0])) is None


def test_the_distribution_has_both_ends_and_is_ascending():
    values = np.random.default_rng(0).integers(0, 10**6, 1000)
    points = percentiles.distribution(values)
    assert len(points) == 101
    assert points[0] == values.min()
    assert points[-1] == values.max()
    assert list(points) == sorted(points)
    assert percentiles.distribution(np.array([5, 3])) == (3, 5)
    assert percentiles.distribution(np.array([], int)) == ()
