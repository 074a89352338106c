import math

import numpy as np
import pytest

from edgepack.benchmark.statistics import bootstrap, percentiles

pytestmark = pytest.mark.slow


def series(generator, n, dependence):
    """Log-normal latencies in ns with the autocorrelation of AR(1) in their logarithm."""
    from scipy.signal import lfilter

    noise = generator.standard_normal(n + 200)
    logs = lfilter([math.sqrt(1 - dependence**2)], [1, -dependence], noise)[200:]
    return (1e6 * np.exp(0.5 * logs)).astype(np.int64)


@pytest.mark.parametrize(
    ("dependence", "n", "p", "least"),
    [
        (0.0, 100, 50.0, 0.93),
        (0.0, 1000, 90.0, 0.93),
        (0.0, 1000, 99.0, 0.93),
        (0.5, 300, 50.0, 0.91),
        (0.5, 1000, 90.0, 0.91),
        (0.5, 3000, 99.0, 0.91),
        (0.9, 1000, 50.0, 0.86),
        (0.9, 3000, 90.0, 0.86),
    ],
)
def test_intervals_of_percentiles_cover_the_truth(dependence, n, p, least):
    """``least`` is what the method reaches, less three standard errors of 200 runs; strong dependence costs some."""
    from scipy import stats

    generator, runs, covered = np.random.default_rng(5), 200, 0
    true = 1e6 * math.exp(0.5 * stats.norm.ppf(p / 100))
    for seed in range(runs):
        found = percentiles.percentile(series(generator, n, dependence), p, seed).ci95_ns
        covered += found is None or found[0] <= true <= found[1]
    assert covered / runs >= least - 3 * math.sqrt(least * (1 - least) / runs)


@pytest.mark.parametrize(("dependence", "least"), [(0.0, 0.93), (0.5, 0.92), (0.9, 0.88)])
def test_intervals_of_the_mean_cover_the_truth(dependence, least):
    generator, runs, covered = np.random.default_rng(6), 200, 0
    true = 1e6 * math.exp(0.125)
    for seed in range(runs):
        low, high = bootstrap.mean_interval(series(generator, 1000, dependence), seed).ends
        covered += low <= true <= high
    assert covered / runs >= least - 3 * math.sqrt(least * (1 - least) / runs)


def test_blocks_would_be_too_short_without_the_autocorrelation():
    """The interval of dependent data is wider, as its long-run variance is: (1 + 0.9) / (1 - 0.9) = 19 times."""
    generator = np.random.default_rng(7)
    widths = []
    for dependence in (0.0, 0.9):
        ends = [bootstrap.mean_interval(series(generator, 4000, dependence), s).ends for s in range(20)]
        widths.append(np.mean([high - low for low, high in ends]))
    assert 2.5 < widths[1] / widths[0] < 5.5


def test_block_length_follows_the_autocorrelation():
    generator = np.random.default_rng(8)
    lengths = [
        np.median([bootstrap.block_length(series(generator, 2000, d)) for _ in range(20)]) for d in (0.0, 0.5, 0.9)
    ]
    assert lengths[0] <= 3 < lengths[1] < lengths[2]


@pytest.mark.parametrize("values", [np.zeros(100), np.arange(3), np.ones(7)])
def test_block_length_of_constant_or_short_series_is_one(values):
    assert bootstrap.block_length(values) == 1


def test_autocovariances_equal_their_definition():
    values = np.random.default_rng(9).integers(0, 1000, 50).astype(float)
    centred = values - values.mean()
    expected = [float((centred[: 50 - lag] * centred[lag:]).sum()) / 50 for lag in range(11)]
    np.testing.assert_allclose(bootstrap.autocovariances(values, 10), expected, rtol=1e-9, atol=1e-6)


def test_dependent_latencies_are_worth_fewer():
    generator = np.random.default_rng(10)
    free = bootstrap.quantile_interval(series(generator, 2000, 0.0), 1000, 0)
    bound = bootstrap.quantile_interval(series(generator, 2000, 0.9), 1000, 0)
    assert free.effective > 1000
    assert bound.effective < 400


def test_a_rank_whose_interval_leaves_the_data_has_none():
    assert bootstrap.quantile_interval(np.arange(100), 100, 0) is None


def test_constant_latencies_have_a_closed_interval():
    assert bootstrap.mean_interval(np.full(50, 7.0), 0).ends == (7.0, 7.0)
    assert percentiles.percentile(np.full(100, 7), 50.0, 0).ci95_ns == (7, 7)


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 100])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_student_quantiles(freedom, probability):
    from scipy import stats

    z = float(stats.norm.ppf(probability))
    expected = float(stats.t.ppf(probability, freedom))
    assert bootstrap.student_quantile(freedom, z) == pytest.approx(expected, rel=0.02)
    assert bootstrap.student_975(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), rel=2e-3)


@pytest.mark.parametrize("n", [8, 12, 24])
def test_intervals_of_few_values_are_wide_enough(n):
    """With few blocks the bootstrap alone covers in 86 to 89 of 100 cases."""
    random = np.random.default_rng(1)
    found = [bootstrap.mean_interval(random.normal(0, 1, n), seed).ends for seed in range(400)]
    assert np.mean([low <= 0 <= high for low, high in found]) >= 0.915
