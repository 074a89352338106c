import dataclasses

import numpy as np
import pytest
from simulated import subject

from edgepack.base import documents
from edgepack.benchmark.machine import validity
from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure import summary
from edgepack.specs.result import Memory, Result, Scenario, Steady

SECOND = 10**9
QUIET = {"cpu_busy_s": 1.0}
AROUND = summary.Circumstances(
    before=QUIET,
    after=QUIET,
    run=validity.Run(1.0, Usage(1.0), 4),
    measured_at="2026-01-02T03:04:05Z",
    warmup_queries=10,
    warmup_ns=100,
    warmup_stable=True,
    memory=Memory(10, 30, 35, 40, 50),
    energy_uj=None,
    energy_source="no sensor",
)


def result(latencies, name="SingleStream", duration_ns=None, rate=None, around=AROUND, **settings):
    latencies = np.asarray(latencies, dtype=np.int64)
    duration_ns = duration_ns or int(latencies.sum())
    return summary.summarise(
        subject(), Scenario(name, SECOND, 0, **settings), latencies, duration_ns, around, rate=rate
    )


def test_a_result_survives_its_document():
    found = result(np.random.default_rng(0).integers(900, 1100, 700))
    assert documents.from_json(Result, documents.to_json(found), "result") == found


@pytest.mark.parametrize(
    ("name", "batch", "samples"), [("SingleStream", 1, 1), ("MultiStream", 1, 8), ("Offline", 16, 16)]
)
def test_throughput_counts_samples(name, batch, samples):
    found = result([10**6] * 100, name, batch=batch)
    assert found.samples_per_second == pytest.approx(1000 * samples)
    low, high = found.samples_per_second_ci95
    assert low <= found.samples_per_second <= high


def test_the_interval_of_throughput_counts_the_time_between_queries():
    found = result([10**6] * 100, duration_ns=2 * 100 * 10**6)
    assert found.samples_per_second == pytest.approx(500)
    assert found.samples_per_second_ci95 == (pytest.approx(500), pytest.approx(500))


def test_intervals_of_throughput_cover_the_truth():
    covered = 0
    for seed in range(100):
        low, high = result(np.random.default_rng(seed).exponential(10**6, 400)).samples_per_second_ci95
        covered += low <= 1000 <= high
    assert covered >= 90


def test_memory_is_that_of_loading_and_the_peak():
    found = result([10] * 100)
    assert found.memory_load_bytes == 20
    assert found.memory_peak_bytes == 50


def test_a_percentile_without_queries_enough_says_how_many_more():
    found = result([10] * 50)
    assert "p90 needs 14 more queries than the 50 measured: ask for a longer duration" in found.notes
    assert [p.value_ns for p in found.percentiles] == [10, None, None, None, None]


def test_server_reports_its_rate_and_no_rate_is_invalid():
    assert result([10] * 700, "Server", rate=42.0, latency_bound_ns=20).samples_per_second == 42.0
    nothing = result([10] * 700, "Server", rate=0.0, latency_bound_ns=5)
    assert not nothing.valid
    assert "no rate" in nothing.invalid_reasons[0]


def test_an_unstable_warm_up_and_a_drift_are_noted():
    import dataclasses

    found = result([100] * 100 + [150] * 100, around=dataclasses.replace(AROUND, warmup_stable=False))
    assert any("had not become stable" in note for note in found.notes)
    assert any("1.50 times" in note for note in found.notes)
    assert summary.drift_ratio(np.array([100] * 200)) is None
    assert summary.drift_ratio(np.array([100] * 20 + [200] * 20)) is None


def test_a_very_long_measurement_keeps_its_distribution_only():
    found = result(np.arange(70_000) + 1)
    assert found.latencies_ns == ()
    assert len(found.distribution_ns) == 101
    assert found.queries == 70_000
    assert result([3, 1, 2]).latencies_ns == (3, 1, 2)


def test_a_disturbed_run_is_invalid_with_the_reason():
    import dataclasses

    busy = dataclasses.replace(AROUND, after={"cpu_busy_s": 4.0})
    found = result([10] * 100, around=busy)
    assert not found.valid
    assert "other processes" in found.invalid_reasons[0]


def test_queries_that_ran_at_once_share_the_time():
    """Two threads, each a query of 1 ms after another, for 100 ms: 2000 a second, and the interval is around that."""
    random = np.random.default_rng(0)
    found = result(random.integers(950_000, 1_050_000, 200), "Offline", duration_ns=100 * 10**6)
    assert found.samples_per_second == pytest.approx(2000)
    low, high = found.samples_per_second_ci95
    assert low <= 2000 <= high
    assert high < 1.05 * low


def test_throttling_at_the_steady_state_is_what_was_asked_for():
    hot = dataclasses.replace(AROUND, after={**QUIET, "cooling_state": 2.0, "swap_used_bytes": 0.0})
    steady = Steady(reached=True, duration_ns=90 * SECOND, temperature_before_c=40.0, temperature_c=80.0)
    assert not result([10**6] * 100, around=hot).valid
    found = result([10**6] * 100, around=dataclasses.replace(hot, steady=steady))
    assert found.valid
    assert "at its steady state the kernel lowered the CPU clock for heat (cooling state 2)" in found.notes
    assert found.steady == steady
    busy = dataclasses.replace(hot, after={**hot.after, "cpu_busy_s": 9.0}, steady=steady)
    assert [reason.split()[0] for reason in result([10**6] * 100, around=busy).invalid_reasons] == ["other"]


def test_a_steady_state_that_was_not_reached_voids_a_measurement():
    never = Steady(reached=False, duration_ns=90 * SECOND, temperature_before_c=None, temperature_c=None)
    found = result([10**6] * 100, around=dataclasses.replace(AROUND, steady=never))
    assert found.invalid_reasons == ("temperature and latency did not become steady within 90 s",)
