import contextlib
from pathlib import Path

import pytest
from simulated import Machine, SimulatedWorker

from edgepack.benchmark.machine import energy
from edgepack.benchmark.measure import launches
from edgepack.benchmark.measure.launches import measure_launches
from edgepack.benchmark.measure.worker import Open
from edgepack.errors import ChildError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow

SECOND = 10**9


def measure(scenario, machine=None, **worker):
    machine = machine or Machine(0, drift=0.0)
    workers, steps = [], []

    def start(number):
        workers.append(SimulatedWorker(machine, str(number), **worker))
        return workers[-1]

    request = Open(Path("x.edgepack"), scenario, RunOptions())
    try:
        found = measure_launches(start, request, scenario, lambda *step: steps.append(step))
    finally:
        assert all(one.closed for one in workers)
    return found, machine, steps


def test_the_duration_is_shared_by_processes_one_after_the_other():
    found, machine, steps = measure(Scenario("SingleStream", SECOND, 0))
    assert list(dict.fromkeys(machine.turns)) == ["0", "1", "2", "3", "4"]
    assert machine.turns == sorted(machine.turns)
    assert SECOND <= found.duration_ns < 1.5 * SECOND
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1] == ("SingleStream", 100, 100)


def test_what_the_processes_take_themselves_is_no_load_of_others(monkeypatch):
    machine = Machine(0, drift=0.0)
    loads = 0.5  # of each process
    monkeypatch.setattr(
        launches, "facts", lambda: {"cpu_busy_s": loads * len(set(machine.turns)) + 0.01 * len(machine.turns)}
    )
    found, _, _ = measure(Scenario("SingleStream", SECOND, 0), machine)
    assert not any("other processes" in reason for reason in found.invalid_reasons)


def test_the_queries_asked_for_are_measured():
    found, _, _ = measure(Scenario("SingleStream", 1000, 0, queries=700))
    assert found.queries >= 700


def test_a_slow_model_ends_before_its_queries_are_enough():
    found, _, _ = measure(Scenario("MultiStream", SECOND, 0), factor=5000.0, queries=1)
    assert found.queries < 662
    assert found.duration_ns < 150 * SECOND
    assert any("p99 needs" in note for note in found.notes)


def test_what_differs_between_processes_widens_the_interval():
    def width(launch_sd):
        found, _, _ = measure(Scenario("SingleStream", SECOND, 0), Machine(3, drift=0.0, launch_sd=launch_sd, spikes=0))
        low, high = found.percentiles[0].ci95_ns
        return high - low

    assert width(0.1) > 3 * width(0.0)


def test_the_result_says_in_how_many_processes():
    assert any("3 fresh processes" in n for n in measure(Scenario("SingleStream", SECOND, 0, launches=3))[0].notes)
    assert any("one process" in n for n in measure(Scenario("SingleStream", SECOND, 0, launches=1))[0].notes)


def test_memory_is_that_of_the_largest_process():
    found, _, _ = measure(Scenario("SingleStream", SECOND, 0))
    assert found.memory_peak_bytes == 40


def test_a_process_that_dies_ends_the_measurement_and_leaves_none():
    with pytest.raises(ChildError, match="SIGSEGV"):
        measure(Scenario("SingleStream", SECOND, 0), dies_after=2)


class Steady:
    """A made-up sensor: 10 J a second at rest, 30 J a second while a bundle is measured, for one second each."""

    def rest(self, sensor, seconds):
        return energy.Reading(SECOND, 10_000_000)

    @contextlib.contextmanager
    def record(self, sensor):
        yield energy.Reading(SECOND, 30_000_000)


@pytest.mark.parametrize("refreshed", [0, 20])
def test_energy_is_shared_by_all_queries_also_those_that_are_not_timed(monkeypatch, refreshed):
    """For a slow model every timed query has an untimed one before it, whose energy must not be put on it."""
    steady = Steady()
    monkeypatch.setattr(energy, "find_sensor", lambda gpus=(): (None, "made up"))
    monkeypatch.setattr(energy, "rest", steady.rest)
    monkeypatch.setattr(energy, "record", steady.record)
    found, machine, _ = measure(Scenario("SingleStream", 1, 0, queries=1, launches=1), refreshed=refreshed)
    issued = found.queries + refreshed * len(machine.turns)
    assert found.energy_uj == round(20_000_000 / issued)
    assert found.energy_idle_uw == 10_000_000
