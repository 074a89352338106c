import pytest
from small_bundles import small_bundle

from edgepack.benchmark.measure import loadgen
from edgepack.errors import ConfigError, EdgepackError, ToolchainError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow

# The lines of a summary that are read, as LoadGen 6.0.17 writes them; the figures are made up.
SUMMARY = """\
Scenario : MultiStream
99.0th percentile latency (ns) : 8421031
Result is : INVALID
Per-query latency:
Mean latency (ns)                : 800000
50.00 percentile latency (ns)   : 572363
90.00 percentile latency (ns)   : 603334
99.90 percentile latency (ns)   : 8421031
"""


def has_loadgen():
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError:
        return False
    return True


installed = pytest.mark.skipif(not has_loadgen(), reason="mlcommons-loadgen is not installed")


def test_a_summary_is_read_and_unsupported_percentiles_are_left_out():
    found = loadgen.parse_summary(SUMMARY, 100, 8)
    assert [(p.p, p.value_ns) for p in found.percentiles] == [(50.0, 572363), (90.0, 603334), (99.9, None)]
    assert found.samples_per_second == pytest.approx(10_000)


def test_throughput_stands_in_offlines_summary():
    text = SUMMARY + "Samples per second: 1234.5\n"
    assert loadgen.parse_summary(text, 100, 1).samples_per_second == 1234.5


def test_an_empty_summary_is_an_error():
    with pytest.raises(EdgepackError, match="holds no latencies"):
        loadgen.parse_summary("", 1, 1)


def test_server_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="needs a rate"):
        loadgen.run_loadgen(lambda _: None, [0], Scenario("Server", 1, 1, latency_bound_ns=5), 1)


@pytest.mark.skipif(has_loadgen(), reason="mlcommons-loadgen is installed")
def test_without_the_package_the_error_says_what_to_install():
    with pytest.raises(ToolchainError, match="LoadGen is not installed") as caught:
        loadgen.run_loadgen(lambda _: None, [0], Scenario("SingleStream", 1, 1), 1)
    assert "pip install mlcommons-loadgen" in caught.value.hint


@installed
@pytest.mark.parametrize(("name", "per_query"), [("SingleStream", 1), ("MultiStream", 8), ("Offline", 4)])
def test_every_sample_is_issued_in_queries_of_the_right_size(name, per_query):
    seen = []
    scenario = Scenario(name, 50_000_000, 0, queries=20, batch=4 if name == "Offline" else 1)
    found = loadgen.run_loadgen(seen.append, ["a", "b", "c"], scenario, per_query)
    assert found.queries == len(seen) - 1  # one was to size Offline's query
    assert found.queries * (per_query if name == "Offline" else 1) >= 20
    assert set(seen) == {"a", "b", "c"}


@installed
def test_a_result_says_that_loadgen_drove_it(tmp_path):
    scenario = Scenario("SingleStream", 100_000_000, 10_000_000, queries=64)
    found = loadgen.benchmark_with_loadgen(small_bundle(tmp_path), scenario, RunOptions(threads=1))
    assert found.queries >= 64
    assert found.percentiles[1].value_ns > 0
    assert found.percentiles[1].ci95_ns is None
    assert any("LoadGen; this is not an MLPerf result" in note for note in found.notes)


@installed
def test_a_failure_in_the_runner_comes_back_as_it_is():
    def fail(_query):
        raise ValueError("the runner failed")

    with pytest.raises(ValueError, match="the runner failed"):
        loadgen.run_loadgen(fail, [0], Scenario("SingleStream", 1_000_000, 0, queries=5), 1)


@installed
def test_loadgen_and_the_own_loop_agree_within_their_intervals(tmp_path):
    """Both in turn, five times: the medians' ratio is within the spread that the own loop has with itself, or 10 %."""
    import statistics

    from edgepack.benchmark.measure.loop import closed_loop
    from edgepack.benchmark.measure.session import open_session
    from edgepack.benchmark.statistics.percentiles import percentile

    scenario = Scenario("SingleStream", 150_000_000, 50_000_000, queries=64)
    loaded = open_session(small_bundle(tmp_path), scenario, RunOptions(threads=1))
    own, theirs = [], []
    for _ in range(5):
        timed = closed_loop(loaded.issue, loaded.queries, scenario.duration_ns)
        own.append(percentile(timed.latencies, 50.0, 0).value_ns)
        run = loadgen.run_loadgen(loaded.issue, loaded.queries, scenario, 1)
        theirs.append(next(p.value_ns for p in run.percentiles if p.p == 50.0))
    loaded.close()
    spread = max(own) / min(own) - 1
    overhead_ns = 10_000  # of Python's callbacks from C++, which LoadGen counts and the own loop does not
    difference = statistics.median(theirs) - statistics.median(own)
    assert -max(0.1, spread) * statistics.median(own) <= difference
    assert difference <= max(0.1, spread) * statistics.median(own) + overhead_ns


@installed
def test_server_is_tried_at_the_rate_that_the_own_search_found(tmp_path):
    scenario = Scenario("Server", 300_000_000, 10_000_000, latency_bound_ns=50_000_000)
    found = loadgen.benchmark_with_loadgen(small_bundle(tmp_path), scenario, RunOptions(threads=1))
    assert found.scenario.name == "Server"
    assert found.queries >= 662
    assert found.samples_per_second > 0
    assert {p.p for p in found.percentiles if p.value_ns is not None} >= {50.0, 90.0, 99.0}
