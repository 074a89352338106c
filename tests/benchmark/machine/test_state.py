"""What loads or slows a machine, from recorded trees: the files' forms are the kernel's, the numbers made up."""

import os

import pytest

from edgepack.benchmark.machine import validity
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.usage import Usage

PAGE = os.sysconf("SC_PAGE_SIZE")
COOLING = "sys/class/thermal/cooling_device"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_a_machine_that_tells_nothing_has_no_facts_of_these(tmp_path):
    assert not {"swap_in_bytes", "cooling_state", "firmware_throttled", "gpu_clock_hz"} & facts(tmp_path).keys()


@pytest.mark.parametrize(
    ("files", "key", "value"),
    [
        ({"proc/vmstat": "nr_free 5\npswpin 3\npswpout 7"}, "swap_in_bytes", 3.0 * PAGE),
        ({"proc/vmstat": "pswpin 3\npswpout 7"}, "swap_out_bytes", 7.0 * PAGE),
        ({f"{COOLING}0/type": "Processor", f"{COOLING}0/cur_state": 0}, "cooling_state", 0.0),
        ({f"{COOLING}0/type": "thermal-cpufreq-0", f"{COOLING}0/cur_state": 3}, "cooling_state", 3.0),
        ({f"{COOLING}0/type": "thermal-devfreq-0", f"{COOLING}0/cur_state": 2}, "cooling_state", 2.0),
        ({f"{COOLING}0/type": "intel_powerclamp", f"{COOLING}0/cur_state": -1}, "cooling_state", 0.0),
        ({FIRMWARE: "50005"}, "firmware_throttled", float(0x50005)),
        ({FIRMWARE: "0x0"}, "firmware_throttled", 0.0),
        (
            {"sys/class/hwmon/hwmon3/oc1_event_cnt": 4, "sys/class/hwmon/hwmon3/oc3_event_cnt": 1},
            "overcurrent_count",
            5.0,
        ),
        (
            {"proc/self/cgroup": "0::/box", "sys/fs/cgroup/box/memory.events": "low 0\nhigh 12\nmax 3\noom 0"},
            "cgroup_memory_high_count",
            12.0,
        ),
        (
            {
                "proc/self/cgroup": "0::/box",
                "sys/fs/cgroup/box/cpu.max": "150000 100000",
                "sys/fs/cgroup/cpu.max": "max 100000",
            },
            "cgroup_cpu_cores",
            1.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": 200000,
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": 100000,
            },
            "cgroup_cpu_cores",
            2.0,
        ),
        (
            {
                "sys/class/devfreq/17000000.gpu/cur_freq": 306000000,
                "sys/class/devfreq/17000000.gpu/max_freq": 1300500000,
            },
            "gpu_clock_max_hz",
            1300500000.0,
        ),
    ],
)
def test_each_fact_is_read(tmp_path, files, key, value):
    assert facts(tree(tmp_path, files))[key] == value


def test_a_fan_does_not_slow_a_processor(tmp_path):
    files = {f"{COOLING}0/type": "pwm-fan", f"{COOLING}0/cur_state": 4}
    assert "cooling_state" not in facts(tree(tmp_path, files))


@pytest.mark.parametrize("text", ["", "banana", "0xZZ", "1" * 40])
def test_a_file_that_holds_something_else_tells_nothing(tmp_path, text):
    assert "firmware_throttled" not in facts(tree(tmp_path, {FIRMWARE: text}))


# --- validity ---------------------------------------------------------------------------------------------------------

RUN = validity.Run(10.0, Usage(10.0), 4)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"cooling_state": 2.0}, "lowered the CPU clock for heat (cooling state 2)"),
        ({"firmware_throttled": 0.0}, {"firmware_throttled": float(0x1)}, "firmware lowered the clock: under-voltage"),
        ({"firmware_throttled": 0.0}, {"firmware_throttled": float(0x40000)}, "lowered the clock: throttled"),
        ({"overcurrent_count": 5.0}, {"overcurrent_count": 7.0}, "for over-current 2 times"),
        ({"cgroup_memory_high_count": 1.0}, {"cgroup_memory_high_count": 4.0}, "met its memory limit 3 times"),
        ({"swap_in_bytes": 0.0}, {"swap_in_bytes": 4e6}, "4 MB were read back from swap"),
        ({"swap_out_bytes": 0.0}, {"swap_out_bytes": 9e6}, "9 MB were swapped out"),
    ],
)
def test_what_slows_a_board_voids_a_run(before, after, words):
    (reason,) = validity.reasons(before, after, RUN)
    assert words in reason


def test_what_happened_before_the_run_does_not_void_it():
    old = {"firmware_throttled": float(0x50000), "overcurrent_count": 9.0, "swap_in_bytes": 5e9, "cooling_state": 0.0}
    assert validity.reasons(old, old, RUN) == ()


def test_a_quota_and_a_clock_below_the_highest_are_said_without_voiding():
    from simulated import HOST

    said = validity.cautions(HOST, {"cgroup_cpu_cores": 1.5, "gpu_clock_hz": 3e8, "gpu_clock_max_hz": 1.3e9})
    assert any("1.5 cores" in text for text in said)
    assert any("300 of 1300 MHz" in text for text in said)
