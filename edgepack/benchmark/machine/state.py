"""facts(): what loads or slows this machine right now, with its GPU and the throttling that small boards tell."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.benchmark.machine.nvml import gpu_facts, these_gpus
from edgepack.device.host import ROOT, control_groups, load_facts
from edgepack.device.jetson import jetson_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

_SLOWS = re.compile(r"processor|cpufreq|devfreq|intel_powerclamp", re.IGNORECASE)  # not fans


def facts(root: Path = ROOT) -> Mapping[str, float]:
    """Return ``host.load_facts()`` and, each absent where this machine does not tell it:

    - ``swap_in_bytes``, ``swap_out_bytes``: read from and written to swap since boot (/proc/vmstat).
    - ``cooling_state``: the highest state of the cooling devices that slow a processor; 0 is none (Linux,
      Documentation/driver-api/thermal/sysfs-api.rst). This is how ARM boards throttle.
    - ``firmware_throttled``: a Raspberry Pi's own bits (raspberrypi.com/documentation, vcgencmd get_throttled).
    - ``overcurrent_count``: a Jetson's over-current throttling events (Jetson Linux Developer Guide, oc<n>_event_cnt).
    - ``cgroup_memory_high_count``, ``cgroup_memory_max_count``: how often this control group met its memory limits.
    - ``cgroup_cpu_cores``: the CPU quota of this control group and those above, in cores.
    - ``gpu_*``: of NVIDIA's GPUs, of the second ``gpu1_*``, see ``nvml.gpu_facts``; of a Jetson ``gpu_clock_hz`` and
      ``gpu_clock_max_hz``.
    - ``power_<rail>_uw``, ``emc_clock_hz``, ``jetson_clocks``, ``nvpmodel``: of a Jetson, see ``jetson.jetson_facts``.
    """
    found = {
        **load_facts(root),
        **_swap(root),
        **_slowed(root),
        **_groups(root),
        **_jetson_gpu(root),
        **jetson_facts(root),
        **(gpu_facts(these_gpus()) if root == ROOT else {}),
    }
    return dict(sorted(found.items()))


def _swap(root: Path) -> dict[str, float]:
    text = _text(root / "proc/vmstat")
    page = os.sysconf("SC_PAGE_SIZE")
    found = {}
    for key, name in (("swap_in_bytes", "pswpin"), ("swap_out_bytes", "pswpout")):
        if match := re.search(rf"^{name} (\d+)$", text, re.MULTILINE):
            found[key] = float(int(match[1]) * page)
    return found


def _slowed(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    states = [
        state
        for device in root.glob("sys/class/thermal/cooling_device*")
        if _SLOWS.search(_text(device / "type")) and (state := _number(device / "cur_state")) is not None
    ]
    if states:
        found["cooling_state"] = max(*states, 0.0)
    counts = [n for path in root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt") if (n := _number(path)) is not None]
    if counts:
        found["overcurrent_count"] = sum(counts)
    bits = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", bits):
        found["firmware_throttled"] = float(int(bits, 16))
    return found


def _groups(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for folder in control_groups(root, "memory")[:1]:
        events = _text(folder / "memory.events")
        for name in ("high", "max"):
            if match := re.search(rf"^{name} (\d+)$", events, re.MULTILINE):
                found[f"cgroup_memory_{name}_count"] = float(match[1])
    quotas = []
    for folder in control_groups(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            quotas.append(quota / period)
    if quotas:
        found["cgroup_cpu_cores"] = min(quotas)
    return found


def _jetson_gpu(root: Path) -> dict[str, float]:
    """Return the clock of a Jetson's GPU, which is a devfreq device named after its node: 17000000.gpu, .ga10b."""
    for device in sorted(root.glob("sys/class/devfreq/*")):
        if re.search(r"\.(gpu|gv11b|ga10b|gp10b|gm20b|gb10b)$", device.name):
            clock, highest = _number(device / "cur_freq"), _number(device / "max_freq")
            found = {"gpu_clock_hz": clock, "gpu_clock_max_hz": highest}
            return {key: value for key, value in found.items() if value is not None}
    return {}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    text = _text(path)
    return float(text) if re.fullmatch(r"-?\d+", text) else None
