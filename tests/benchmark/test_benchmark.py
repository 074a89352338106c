import dataclasses

import pytest
from small_bundles import small_bundle

from edgepack.benchmark import benchmark
from edgepack.device.host import host_facts
from edgepack.engines.targets import load_target
from edgepack.errors import BundleError, ConfigError
from edgepack.execution import child
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

pytestmark = pytest.mark.slow

SECOND = 10**9
OPTIONS = RunOptions(threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("benchmark"))


def test_single_stream_in_a_fresh_process(bundle, tmp_path):
    steps = []
    scenario = Scenario("SingleStream", SECOND // 5, SECOND // 20, launches=2)
    found = child.call(
        benchmark,
        bundle,
        scenario,
        OPTIONS,
        limit_s=100.0,
        log=tmp_path / "log",
        progress=lambda *step: steps.append(step),
    )
    assert found.bundle_name == "small"
    assert found.scenario == scenario
    assert found.engine == "onnxruntime"
    assert found.queries == len(found.latencies_ns) or found.latencies_ns == ()
    assert found.duration_ns >= SECOND // 5
    p50, p90 = (p.value_ns for p in found.percentiles[:2])
    assert 0 < p50 <= p90
    assert found.memory_peak_bytes is None or found.memory_peak_bytes > 10 << 20
    assert found.memory_load_bytes is None or found.memory_load_bytes > 1 << 20
    assert found.energy_uj is not None or found.energy_source
    assert steps[-1] == ("SingleStream", 100, 100)
    assert any("2 fresh processes" in note for note in found.notes)


@pytest.mark.parametrize(
    ("target", "stands"),
    [
        (load_target("host-onnxruntime"), True),
        (load_target("raspberry-pi-5"), False),
        (Target("my-board", "A board", "onnxruntime", "riscv64"), False),
        (Target("my-board", "A board", "onnxruntime", host_facts().arch), None),
    ],
    ids=["here", "shipped", "own", "unknown"],
)
def test_a_measurement_knows_whether_this_is_the_target(tmp_path, target, stands):
    bundle = small_bundle(tmp_path, target=target)
    scenario = Scenario("SingleStream", SECOND // 50, SECOND // 100, launches=1)
    found = child.call(benchmark, bundle, scenario, OPTIONS, limit_s=100.0, log=tmp_path / "log")
    assert found.stands_for_target is stands
    said = [note for note in found.notes if f"this is not {target.id} and says nothing of it" in note]
    assert len(said) == (stands is False)


@pytest.mark.parametrize(
    ("scenario", "per_query"),
    [
        (Scenario("Offline", SECOND // 20, SECOND // 100, batch=4, launches=1), 4),
        (Scenario("MultiStream", SECOND // 20, SECOND // 100, launches=1), 8),
    ],
)
def test_throughput_is_of_samples_not_of_queries(bundle, scenario, per_query):
    found = benchmark(bundle, scenario, OPTIONS)
    assert found.samples_per_second == pytest.approx(per_query * found.queries / (found.duration_ns / 1e9))
    assert found.queries >= {"Offline": 1, "MultiStream": 662}[scenario.name]


def test_server_finds_a_rate_whose_p99_keeps_the_bound(bundle):
    scenario = Scenario("Server", SECOND // 10, SECOND // 100, latency_bound_ns=SECOND // 2)
    found = benchmark(bundle, scenario, OPTIONS)
    assert found.samples_per_second > 0
    p99 = next(p for p in found.percentiles if p.p == 99.0)
    assert p99.value_ns <= SECOND // 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration_ns": 0}, "duration must be greater than 0"),
        ({"warmup_ns": -1}, "cannot be negative"),
        ({"queries": 0}, "number of queries is"),
        ({"launches": 0}, "number of launches is 0"),
        ({"launches": 101}, "number of launches is 101"),
        ({"batch": 4}, "--batch needs --scenario Offline"),
        ({"name": "Offline", "batch": 0}, "has no samples"),
        ({"name": "Server"}, "needs a bound"),
        ({"name": "Server", "latency_bound_ns": -5}, "needs a bound"),
    ],
)
def test_settings_without_sense_are_refused(bundle, change, words):
    scenario = dataclasses.replace(Scenario("SingleStream", SECOND, 0), **change)
    with pytest.raises(ConfigError, match=words):
        benchmark(bundle, scenario, OPTIONS)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError):
        benchmark(tmp_path / "absent.edgepack", Scenario("SingleStream", SECOND, 0), OPTIONS)
