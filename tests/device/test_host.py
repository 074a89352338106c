"""The readers of machine facts, on this machine and on recorded ``/proc`` and ``/sys`` trees."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgepack.device import host
from edgepack.engines.targets import is_this_host
from edgepack.specs.target import Compute, EngineFacts, Host, Target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INTEL_CPU = """processor	: {n}
vendor_id	: GenuineIntel
model name	: {model}
cpu MHz		: {mhz}
flags		: fpu sse4_1 avx avx2 fma f16c {more}
"""

PI5_CPU = """processor	: {n}
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
"""

MEMINFO = """MemTotal:        8192000 kB
MemFree:         1000000 kB
MemAvailable:    4000000 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
HugePages_Total:       0
"""


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def x86(flags: str = "") -> Host:
    return Host("c", "x86_64", tuple(flags.split()), 4, 1 << 30, "linux", "6", "3.11")


# --- this machine -----------------------------------------------------------------------------------------------------


def test_facts_of_this_machine_are_whole() -> None:
    facts = host.host_facts()
    assert facts.cpu
    assert facts.arch in ("x86_64", "aarch64")
    assert 1 <= facts.cores <= (os.cpu_count() or 1)
    assert facts.memory_bytes > 1 << 27
    assert facts.isa == tuple(sorted(set(facts.isa)))
    assert facts.isa
    assert (facts.kernel, facts.python) == (platform.release(), platform.python_version())


def test_load_facts_of_this_machine_are_finite_and_sorted() -> None:
    facts = host.load_facts()
    assert list(facts) == sorted(facts)
    assert facts["memory_available_bytes"] > 0
    assert all(math.isfinite(value) for value in facts.values())


def test_busy_time_grows() -> None:
    before = host.load_facts()["cpu_busy_s"]
    for _ in range(3_000_000):
        pass
    assert host.load_facts()["cpu_busy_s"] >= before


def test_affinity_limits_the_cores() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os, edgepack.device.host as h; os.sched_setaffinity(0, {{{one}}}); print(h.host_facts().cores)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"


def test_no_engine_and_no_numpy_is_imported() -> None:
    code = "import sys, edgepack.device.host as h; h.host_facts(); h.load_facts(); print('numpy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


# --- recorded machines ------------------------------------------------------------------------------------------------


def test_an_empty_tree_gives_no_facts_and_no_error(tmp_path: Path) -> None:
    facts = host.host_facts(tmp_path)
    assert (facts.isa, facts.gpu, facts.power_mode) == ((), None, None)
    assert facts.cores >= 1
    assert dict(host.load_facts(tmp_path)) == {}


def test_only_flags_that_every_core_has_are_kept(tmp_path: Path) -> None:
    blocks = [
        INTEL_CPU.format(n=0, model="Intel(R) Core(TM) Ultra 7 155H", mhz=900, more="avx_vnni rtm"),
        INTEL_CPU.format(n=1, model="Intel(R) Core(TM) Ultra 7 155H", mhz=900, more="rtm"),
    ]
    facts = host.host_facts(tree(tmp_path, {"proc/cpuinfo": "\n".join(blocks)}))
    assert facts.isa == ("avx", "avx2", "f16c", "fma", "sse4_1")


def test_a_raspberry_pi_is_named_by_its_board_and_cores(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "\n".join(PI5_CPU.format(n=n) for n in range(4))
            + "\nRevision	: d04170\nModel	: Raspberry\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        },
    )
    facts = host.host_facts(root)
    assert facts.cpu == "Raspberry Pi 5 Model B Rev 1.0 (Arm Cortex-A76)"
    assert facts.isa == ("asimd", "asimddp", "asimdhp", "fphp")
    assert facts.gpu is None


def test_big_little_cores_are_all_named(tmp_path: Path) -> None:
    blocks = [
        PI5_CPU.format(n=0),
        PI5_CPU.format(n=1).replace("0xd0b", "0xd05"),
        PI5_CPU.format(n=2).replace("0x41", "0x51"),
    ]
    root = tree(tmp_path, {"proc/cpuinfo": "\n".join(blocks)})
    assert host.host_facts(root).cpu == "Arm Cortex-A55, Arm Cortex-A76, implementer 0x51 part 0xd0b"


def test_a_jetson_names_its_gpu_and_power_mode(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "var/lib/nvpmodel/status": "pmode:0002\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        },
    )
    facts = host.host_facts(root)
    assert facts.gpu == "NVIDIA tegra234"
    assert facts.power_mode == "governor schedutil, nvpmodel 2"


def test_the_nvidia_driver_names_its_gpu(tmp_path: Path) -> None:
    text = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 255\nGPU UUID: \t GPU-0\n"
    facts = host.host_facts(tree(tmp_path, {"proc/driver/nvidia/gpus/0000:65:00.0/information": text}))
    assert facts.gpu == "NVIDIA H200"


@pytest.mark.parametrize(("online", "expected"), [("1\n", "profile balanced"), ("0\n", "profile balanced, on battery")])
def test_a_laptop_says_whether_it_runs_on_battery(tmp_path: Path, online: str, expected: str) -> None:
    files = {
        "sys/firmware/acpi/platform_profile": "balanced\n",
        "sys/class/power_supply/AC/type": "Mains\n",
        "sys/class/power_supply/AC/online": online,
        "sys/class/power_supply/BAT0/type": "Battery\n",
    }
    assert host.host_facts(tree(tmp_path, files)).power_mode == expected


# --- control groups ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, 16, id="none"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 16, id="v2-max"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2, id="v2-container"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user.slice/job.scope\n",
                "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000\n",
            },
            3,
            id="v2-parent",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="v2-path-of-host"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="v1-container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "1:cpu:/\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
            id="v1-unlimited",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "garbage\n"}, 16, id="garbage"),
        pytest.param({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, 16, id="zero-period"),
    ],
)
def test_cores_follow_the_cpu_quota(tmp_path: Path, files: Mapping[str, str], cores: int) -> None:
    assert host.host_facts(tree(tmp_path, files)).cores == cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 8192000 * 1024, id="none"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 8192000 * 1024, id="v2-max"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1 << 30, id="v2"),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a/b\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "536870912\n",
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
            },
            1 << 29,
            id="v1-parent",
        ),
    ],
)
def test_memory_follows_the_control_group(tmp_path: Path, files: Mapping[str, str], expected: int) -> None:
    facts = host.host_facts(tree(tmp_path, {"proc/meminfo": MEMINFO, **files}))
    assert facts.memory_bytes == expected


# --- load -------------------------------------------------------------------------------------------------------------


def test_load_facts_of_a_recorded_machine(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    root = tree(
        tmp_path,
        {
            "proc/pressure/cpu": "some avg10=12.50 avg60=1.00 avg300=0.10 total=123456\nfull avg10=0.00 total=0\n",
            "proc/pressure/io": "some avg10=0.25 avg60=0.00 avg300=0.00 total=7\n",
            "proc/loadavg": "0.74 0.35 0.18 3/105 9542\n",
            "proc/stat": "cpu  200 100 300 9000 5 6 94 50 0 0\ncpu0 1 2 3\n",
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/job\n",
            "sys/fs/cgroup/job/cpu.stat": "usage_usec 5\nnr_periods 10\nnr_throttled 3\nthrottled_usec 9\n",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "2000000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "3000000\n",
            f"{cpu}/cpu0/cpufreq/cpuinfo_max_freq": "4000000\n",
            f"{cpu}/cpu0/cpufreq/scaling_governor": "performance\n",
            f"{cpu}/cpu1/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/intel_pstate/no_turbo": "1\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "4\n",
            f"{cpu}/cpu0/thermal_throttle/package_throttle_count": "5\n",
            "sys/class/thermal/thermal_zone0/temp": "45000\n",
            "sys/class/thermal/thermal_zone1/temp": "61500\n",
            "sys/class/thermal/thermal_zone2/temp": "\n",
        },
    )
    ticks = os.sysconf("SC_CLK_TCK")
    assert dict(host.load_facts(root)) == {
        "cgroup_throttled_count": 3.0,
        "cpu_busy_s": 700 / ticks,
        "cpu_frequency_hz": 2.5e9,
        "cpu_frequency_max_hz": 4e9,
        "cpu_pressure_avg10": 12.5,
        "cpu_pressure_total_us": 123456.0,
        "cpu_steal_s": 50 / ticks,
        "governor_performance": 0.0,
        "io_pressure_avg10": 0.25,
        "load_average_1m": 0.74,
        "memory_available_bytes": 4000000.0 * 1024,
        "runnable_tasks": 3.0,
        "swap_used_bytes": 500000.0 * 1024,
        "temperature_c": 61.5,
        "throttle_count": 9.0,
        "turbo": 0.0,
    }


def test_a_machine_without_cpufreq_tells_its_clock_in_cpuinfo(tmp_path: Path) -> None:
    blocks = [
        INTEL_CPU.format(n=n, model="Intel(R) Xeon(R)", mhz=mhz, more="") for n, mhz in enumerate(("2700.0", "2900.0"))
    ]
    facts = host.load_facts(tree(tmp_path, {"proc/cpuinfo": "\n".join(blocks)}))
    assert facts["cpu_frequency_hz"] == 2.8e9


def test_unreadable_and_binary_files_are_absent_facts(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/pressure/cpu": "some avg10=oops", "proc/loadavg": "", "proc/stat": "cpu 1 2"})
    (root / "proc/meminfo").write_bytes(b"\xff\xfe\x00MemTotal")
    (root / "sys/class/thermal/thermal_zone0/temp").mkdir(parents=True)
    assert dict(host.load_facts(root)) == {}


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "flags", "expected"),
    [
        ("x86_64", "avx avx2", True),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", "avx512f avx512_vnni", False),
        ("x86_64", "avx512f avx512bw", True),
        ("aarch64", "asimd", False),
    ],
)
def test_saturation_is_of_x86_without_vnni(arch: str, flags: str, expected: bool) -> None:
    assert host.saturates(dataclasses.replace(x86(flags), arch=arch)) is expected


def test_missing_flags_are_named() -> None:
    target = Target("t", "t", "onnxruntime", "x86_64", compute=Compute(isa=("avx2", "avx_vnni")))
    assert host.has_isa(target, x86("avx2 fma")) == ("avx_vnni",)
    assert host.has_isa(target, x86("avx2 avx_vnni")) == ()


def test_another_architecture_misses_every_flag() -> None:
    target = Target("t", "t", "onnxruntime", "aarch64", compute=Compute(isa=("asimd", "asimddp")))
    assert host.has_isa(target, x86("avx2")) == ("asimd", "asimddp")


def _target(**compute: object) -> Target:
    return Target("t", "t", "openvino", "x86_64", compute=Compute(**compute))  # type: ignore[arg-type]


def test_a_target_is_this_host_when_model_and_flags_fit(tmp_path: Path) -> None:
    machine = dataclasses.replace(x86("avx2"), cpu="Intel(R) N100")
    assert is_this_host(_target(cpu_model=r"\bN100\b", isa=("avx2",)), machine, tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(_target(isa=("avx2",)), id="names-no-machine"),
        pytest.param(_target(cpu_model=r"\bN100\b"), id="other-model"),
        pytest.param(_target(cpu_model="N200", isa=("avx_vnni",)), id="flag-missing"),
        pytest.param(dataclasses.replace(_target(cpu_model="N200"), arch="aarch64"), id="other-arch"),
        pytest.param(dataclasses.replace(_target(cpu_model="N200"), os="windows"), id="other-os"),
        pytest.param(dataclasses.replace(_target(cpu_model="N200"), engine=EngineFacts(device="GPU")), id="no-gpu"),
        pytest.param(dataclasses.replace(_target(cpu_model="N200"), engine=EngineFacts(device="NPU")), id="no-npu"),
    ],
)
def test_a_target_is_not_this_host_when_anything_differs(tmp_path: Path, target: Target) -> None:
    machine = dataclasses.replace(x86("avx2"), cpu="Intel(R) N200")
    assert not is_this_host(target, machine, tmp_path)


def test_accelerators_are_found_by_their_drivers(tmp_path: Path) -> None:
    machine = dataclasses.replace(x86("avx2"), cpu="Intel(R) Core(TM) Ultra 7 155H")
    root = tree(
        tmp_path,
        {"sys/class/drm/renderD128/device/vendor": "0x8086\n", "sys/class/accel/accel0/device/vendor": "0x8086\n"},
    )
    for device in ("GPU", "NPU", "CPU"):
        target = dataclasses.replace(_target(cpu_model="Core.*Ultra"), engine=EngineFacts(device=device))
        assert is_this_host(target, machine, root)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", "Intel Xeon Platinum 8488C"),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763 64-Core"),
        ("", "x86_64"),
    ],
)
def test_titles_lose_trade_marks(name: str, short: str) -> None:
    assert host.short_cpu_name(dataclasses.replace(x86(), cpu=name)) == short


def test_flag_names_are_those_of_the_kernel() -> None:
    assert all(re.fullmatch(r"[a-z0-9_]+", flag) for flag in host.FLAGS)


# --- caches -----------------------------------------------------------------------------------------------------------


def caches(*rows: tuple[str, str, str, str]) -> dict[str, str]:
    names = ("level", "type", "size", "shared_cpu_list")
    place = "sys/devices/system/cpu/cpu0/cache/index"
    return {f"{place}{n}/{k}": f"{v}\n" for n, row in enumerate(rows) for k, v in zip(names, row, strict=True)}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            caches(("1", "Data", "48K", "0"), ("1", "Instruction", "32K", "0"), ("2", "Unified", "2048K", "0,4-5"),
                   ("3", "Unified", "300M", "0-7")),
            {"l1_bytes": 48 << 10, "l2_bytes": 2 << 20, "l2_cores": 3},
        ),
        (caches(("1", "Data", "32K", "0"), ("2", "Unified", "1M", "0-3")),
         {"l1_bytes": 32 << 10, "l2_bytes": 1 << 20, "l2_cores": 4}),
        (caches(("2", "Unified", "512K", "garbage")), {"l2_bytes": 512 << 10}),
        (caches(("1", "Data", "", "0"), ("2", "Unified", "0K", "0")), {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_cache_sizes_are_read_and_what_is_not_told_is_absent(
    files: dict[str, str], wanted: dict[str, int], tmp_path: Path
) -> None:
    assert host.cache_facts(tree(tmp_path, files)) == wanted
