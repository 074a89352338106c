"""A Jetson's power and clocks, from trees of files laid out as NVIDIA documents them, and from lines of tegrastats.

The trees are made here after the documentation; none was copied from a device. The lines are of the forms that three
generations of JetPack print.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgepack.benchmark.machine.state import facts
from edgepack.device.host import host_facts, l4t_release, nvidia_driver
from edgepack.device.jetson import clocks_locked, jetson_facts, parse_tegrastats, power_mode, power_mode_name

if TYPE_CHECKING:
    from pathlib import Path

CONF = """
# mandatory section of power models
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=7W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """An Orin Nano: rails of the INA3221 in hwmon, beside another monitor."""
    hwmon = "sys/class/hwmon"
    files = {
        "var/lib/nvpmodel/status": "pmode:0002\n",
        "etc/nvpmodel.conf": CONF,
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release\n",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n"
        "Features\t: fp asimd fphp asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n",
        f"{hwmon}/hwmon0/name": "cpu_thermal\n",
        f"{hwmon}/hwmon1/name": "ina3221\n",
        f"{hwmon}/hwmon2/oc1_event_cnt": "3\n",
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    }
    for channel, (label, volts, amperes) in enumerate(
        [("VDD_IN", 5072, 904), ("VDD_CPU_GPU_CV", 5072, 112), ("VDD_SOC", 5072, 280)], 1
    ):
        files[f"{hwmon}/hwmon1/in{channel}_label"] = f"{label}\n"
        files[f"{hwmon}/hwmon1/in{channel}_input"] = f"{volts}\n"
        files[f"{hwmon}/hwmon1/curr{channel}_input"] = f"{amperes}\n"
    for core in range(2):
        files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq"] = "729600\n"
        files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_max_freq"] = "1728000\n"
    write(tmp_path, files)
    return tmp_path


def test_rails_are_found_by_their_labels(board: Path) -> None:
    found = jetson_facts(board)
    assert found["power_VDD_IN_uw"] == 5072 * 904
    assert set(found) == {
        "power_VDD_IN_uw", "power_VDD_CPU_GPU_CV_uw", "power_VDD_SOC_uw", "emc_clock_hz", "jetson_clocks", "nvpmodel",
    }  # fmt: skip
    assert (found["emc_clock_hz"], found["nvpmodel"]) == (2.133e9, 2)


def test_a_thors_input_is_read_from_its_ina238(board: Path) -> None:
    write(board, {"sys/class/hwmon/hwmon7/name": "ina238\n", "sys/class/hwmon/hwmon7/power1_input": "41000000\n"})
    assert jetson_facts(board)["power_VIN_uw"] == 41_000_000


@pytest.mark.parametrize("junk", ["", "-", "4.5 V", "nan", "\xff"])
def test_a_rail_that_does_not_answer_is_left_out(board: Path, junk: str) -> None:
    write(board, {"sys/class/hwmon/hwmon1/curr1_input": junk, "sys/class/hwmon/hwmon1/in2_label": "a b\x1b[31m"})
    found = jetson_facts(board)
    assert [key for key in found if key.startswith("power_")] == ["power_VDD_SOC_uw"]


def test_the_power_mode_has_a_number_and_a_name(board: Path) -> None:
    assert (power_mode(board), power_mode_name(board)) == ("2", "MAXN_SUPER")
    write(board, {"etc/nvpmodel.conf": ""})
    assert power_mode_name(board) is None


def test_locked_clocks_are_seen(board: Path) -> None:
    assert clocks_locked(board) is False
    for core in range(2):
        write(board, {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq": "1728000\n"})
    assert clocks_locked(board) is False, "the GPU's are not locked yet"
    write(board, {"sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n"})
    assert clocks_locked(board) is True
    assert jetson_facts(board)["jetson_clocks"] == 1


def test_the_host_facts_hold_mode_clocks_board_and_release(board: Path) -> None:
    host = host_facts(board)
    assert host.power_mode == "nvpmodel 2 (MAXN_SUPER)"
    assert host.cpu.startswith("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super (Arm Cortex-A78AE")
    assert host.gpu == "NVIDIA tegra234"
    assert (l4t_release(board), nvidia_driver(board)) == ("36.4.3", "540.4.0")


def test_a_measurement_holds_them_too(board: Path) -> None:
    found = facts(board)
    assert found["power_VDD_IN_uw"] == 5072 * 904
    assert (found["overcurrent_count"], found["gpu_clock_hz"]) == (3, 306e6)


def test_another_machine_has_none_of_it(tmp_path: Path) -> None:
    assert jetson_facts(tmp_path) == {}
    assert clocks_locked(tmp_path) is None
    assert power_mode(tmp_path) is None
    assert l4t_release(tmp_path) is None
    assert nvidia_driver(tmp_path) is None


LINES = {
    "orin-nano-jetpack-6": (
        "11-26-2024 10:12:13 RAM 2448/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) "
        "CPU [4%@729,2%@729,0%@729,1%@729,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 12%@[305] NVDEC off NVJPG off VIC off "
        "OFA off APE 200 cpu@47.5C soc2@46.3C soc0@46.3C gpu@47.2C tj@47.6C soc1@46.1C VDD_IN 4583mW/4600mW "
        "VDD_CPU_GPU_CV 560mW/560mW VDD_SOC 1400mW/1400mW",
        {"power_VDD_IN_uw": 4583e3, "power_VDD_CPU_GPU_CV_uw": 560e3, "power_VDD_SOC_uw": 1400e3, "gpu_load": 0.12,
         "gpu_clock_hz": 305e6, "emc_clock_hz": 2133e6, "temperature_c": 47.6},
    ),
    "xavier-nx-jetpack-5": (
        "RAM 3034/6847MB (lfb 2x2MB) SWAP 12/3424MB (cached 0MB) CPU [20%@1190,off] EMC_FREQ 3%@1600 GR3D_FREQ 0%@114 "
        "VIC_FREQ 0%@115 APE 150 MTS fg 0% bg 0% AO@36C GPU@36C PMIC@50C AUX@36C CPU@38C thermal@36.65C "
        "VDD_IN 4203mW/4203mW VDD_CPU_GPU_CV 689mW/689mW VDD_SOC 1171mW/1171mW",
        {"power_VDD_IN_uw": 4203e3, "power_VDD_CPU_GPU_CV_uw": 689e3, "power_VDD_SOC_uw": 1171e3, "gpu_load": 0.0,
         "gpu_clock_hz": 114e6, "emc_clock_hz": 1600e6, "temperature_c": 38.0},
    ),
    "nano-jetpack-4": (
        "RAM 1216/3964MB (lfb 330x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [8%@1479,5%@1479] "
        "EMC_FREQ 2%@1600 GR3D_FREQ 0%@76 APE 25 PLL@28C CPU@31.5C PMIC@100C GPU@30C AO@37.5C thermal@30.75C "
        "POM_5V_IN 2088/2090 POM_5V_GPU 82/82 POM_5V_CPU 288/288",
        {"power_POM_5V_IN_uw": 2088e3, "power_POM_5V_GPU_uw": 82e3, "power_POM_5V_CPU_uw": 288e3, "gpu_load": 0.0,
         "gpu_clock_hz": 76e6, "emc_clock_hz": 1600e6, "temperature_c": 37.5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_tegrastats_is_read(name: str) -> None:
    line, expected = LINES[name]
    assert parse_tegrastats(line) == pytest.approx(expected)


@pytest.mark.parametrize("line", ["", "RAM", "VDD_IN mW/mW GR3D_FREQ %@ EMC_FREQ", "\x00" * 1000, "CPU@C " * 1000])
def test_junk_in_place_of_a_line_gives_nothing(line: str) -> None:
    assert parse_tegrastats(line) == {}
