import math

import pytest

from edgepack.benchmark.machine import energy


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


# The files and texts of these trees are as the kernel's documentation gives them; the numbers are made up.
RAPL = {
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": 123456,
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": 262143328850,
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": 99,
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": 262143328850,
    "sys/class/powercap/intel-rapl:0:1/name": "dram",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": 1000,
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": 65712999613,
}
JETSON = {
    "sys/class/hwmon/hwmon0/name": "thermal_fan_est",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": 5000,
    "sys/class/hwmon/hwmon1/curr1_input": 1200,
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": 5000,
    "sys/class/hwmon/hwmon1/curr2_input": 400,
    "sys/class/hwmon/hwmon1/in3_label": "VDD_SOC",
    "sys/class/hwmon/hwmon1/in3_input": 5000,
    "sys/class/hwmon/hwmon1/curr3_input": 300,
}
BATTERY = {
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/power_supply/BAT0/power_now": 7_500_000,
}


def test_rapl_counts_packages_and_memory_but_not_what_is_inside_them(tmp_path):
    sensor, source = energy.find_sensor(tree(tmp_path, RAPL))
    assert source == "RAPL powercap: package-0, dram"
    assert [path.parent.name for path in sensor.files] == ["intel-rapl:0", "intel-rapl:0:1"]
    assert sensor.ranges_uj == (262143328850, 65712999613)


def test_rapl_that_may_not_be_read_says_how_to_allow_it(tmp_path):
    tree(tmp_path, RAPL)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()  # as for a user without the right, root or not
    sensor, reason = energy.find_sensor(tmp_path)
    assert sensor is None
    assert "sudo chmod a+r" in reason


def test_ina3221_takes_the_rail_that_feeds_the_module(tmp_path):
    sensor, source = energy.find_sensor(tree(tmp_path, JETSON))
    assert source == "INA3221: VDD_IN"
    with energy.record(sensor) as reading:
        pass
    watts = reading.energy_uj / 1e6 / (reading.duration_ns / 1e9)
    assert watts == pytest.approx(6.0, abs=0.1)


def test_ina3221_without_a_total_rail_sums_all(tmp_path):
    files = {k: v for k, v in JETSON.items() if "1_" not in k.rsplit("/", 1)[1]}
    sensor, source = energy.find_sensor(tree(tmp_path, files))
    assert source == "INA3221: VDD_CPU_GPU_CV + VDD_SOC"
    assert len(sensor.files) == 2


def test_a_rail_without_its_current_is_no_sensor(tmp_path):
    files = {k: v for k, v in JETSON.items() if "curr" not in k}
    assert energy.find_sensor(tree(tmp_path, files))[0] is None


def test_a_discharging_battery_is_a_sensor(tmp_path):
    sensor, source = energy.find_sensor(tree(tmp_path, BATTERY))
    assert source == "battery BAT0"
    with energy.record(sensor) as reading:
        pass
    assert reading.energy_uj / 1e6 / (reading.duration_ns / 1e9) == pytest.approx(7.5, abs=0.1)


def test_a_battery_that_tells_current_and_voltage(tmp_path):
    files = {k: v for k, v in BATTERY.items() if "power_now" not in k}
    files |= {
        "sys/class/power_supply/BAT0/current_now": 600_000,
        "sys/class/power_supply/BAT0/voltage_now": 12_500_000,
    }
    sensor, _ = energy.find_sensor(tree(tmp_path, files))
    with energy.record(sensor) as reading:
        pass
    assert reading.energy_uj / 1e6 / (reading.duration_ns / 1e9) == pytest.approx(7.5, abs=0.1)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_on_the_mains_is_none_and_says_so(tmp_path, status):
    sensor, reason = energy.find_sensor(tree(tmp_path, BATTERY | {"sys/class/power_supply/BAT0/status": status}))
    assert sensor is None
    assert "unplug" in reason


def test_a_mouse_is_no_battery(tmp_path):
    sensor, _ = energy.find_sensor(tree(tmp_path, BATTERY | {"sys/class/power_supply/BAT0/scope": "Device"}))
    assert sensor is None


def test_no_sensor_is_said(tmp_path):
    sensor, reason = energy.find_sensor(tmp_path)
    assert sensor is None
    assert reason.startswith("no sensor")
    assert energy.rest(sensor, 100.0).energy_uj is None


@pytest.mark.parametrize("text", ["", "banana", "12.5", "0x10"])
def test_a_counter_that_holds_no_number_is_no_sensor(tmp_path, text):
    assert energy.find_sensor(tree(tmp_path, RAPL | {"sys/class/powercap/intel-rapl:0/energy_uj": text}))[0] is None


def test_a_counter_that_wraps_goes_on_from_zero():
    assert energy.counted_uj([90, 95, 4, 10], 99) == 20
    assert energy.counted_uj([0, 10, 10, 30], 99) == 30


@pytest.mark.parametrize("step_s", [0.02, 0.05])
def test_the_integral_of_a_known_power_is_right_to_a_thousandth(step_s):
    """A simulated sensor: 5 W and 2 W of ripple at 0.9 Hz for ten seconds, whose energy is known in closed form."""
    omega = 2 * math.pi * 0.9
    times = [i * step_s for i in range(round(10 / step_s) + 1)]
    powers = [1e6 * (5 + 2 * math.sin(omega * t)) for t in times]
    true = 1e6 * (5 * 10 + 2 * (1 - math.cos(omega * 10)) / omega)
    found = energy.integrated_uj([round(t * 1e9) for t in times], powers)
    assert found == pytest.approx(true, rel=1e-3)


def test_readings_at_uneven_times_are_weighted_by_their_time():
    assert energy.integrated_uj([0, 10**9, 4 * 10**9], [1e6, 1e6, 1e6]) == 4_000_000


class Wrapping:
    """A counter that grows by 3 W of simulated time and wraps."""

    def __init__(self, path, most):
        self.path, self.most, self.now = path, most, 0

    def clock(self):
        self.now += 10**9
        self.path.write_text(str((15_000_000 + self.now * 3 // 1000) % (self.most + 1)))
        return self.now


def test_what_is_recorded_of_a_counter_is_its_growth(tmp_path):
    path = tmp_path / "energy_uj"
    path.write_text("15000000")
    counter = Wrapping(path, 19_999_999)
    with energy.record(energy.CounterSensor("simulated", (path,), (19_999_999,)), counter.clock) as reading:
        for _ in range(3):
            counter.clock()
    # The file is read before the clock ticks, so energy and time are of the same four seconds.
    assert reading.duration_ns == 4 * 10**9
    assert reading.energy_uj == 12_000_000


def test_a_sensor_that_goes_away_leaves_no_energy(tmp_path):
    path = tmp_path / "energy_uj"
    path.write_text("5")
    with energy.record(energy.CounterSensor("simulated", (path,), (99,))) as reading:
        path.unlink()
    assert reading.energy_uj is None


def test_idle_is_subtracted():
    work = energy.Reading(duration_ns=10 * 10**9, energy_uj=80_000_000)
    idle = energy.Reading(duration_ns=10**9, energy_uj=3_000_000)
    assert energy.per_inference_uj(work, idle, 1000) == 50_000
    assert energy.per_inference_uj(work, energy.Reading(), 1000) is None
    assert energy.per_inference_uj(energy.Reading(), idle, 1000) is None
    assert energy.per_inference_uj(work, idle, 0) is None
