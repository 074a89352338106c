import dataclasses

import pytest
from simulated import HOST

from edgepack.benchmark.machine import validity
from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure import memory

QUIET = {
    "cpu_pressure_total_us": 1e6,
    "cpu_busy_s": 100.0,
    "cpu_steal_s": 1.0,
    "throttle_count": 7.0,
    "cgroup_throttled_count": 3.0,
    "swap_used_bytes": 5e8,
    "temperature_c": 60.0,
    "cpu_frequency_hz": 3e9,
    "cpu_frequency_max_hz": 3e9,
    "governor_performance": 1.0,
    "turbo": 0.0,
}
RUN = validity.Run(wall_s=10.0, own=Usage(10.0), cores=4)


def after(**changes):
    return QUIET | {"cpu_busy_s": 110.0} | changes


def test_a_quiet_machine_gives_a_valid_run():
    assert validity.reasons(QUIET, after(), RUN) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu_pressure_total_us": 1e6 + 0.6e6}, "tasks waited for a CPU in 6.0% of the time"),
        ({"cpu_busy_s": 113.0}, "other processes took 7.5% of the CPU time"),
        ({"cpu_steal_s": 1.6}, "hypervisor took 1.5% of the CPU time"),
        ({"throttle_count": 9.0}, "throttled for heat or power 2 times"),
        ({"cgroup_throttled_count": 4.0}, "ran out of its CPU quota 1 times"),
        ({"swap_used_bytes": 5e8 + 3e6}, "3 MB were swapped out"),
        ({"temperature_c": 98.0}, "98 °C"),
        ({"cpu_frequency_hz": 2.5e9}, "the CPU clock fell from 3.00 to 2.50 GHz"),
        ({"governor_performance": 0.0}, "the setting of the CPU frequency governor was changed"),
        ({"turbo": 1.0}, "the setting of turbo was changed"),
    ],
)
def test_each_disturbance_is_a_reason_of_its_own(changes, words):
    (reason,) = validity.reasons(QUIET, after(**changes), RUN)
    assert words in reason


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_pressure_total_us": 1e6 + 0.4e6},
        {"cpu_busy_s": 111.5},
        {"cpu_steal_s": 1.3},
        {"swap_used_bytes": 4e8},
        {"temperature_c": 90.0},
        {"cpu_frequency_hz": 2.8e9},
    ],
)
def test_what_is_within_bounds_is_none(changes):
    assert validity.reasons(QUIET, after(**changes), RUN) == ()


def test_facts_that_a_machine_does_not_tell_are_not_judged():
    assert validity.reasons({}, {}, RUN) == ()
    assert validity.reasons(QUIET, {}, RUN) == ()
    assert validity.reasons({}, QUIET, RUN) == ()


def test_cautions_do_not_void():
    on_battery = dataclasses.replace(HOST, power_mode="on battery")
    assert validity.cautions(HOST, QUIET) == ()
    assert any("battery" in c for c in validity.cautions(on_battery, {}))
    assert any("governor" in c for c in validity.cautions(HOST, {"governor_performance": 0.0}))
    assert any("turbo" in c for c in validity.cautions(HOST, {"turbo": 1.0}))


def test_resident_memory_is_read_in_bytes(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    assert memory.resident_bytes(tmp_path) == 1 << 20
    assert memory.peak_bytes(tmp_path) == 2 << 20
    assert memory.reset_peak(tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"


def test_a_system_without_proc_tells_nothing(tmp_path):
    assert memory.resident_bytes(tmp_path) is None
    assert memory.peak_bytes(tmp_path / "absent") is None
    assert not memory.reset_peak(tmp_path / "absent")


def test_this_process_has_memory():
    resident = memory.resident_bytes()
    assert resident is None or 1 << 20 < resident <= memory.peak_bytes()


def test_a_clock_that_an_idle_governor_lowered_says_nothing():
    saving = {"governor_performance": 0.0}
    assert validity.reasons(QUIET | saving, after(cpu_frequency_hz=1e9) | saving, RUN) == ()


def test_threads_of_the_run_that_wait_for_one_another_are_no_disturbance():
    run = validity.Run(10.0, Usage(10.0, waited_s=2.0), 4)
    assert validity.reasons(QUIET, after(cpu_pressure_total_us=3e6, cpu_busy_s=110.2), run) == ()


@pytest.mark.parametrize(
    ("waited_s", "busy_s", "words"),
    [
        (2.0, 110.7, "in 7.0% of the time"),  # others ran for 0.7 s: the run can have waited for them as long
        (1.2, 110.0, "in 8.0% of the time"),  # others waited while the run did not
        (1.2, 110.1, "in 9.0% of the time"),
        (0.0, 110.0, "in 20.0% of the time"),  # a system that does not count it for each thread
    ],
)
def test_waiting_that_others_explain_is_a_disturbance(waited_s, busy_s, words):
    run = validity.Run(10.0, Usage(10.0, waited_s), 4)
    (reason,) = validity.reasons(QUIET, after(cpu_pressure_total_us=3e6, cpu_busy_s=busy_s), run)
    assert words in reason


def test_waiting_is_judged_whole_where_the_load_of_others_is_not_known():
    known = {"cpu_pressure_total_us": 1e6}
    run = validity.Run(10.0, Usage(10.0, waited_s=2.0), 4)
    (reason,) = validity.reasons(known, {"cpu_pressure_total_us": 3e6}, run)
    assert "in 20.0% of the time" in reason
