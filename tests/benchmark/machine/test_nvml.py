"""NVIDIA's facts through a test double of its library (``fake_nvml``): no GPU is here."""

import os

import pytest
from fake_nvml import FakeNvml

from edgepack.benchmark.machine import energy, nvml, validity
from edgepack.benchmark.machine.usage import Usage

ANSWERS = {
    "nvmlDeviceGetClockInfo": {0: 1410},
    "nvmlDeviceGetMaxClockInfo": {0: 1980},
    "nvmlDeviceGetCurrentClocksEventReasons": 0x24,
    "nvmlDeviceGetTemperature": {0: 61},
    "nvmlDeviceGetUtilizationRates": (37, 5),
    "nvmlDeviceGetViolationStatus": {0: (1, 5_000_000), 1: (1, 7)},
    "nvmlDeviceGetTotalEnergyConsumption": 123_456,
}


def gpu(**answers):
    (found,) = nvml.find_gpus(FakeNvml(**(answers or ANSWERS)))
    return found


def test_every_fact_is_read_in_its_unit():
    assert nvml.gpu_facts([gpu()]) == {
        "gpu_clock_hz": 1.41e9,
        "gpu_clock_max_hz": 1.98e9,
        "gpu_event_reasons": 0x24,
        "gpu_temperature_c": 61.0,
        "gpu_utilization": 0.37,
        "gpu_power_limited_ns": 5e6,
        "gpu_heat_limited_ns": 7.0,
    }


def test_what_a_gpu_does_not_support_is_absent():
    assert nvml.gpu_facts([gpu(nvmlDeviceGetTemperature={0: 50})]) == {"gpu_temperature_c": 50.0}
    assert nvml.gpu_facts(()) == {}


def test_an_older_driver_has_the_reasons_under_their_older_name():
    assert gpu(nvmlDeviceGetCurrentClocksThrottleReasons=0x8).event_reasons() == 0x8


def test_a_library_without_a_gpu_or_of_another_kind_is_none():
    class NoDriver(FakeNvml):
        def nvmlInit_v2(self):
            return 9  # NVML_ERROR_DRIVER_NOT_LOADED

    class NoGpu(FakeNvml):
        def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
            return 2

    assert nvml.find_gpus(NoDriver()) == ()
    assert nvml.find_gpus(NoGpu()) == ()
    assert nvml.find_gpus(object()) == ()


def test_memory_is_that_of_the_process_asked_for():
    (found,) = nvml.find_gpus(FakeNvml(processes=((1, 10), (42, 100), (42, 5))))
    assert found.process_bytes(42) == 105
    assert found.process_bytes(7) == 0
    (unknown,) = nvml.find_gpus(FakeNvml(processes=((42, 2**64 - 1),)))
    assert unknown.process_bytes(42) is None


def test_this_machine_has_an_answer():
    found = nvml.these_gpus()
    assert bool(found) == bool(nvml.gpu_facts(found))
    assert nvml.gpu_bytes() is None or nvml.gpu_bytes() >= 0
    assert os.getpid() > 0


def test_the_energy_of_a_gpu_is_the_growth_of_its_counter():
    """A made-up counter in mJ: it grows by 250 mJ at each look, of which there are two."""
    values = iter([1000, 1000, 1250])
    found = gpu(nvmlDeviceGetTotalEnergyConsumption=lambda: next(values))
    sensor, source = energy.find_sensor(gpus=[found])
    assert source == "NVML: the GPU's energy counter, the GPU alone"
    with energy.record(sensor) as reading:
        pass
    assert reading.energy_uj == 250_000
    assert reading.power_uw > 0


def test_a_gpu_that_does_not_count_leaves_the_other_sensors(tmp_path):
    sensor, reason = energy.find_sensor(tmp_path, [gpu(nvmlDeviceGetTemperature={0: 50})])
    assert sensor is None
    assert reason.startswith("no sensor")


# --- several GPUs -----------------------------------------------------------------------------------------------------


def test_every_gpu_has_its_facts_under_its_number():
    found = nvml.find_gpus(FakeNvml(others=({"nvmlDeviceGetTemperature": {0: 80}}, {}), **ANSWERS))
    assert len(found) == 3
    facts = nvml.gpu_facts(found)
    assert (facts["gpu_temperature_c"], facts["gpu1_temperature_c"]) == (61.0, 80.0)
    assert {key for key in facts if not key.startswith("gpu_")} == {"gpu1_temperature_c"}


def test_a_gpu_that_this_user_may_not_ask_is_left_out():
    class Closed(FakeNvml):
        def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
            return 4 if index == 0 else super().nvmlDeviceGetHandleByIndex_v2(index, handle)  # NO_PERMISSION

    (found,) = nvml.find_gpus(Closed(others=({"nvmlDeviceGetTemperature": {0: 80}},)))
    assert found.temperature_c() == 80


def test_memory_and_energy_are_of_all_gpus_or_not_told():
    energies = [{"nvmlDeviceGetTotalEnergyConsumption": value} for value in (10, 200)]
    both = nvml.find_gpus(FakeNvml(((42, 100),), energies[1:], **energies[0]))
    assert nvml.bytes_of(both, 42) == 200, "the double has the same processes on each"
    assert nvml.energy_of(both) == 210_000
    sensor, source = energy.find_sensor(gpus=both)
    assert (sensor.read(), source) == (210_000, "NVML: the energy counters of 2 GPUs, the GPUs alone")
    silent = nvml.find_gpus(FakeNvml(others=({},), **energies[0]))
    assert nvml.energy_of(silent) is None
    assert nvml.bytes_of((), 42) is None
    assert nvml.energy_of(()) is None


# --- validity ---------------------------------------------------------------------------------------------------------

QUIET = {"gpu_clock_hz": 1.9e9, "gpu_temperature_c": 60.0, "gpu_event_reasons": 1.0, "gpu_utilization": 0.0}
RUN = validity.Run(10.0, Usage(10.0), 4)


def test_a_quiet_gpu_voids_nothing():
    limited = {"gpu_heat_limited_ns": 5e9, "gpu_power_limited_ns": 9e9}
    assert validity.reasons(QUIET | limited, QUIET | limited, RUN) == ()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"gpu_event_reasons": 0x8}, "lowered by a hardware slowdown"),
        ({"gpu_event_reasons": 0x20}, {}, "lowered by heat, by the driver"),
        ({}, {"gpu_event_reasons": 0x4}, "lowered by its power limit"),
        ({}, {"gpu_temperature_c": 92.0}, "the GPU read 92 °C"),
        ({"gpu_utilization": 0.4}, {}, "other work took 40% of the GPU"),
        ({"gpu_heat_limited_ns": 0.0}, {"gpu_heat_limited_ns": 1e9}, "lowered for heat in 10.0% of the time"),
        (
            {"gpu_power_limited_ns": 0.0},
            {"gpu_power_limited_ns": 5e8, "gpu_event_reasons": 0x4},
            "lowered for its power limit in 5.0% of the time",
        ),
    ],
)
def test_what_slows_a_gpu_voids_a_run(before, after, words):
    (reason,) = validity.reasons(QUIET | before, QUIET | after, RUN)
    assert words in reason


def test_a_power_limit_that_held_for_less_than_a_hundredth_of_the_time_voids_nothing():
    before = QUIET | {"gpu_power_limited_ns": 0.0}
    after = QUIET | {"gpu_power_limited_ns": 5e7, "gpu_event_reasons": float(0x4)}
    assert validity.reasons(before, after, RUN) == ()


def test_another_gpu_that_is_slowed_is_named():
    before = QUIET | {key.replace("gpu_", "gpu1_"): value for key, value in QUIET.items()}
    after = before | {"gpu1_temperature_c": 95.0}
    assert validity.reasons(before, after, RUN) == ("GPU 1 read 95 °C afterwards (bound 90 °C)",)
    before["gpu1_power_limited_ns"] = 0.0
    after |= {"gpu1_power_limited_ns": 5e9, "gpu1_temperature_c": 60.0, "gpu_event_reasons": 4.0}
    assert validity.reasons(before, after, RUN) == (
        "the GPU's clock was lowered by its power limit when it was looked at",
        "GPU 1's clock was lowered for its power limit in 50.0% of the time (1%)",
    )
