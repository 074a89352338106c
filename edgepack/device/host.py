"""Facts about the machine this runs on: CPU, instruction set, cores, memory, GPU, power mode, and what loads it now.

Standard library only and no engine: everything is read from ``/proc`` and ``/sys``, on x86-64 and aarch64, on bare
metal, in virtual machines and in containers; only whether Linux gives AMX is asked for. A fact that cannot be read is
absent, never guessed. Every function takes ``root``, the folder that holds ``proc`` and ``sys``, so that the readers
are tested on recorded trees.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.parallel import usable_cores
from edgepack.device import amx, jetson
from edgepack.specs.target import Host, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path("/")

# The flags that decide which kernels an engine takes. Names as in /proc/cpuinfo: arch/x86/include/asm/cpufeatures.h
# and arch/arm64/include/uapi/asm/hwcap.h of Linux; the last line has RISC-V extensions (arch/riscv/kernel/cpu.c).
FLAGS = {
    *("ssse3", "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "asimdfhm", "fphp", "i8mm", "bf16"),
    *("sve", "sve2", "svei8mm", "svebf16", "sme", "sme2"),
    "v",
}

# MIDR_EL1.PartNum of cores that Arm designed (implementer 0x41), each from the core's Technical Reference Manual.
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
}
_ARM_IMPLEMENTER = 0x41

_ARCH_NAMES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_PCI_INTEL = "0x8086"  # PCI-SIG vendor number of Intel


def host_facts(root: Path = ROOT) -> Host:
    """Return what this machine is. Takes milliseconds; only a machine with ``nvidia-smi`` may start a process."""
    arch = _arch()
    processors = _processors(root)
    return Host(
        cpu=_cpu_name(root, processors) or platform.processor() or arch,
        arch=arch,
        isa=_usable(_isa(processors), root),
        cores=_cores(root),
        memory_bytes=_memory_bytes(root),
        os=platform.system().lower(),
        kernel=platform.release(),
        python=platform.python_version(),
        gpu=_gpu(root),
        power_mode=_power_mode(root),
    )


def load_facts(root: Path = ROOT) -> Mapping[str, float]:
    """Return what loads or slows this machine right now; compare two calls around a measurement.

    Keys, each absent where this machine does not tell it:

    - ``cpu_pressure_avg10``, ``memory_pressure_avg10``, ``io_pressure_avg10``: per cent of the last 10 s in which some
      task waited (Linux, Documentation/accounting/psi.rst); ``cpu_pressure_total_us`` only grows.
    - ``load_average_1m``; ``runnable_tasks`` now, this one included.
    - ``cpu_busy_s``, ``cpu_steal_s``: seconds of all cores since boot, in work and taken by the hypervisor.
    - ``cpu_frequency_hz``: mean over the cores; ``cpu_frequency_max_hz``: the highest that a core may take.
    - ``governor_performance``: 1 when every core's governor is ``performance``, else 0; ``turbo``: 1 on, 0 off.
    - ``throttle_count``: thermal throttle events of cores and packages since boot (x86).
    - ``cgroup_throttled_count``: periods in which this control group ran out of its CPU quota.
    - ``temperature_c``: the hottest thermal zone; ``swap_used_bytes``; ``memory_available_bytes``.
    """
    facts = {
        **_pressure(root),
        **_scheduler(root),
        **_frequency(root),
        **_throttling(root),
        **_memory_now(root),
    }
    temperatures = [t / 1000 for t in _numbers(root.glob("sys/class/thermal/thermal_zone*/temp")) if t > 0]
    if temperatures:
        facts["temperature_c"] = max(temperatures)
    return dict(sorted(facts.items()))


def cache_facts(root: Path = ROOT) -> Mapping[str, int]:
    """Return ``l1_bytes``, ``l2_bytes`` and ``l2_cores`` of the first core, each absent where Linux does not tell it.

    They are the keys of a profile's ``[compute]``: the data cache, the next one, and how many cores share that
    (Documentation/ABI/testing/sysfs-devices-system-cpu; where a core runs two threads, each counts as a core).
    """
    facts: dict[str, int] = {}
    for folder in sorted(root.glob("sys/devices/system/cpu/cpu0/cache/index*")):
        level, kind = _text(folder / "level").strip(), _text(folder / "type").strip()
        size = re.fullmatch(r"(\d+)([KM])", _text(folder / "size").strip())
        if level not in ("1", "2") or kind not in ("Data", "Unified") or size is None or int(size[1]) == 0:
            continue
        facts[f"l{level}_bytes"] = int(size[1]) << (10 if size[2] == "K" else 20)
        if level == "2" and (sharing := _count(_text(folder / "shared_cpu_list").strip())):
            facts["l2_cores"] = sharing
    return facts


def _count(ranges: str) -> int:
    """Return how many numbers a list like "0-3,8" holds; 0 when it is none."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in ranges.split(",")]
    return sum(int(part[2] or part[1]) - int(part[1]) + 1 for part in parts if part) if all(parts) else 0


def is_cpu_of(target: Target, host: Host) -> bool:
    """Say whether ``host`` has the processor that ``target`` describes; a profile without ``cpu_model`` names none."""
    pattern = target.compute.cpu_model
    return (
        pattern is not None
        and target.arch == host.arch
        and target.os == host.os
        and re.search(pattern, host.cpu) is not None
        and not has_isa(target, host)
    )


def has_isa(target: Target, host: Host) -> tuple[str, ...]:
    """Return the instruction-set flags that ``target`` has and ``host`` lacks; all of them on another architecture."""
    return tuple(sorted(set(target.compute.isa) - set(host.isa if host.arch == target.arch else ())))


def can_run(target: Target, host: Host) -> bool:
    """Say whether machine code for ``target`` runs on this machine."""
    return target.arch == host.arch and target.os == host.os and not has_isa(target, host)


def saturates(host: Host) -> bool:
    """Say whether int8 multiply-adds clip at 16 bits here: VPMADDUBSW on x86 without VNNI (Intel SDM, volume 2)."""
    return host.arch == "x86_64" and not {"avx512_vnni", "avx_vnni"} & set(host.isa)


def short_cpu_name(host: Host) -> str:
    """Return the CPU's name without trade marks and spare words, for titles."""
    name = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|@.*", " ", host.cpu)
    return " ".join(name.split()) or host.arch


# --- CPU --------------------------------------------------------------------------------------------------------------


def _arch() -> str:
    machine = platform.machine().lower()
    arch = _ARCH_NAMES.get(machine, machine)
    if sys.maxsize < 1 << 32:  # a 32-bit Python on a 64-bit kernel loads 32-bit engines only
        arch = {"x86_64": "i686", "aarch64": "armv7l"}.get(arch, arch)
    return arch


def _processors(root: Path) -> list[dict[str, str]]:
    """Return the blocks of ``/proc/cpuinfo``, one a core."""
    blocks: list[dict[str, str]] = []
    for block in _text(root / "proc/cpuinfo").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        if fields := {key.strip(): value.strip() for key, _, value in pairs}:
            blocks.append(fields)
    return blocks


def _isa(processors: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the flags that every core has; the cores of one machine may differ."""
    sets = [
        set((p.get("flags") or p.get("Features") or "").split()) | _riscv_extensions(p.get("isa", ""))
        for p in processors
        if "processor" in p
    ]
    common = set.intersection(*sets) if sets else set()
    return tuple(sorted(common & FLAGS))


def _usable(isa: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """Return the flags without AMX's where the processor of this machine has it and its Linux does not."""
    if root != ROOT or "amx_tile" not in isa or amx.is_supported():
        return isa
    return tuple(flag for flag in isa if not flag.startswith("amx_"))


def _riscv_extensions(isa: str) -> set[str]:
    """Return the extensions in RISC-V's ``isa`` line: "rv64imafdcv_zba_zbb" is one letter each, then names."""
    base, *names = isa.split("_")
    return {*base[4:], *names} if base.startswith("rv64") else set()


def _cpu_name(root: Path, processors: Iterable[Mapping[str, str]]) -> str:
    """Return the model name (x86), or the board and its core types (ARM)."""
    processors = list(processors)
    names = [p["model name"] for p in processors if p.get("model name")]
    if names and not names[0].startswith("ARMv"):  # Jetson Linux shows "ARMv8 Processor rev 1", which tells nothing
        return " ".join(names[0].split())
    board = _text(root / "proc/device-tree/model").strip("\0\n ")
    cores = sorted({core for p in processors if (core := _arm_core(p))})
    if board:
        return f"{board} ({', '.join(cores)})" if cores else board
    return ", ".join(cores)


def _arm_core(processor: Mapping[str, str]) -> str:
    try:
        implementer, part = int(processor["CPU implementer"], 16), int(processor["CPU part"], 16)
    except (KeyError, ValueError):
        return ""
    if implementer == _ARM_IMPLEMENTER and part in _ARM_PARTS:
        return f"Arm {_ARM_PARTS[part]}"
    return f"implementer {implementer:#x} part {part:#x}"


def _cores(root: Path) -> int:
    """Return how many cores this process may use: its affinity, and the CPU quota of its control groups rounded up."""
    quotas = [-(-quota // period) for quota, period in _quotas(root) if quota > 0 and period > 0]
    return max(1, min([usable_cores(), *quotas]))


# --- control groups ---------------------------------------------------------------------------------------------------


def _quotas(root: Path) -> Iterator[tuple[int, int]]:
    """Yield (quota, period) in microseconds of this process's control groups and all above them."""
    for folder in control_groups(root, "cpu"):
        words = _text(folder / "cpu.max").split()  # version 2: "max 100000" or "150000 100000"
        if len(words) == 2 and all(word.isdigit() for word in words):
            yield int(words[0]), int(words[1])
        for quota in _numbers([folder / "cpu.cfs_quota_us"]):  # version 1: -1 means no limit
            for period in _numbers([folder / "cpu.cfs_period_us"]):
                yield int(quota), int(period)


def _memory_bytes(root: Path) -> int:
    """Return the memory this process may use: of the machine, or of its control groups where that is less."""
    total = _meminfo(root).get("MemTotal", 0) or _sysconf_memory()
    files = (f / name for f in control_groups(root, "memory") for name in ("memory.max", "memory.limit_in_bytes"))
    limits = [int(number) for number in _numbers(files) if number > 0]
    return min([total, *limits]) if total else min(limits, default=0)


def control_groups(root: Path, controller: str) -> list[Path]:
    """Return the folders of this process's control group and its ancestors, of version 1 and 2.

    Inside a container ``/proc/self/cgroup`` may name a path of the host that is not mounted here; the mount's own top
    is then the container's group, so the top is always among the answers.
    """
    top = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for mount in (top / controllers, top / controller) if controllers else (top, top / "unified"):
            inner = mount / path.strip("/")
            while inner != mount and mount in inner.parents:
                folders.append(inner)
                inner = inner.parent
            folders.append(mount)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _sysconf_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _meminfo(root: Path) -> dict[str, int]:
    """Return ``/proc/meminfo`` in bytes."""
    result: dict[str, int] = {}
    for line in _text(root / "proc/meminfo").splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 3 and words[1].isdigit() and words[2] == "kB":
            result[words[0]] = int(words[1]) * 1024
    return result


# --- accelerators and power -------------------------------------------------------------------------------------------


def _gpu(root: Path) -> str | None:
    """Return the GPU's name from NVIDIA's driver, a Jetson's device tree or NVIDIA's tool; None when none is found."""
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        for line in _text(path).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model" and value.strip():
                return value.strip()
    compatible = _text(root / "proc/device-tree/compatible")
    if match := re.search(r"nvidia,(tegra\d+)", compatible):
        return f"NVIDIA {match[1]}"
    if root == ROOT and (tool := shutil.which("nvidia-smi")):
        return _ask_nvidia_smi(tool)
    return None


def _ask_nvidia_smi(tool: str) -> str | None:
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    names = [line.strip() for line in answer.splitlines() if line.strip()]
    return ", ".join(names) or None


def has_nvidia_gpu(target: Target, host: Host, root: Path = ROOT) -> bool:
    """Say whether an NVIDIA driver is here, of the release and on a board of the memory that the profile states.

    The kernel keeps up to a fifth of a Jetson's memory for itself, and its sizes differ by a factor of two.
    """
    if host.gpu is None:
        return False
    wanted, memory = target.engine.l4t, target.limits.memory_bytes
    if wanted is not None and wanted != (l4t_release(root) or "").partition(".")[0]:
        return False
    return memory is None or 0.7 * memory <= host.memory_bytes <= memory


def l4t_release(root: Path = ROOT) -> str | None:
    """Return the release of Jetson Linux, as ``36.4.3``; None on other machines.

    /etc/nv_tegra_release begins with "# R36 (release), REVISION: 4.3, ..." (NVIDIA Jetson Linux Developer Guide).
    """
    match = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else None


def nvidia_driver(root: Path = ROOT) -> str | None:
    """Return the version of NVIDIA's kernel driver, as ``540.4.0``; None where it is not loaded."""
    text = _text(root / "proc/driver/nvidia/version") or _text(root / "sys/module/nvidia/version")
    match = re.search(r"\b(\d+\.\d+(?:\.\d+)*)\b", text)
    return match[1] if match else None


def has_accelerator(target: Target, host: Host, root: Path = ROOT) -> bool:  # noqa: ARG001  as has_nvidia_gpu
    """Say whether the profile's device, an Intel GPU or NPU, has its driver here; a CPU always has."""
    device = target.engine.device
    if device.startswith("GPU"):
        vendors = root.glob("sys/class/drm/renderD*/device/vendor")
        return any(_text(path).strip() == _PCI_INTEL for path in vendors)
    if device.startswith("NPU"):
        return any(root.glob("sys/class/accel/accel*"))
    return True


def _power_mode(root: Path) -> str | None:
    """Return everything that is set about power: governors, firmware profile, Jetson mode, battery."""
    governors = sorted({_text(p).strip() for p in root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")})
    parts = [f"governor {name}" for name in governors if name]
    if profile := _text(root / "sys/firmware/acpi/platform_profile").strip():
        parts.append(f"profile {profile}")
    if mode := jetson.power_mode(root):
        name = jetson.power_mode_name(root)
        parts.append(f"nvpmodel {mode}" + (f" ({name})" if name else ""))
        if jetson.clocks_locked(root):
            parts.append("jetson_clocks")
    mains = [kind.parent for kind in root.glob("sys/class/power_supply/*/type") if _text(kind).strip() == "Mains"]
    if mains and not any(online > 0 for online in _numbers(folder / "online" for folder in mains)):
        parts.append("on battery")
    return ", ".join(parts) or None


# --- load -------------------------------------------------------------------------------------------------------------


def _pressure(root: Path) -> dict[str, float]:
    facts: dict[str, float] = {}
    for resource in ("cpu", "memory", "io"):
        match = re.match(r"some avg10=([\d.]+) .*total=(\d+)", _text(root / "proc/pressure" / resource))
        if match:
            facts[f"{resource}_pressure_avg10"] = float(match[1])
            if resource == "cpu":
                facts["cpu_pressure_total_us"] = float(match[2])
    return facts


def _scheduler(root: Path) -> dict[str, float]:
    facts: dict[str, float] = {}
    if match := re.match(r"([\d.]+) [\d.]+ [\d.]+ (\d+)/", _text(root / "proc/loadavg")):
        facts |= {"load_average_1m": float(match[1]), "runnable_tasks": float(match[2])}
    line = _text(root / "proc/stat").partition("\n")[0].split()
    if line[:1] == ["cpu"] and len(line) >= 9:
        user, nice, system, _idle, _wait, irq, softirq, steal = (int(n) for n in line[1:9])
        ticks = os.sysconf("SC_CLK_TCK")
        facts |= {"cpu_busy_s": (user + nice + system + irq + softirq) / ticks, "cpu_steal_s": steal / ticks}
    return facts


def _frequency(root: Path) -> dict[str, float]:
    facts: dict[str, float] = {}
    cpus = root / "sys/devices/system/cpu"
    now = [khz * 1000 for khz in _numbers(cpus.glob("cpu*/cpufreq/scaling_cur_freq"))]
    if not now:  # no cpufreq driver, as in most virtual machines
        now = [float(p["cpu MHz"]) * 1e6 for p in _processors(root) if _is_number(p.get("cpu MHz", ""))]
    if now:
        facts["cpu_frequency_hz"] = sum(now) / len(now)
    if highest := [khz * 1000 for khz in _numbers(cpus.glob("cpu*/cpufreq/cpuinfo_max_freq"))]:
        facts["cpu_frequency_max_hz"] = max(highest)
    if governors := {_text(p).strip() for p in cpus.glob("cpu*/cpufreq/scaling_governor")}:
        facts["governor_performance"] = float(governors == {"performance"})
    for off in _numbers([cpus / "intel_pstate/no_turbo"]):
        facts["turbo"] = float(off == 0)
    for on in _numbers([cpus / "cpufreq/boost"]):
        facts["turbo"] = float(on != 0)
    return facts


def _throttling(root: Path) -> dict[str, float]:
    facts: dict[str, float] = {}
    counters = list(_numbers(root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")))
    if counters:
        facts["throttle_count"] = sum(counters)
    for folder in control_groups(root, "cpu")[:1]:
        if match := re.search(r"^nr_throttled (\d+)$", _text(folder / "cpu.stat"), re.MULTILINE):
            facts["cgroup_throttled_count"] = float(match[1])
    return facts


def _memory_now(root: Path) -> dict[str, float]:
    memory = _meminfo(root)
    facts: dict[str, float] = {}
    if "SwapTotal" in memory and "SwapFree" in memory:
        facts["swap_used_bytes"] = float(memory["SwapTotal"] - memory["SwapFree"])
    if "MemAvailable" in memory:
        facts["memory_available_bytes"] = float(memory["MemAvailable"])
    return facts


# --- reading ----------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """Return a small file's text, empty when it is not there or not readable."""
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _numbers(paths: Iterable[Path]) -> Iterator[float]:
    """Yield the numbers that these files hold, leaving out those that are absent or hold something else."""
    for path in sorted(paths):
        text = _text(path).strip()
        if _is_number(text):
            yield float(text)
