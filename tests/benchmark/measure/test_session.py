"""A bundle opened for measuring on a real engine."""

import pytest
from small_bundles import small_bundle, small_openvino_bundle

from edgepack.benchmark.measure import session
from edgepack.benchmark.measure.launches import benchmark_launches
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("session"))


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("Offline", RunOptions(threads=1, streams=3), 2),
        ("Offline", RunOptions(threads=1), 0),
        ("SingleStream", RunOptions(threads=1, streams=3), 0),
    ],
)
def test_streams_are_runners_of_their_own_for_throughput_alone(bundle, name, options, others):
    opened = session.open_session(bundle, Scenario(name, 10**8, 10**7, batch=2 if name == "Offline" else 1), options)
    assert len(opened.others) == others
    assert any("3 queries ran at once" in note for note in opened.notes) == (others > 0)
    timed = session.measure(opened, 20_000_000, minimum_queries=6, maximum_ns=None, first=0)
    assert len(timed.latencies) >= 6
    opened.close()


@pytest.mark.parametrize(
    ("scenario", "samples"),
    [(Scenario("SingleStream", 1, 1), 1), (Scenario("MultiStream", 1, 1), 8), (Scenario("Offline", 1, 1, batch=5), 5)],
    ids=lambda value: getattr(value, "name", value),
)
def test_openvino_is_measured_as_loaded_for_the_batch_of_the_scenario(scenario, samples, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    from edgepack.engines.common.fixed_batch import FixedBatchRunner
    from edgepack.engines.openvino import engine as openvino

    made, load_model = [], openvino.load_model

    def seen(compiled, options):
        made.append(load_model(compiled, options))
        return made[-1]

    monkeypatch.setattr(openvino, "load_model", seen)
    opened = session.open_session(small_openvino_bundle(tmp_path), scenario, RunOptions(threads=1))
    opened.issue(opened.queries[0])
    (runner,) = made  # no second load was needed
    assert isinstance(runner, FixedBatchRunner)
    assert runner._batch == samples == len(opened.queries[0]["image"])
    assert opened.subject.options == RunOptions(threads=1), "the result says what was asked for"
    opened.close()


def test_throughput_of_several_streams_is_of_all_of_them(bundle):
    scenario = Scenario("Offline", 200_000_000, 10_000_000, batch=4, launches=1)
    found = benchmark_launches(bundle, scenario, RunOptions(threads=1, streams=2))
    assert found.samples_per_second == pytest.approx(found.queries * 4 / (found.duration_ns / 1e9))
    low, high = found.samples_per_second_ci95
    assert low <= found.samples_per_second <= high
    assert "2 queries ran at once" in found.notes
