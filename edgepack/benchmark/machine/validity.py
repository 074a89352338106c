"""Judges by the machine's facts before and after a measurement whether the measurement counts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.benchmark.machine.nvml import REASONS
from edgepack.benchmark.machine.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.target import Host


# vcgencmd get_throttled (raspberrypi.com/documentation): the low bits are of now, the same 16 higher of since boot.
_FIRMWARE = {1: "under-voltage", 2: "frequency capped", 4: "throttled", 8: "soft temperature limit"}
_NOW, _SINCE_BOOT = 0xF, 16
_POWER_CAP = 0x4  # of NVML's clock-event reasons


@dataclass(frozen=True)
class Bounds:
    """Outside these a run is invalid. Shares are of the run's duration, or of the cores' time in it."""

    pressure: float = 0.05
    other_load: float = 0.05
    steal: float = 0.01
    swap_bytes: int = 1 << 20
    frequency_loss: float = 0.10
    hot_c: float = 95.0
    gpu_limited: float = 0.01
    gpu_hot_c: float = 90.0


@dataclass(frozen=True)
class Run:
    """What a measurement itself took: its wall time in seconds, and what the processes took that belong to it."""

    wall_s: float
    own: Usage
    cores: int


def reasons(
    before: Mapping[str, float], after: Mapping[str, float], run: Run, bounds: Bounds | None = None
) -> tuple[str, ...]:
    """Return why the run does not count, each with its figure and its bound; nothing when it does.

    ``before`` and ``after`` are ``circumstances.facts()``; a fact that this machine does not tell is not judged.
    """
    limits = bounds or Bounds()
    growth = {key: after[key] - before[key] for key in before.keys() & after.keys()}
    found = [
        *_busy(growth, run, limits),
        *_throttled(growth),
        *_slowed(before, after),
        *_swapped(growth, limits),
        *_clocked(before, after, limits),
        *(text for name in _gpus({**before, **after}) for text in _gpu(name, growth, before, after, run, limits)),
    ]
    return tuple(found)


def heat(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    """Return what lowered the clocks of the processor for heat or power between two looks at the machine."""
    growth = {key: after[key] - before[key] for key in before.keys() & after.keys()}
    return (*_heated(growth), *_slowed(before, after))


def _busy(growth: Mapping[str, float], run: Run, bounds: Bounds) -> list[str]:
    found = []
    wall = max(run.wall_s, 1e-9)
    other_s = max(growth["cpu_busy_s"] - run.own.cpu_s, 0.0) if "cpu_busy_s" in growth else math.inf
    if (pressure := _waited_s(growth, run, other_s) / wall) > bounds.pressure:
        found.append(f"tasks waited for a CPU in {pressure:.1%} of the time (bound {bounds.pressure:.0%})")
    if (other := other_s / (wall * run.cores)) > bounds.other_load and other_s < math.inf:
        found.append(f"other processes took {other:.1%} of the CPU time (bound {bounds.other_load:.0%})")
    if (steal := growth.get("cpu_steal_s", 0.0) / (wall * run.cores)) > bounds.steal:
        found.append(f"the hypervisor took {steal:.1%} of the CPU time (bound {bounds.steal:.0%})")
    return found


def _waited_s(growth: Mapping[str, float], run: Run, other_s: float) -> float:
    """Return for how long tasks may have waited because of what does not belong to the run.

    The kernel counts the time in which any task waited. An engine's threads also wait for one another. What they waited
    for others is at most the time in which others ran; what they did not wait themselves, others waited.
    """
    waited_s = growth.get("cpu_pressure_total_us", 0.0) / 1e6
    return min(waited_s, other_s + max(waited_s - run.own.waited_s, 0.0))


def _throttled(growth: Mapping[str, float]) -> list[str]:
    found = _heated(growth)
    if (periods := growth.get("cgroup_throttled_count", 0.0)) > 0:
        found.append(f"the control group ran out of its CPU quota {periods:.0f} times")
    limits = growth.get("cgroup_memory_high_count", 0.0) + growth.get("cgroup_memory_max_count", 0.0)
    if limits > 0:
        found.append(f"the control group met its memory limit {limits:.0f} times")
    return found


def _heated(growth: Mapping[str, float]) -> list[str]:
    found = []
    if (events := growth.get("throttle_count", 0.0)) > 0:
        found.append(f"the CPU throttled for heat or power {events:.0f} times")
    if (events := growth.get("overcurrent_count", 0.0)) > 0:
        found.append(f"the board lowered its clocks for over-current {events:.0f} times")
    return found


def _slowed(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Judge what small boards tell: cooling by a lower clock, and a Raspberry Pi's firmware."""
    found = []
    if (state := after.get("cooling_state", 0.0)) > 0:
        found.append(f"the kernel lowered the CPU clock for heat (cooling state {state:.0f})")
    bits, old = int(after.get("firmware_throttled", 0)), int(before.get("firmware_throttled", 0))
    happened = (bits | (bits & ~old) >> _SINCE_BOOT) & _NOW
    words = [text for bit, text in _FIRMWARE.items() if happened & bit]
    if words:
        found.append(f"the board's firmware lowered the clock: {', '.join(words)}")
    return found


def _swapped(growth: Mapping[str, float], bounds: Bounds) -> list[str]:
    swapped = max(growth.get("swap_out_bytes", 0.0), growth.get("swap_used_bytes", 0.0))
    back = growth.get("swap_in_bytes", 0.0)
    found = [f"{swapped / 1e6:.0f} MB were swapped out"] if swapped > bounds.swap_bytes else []
    return found + ([f"{back / 1e6:.0f} MB were read back from swap"] if back > bounds.swap_bytes else [])


def _gpus(facts: Mapping[str, float]) -> list[str]:
    """Return what the keys of each GPU's facts begin with: gpu, gpu1, gpu2, ..."""
    return sorted({match[1] for key in facts if (match := re.match(r"(gpu\d*)_", key))})


def _called(name: str) -> str:
    return "the GPU" if name == "gpu" else f"GPU {name.removeprefix('gpu')}"


def _gpu(
    name: str,
    growth: Mapping[str, float],
    before: Mapping[str, float],
    after: Mapping[str, float],
    run: Run,
    bounds: Bounds,
) -> list[str]:
    found = []
    gpu = _called(name)
    for key, text in (("heat", "heat"), ("power", "its power limit"), ("board", "the board's limits")):
        share = growth.get(f"{name}_{key}_limited_ns", 0.0) / 1e9 / max(run.wall_s, 1e-9)
        if share > bounds.gpu_limited:
            found.append(f"{gpu}'s clock was lowered for {text} in {share:.1%} of the time ({bounds.gpu_limited:.0%})")
    reasons = int(after.get(f"{name}_event_reasons", 0)) | int(before.get(f"{name}_event_reasons", 0))
    # That the GPU counts how long its power limit held it says more than a look at two moments.
    counted = _POWER_CAP if f"{name}_power_limited_ns" in after else 0
    words = [text for bit, text in REASONS.items() if reasons & bit and bit != counted]
    if words:
        found.append(f"{gpu}'s clock was lowered by {', '.join(words)} when it was looked at")
    if (heat := after.get(f"{name}_temperature_c", 0.0)) > bounds.gpu_hot_c:
        found.append(f"{gpu} read {heat:.0f} °C afterwards (bound {bounds.gpu_hot_c:.0f} °C)")
    if (share := before.get(f"{name}_utilization", 0.0)) > bounds.other_load:
        found.append(f"other work took {share:.0%} of {gpu} before the measurement (bound {bounds.other_load:.0%})")
    return found


def _clocked(before: Mapping[str, float], after: Mapping[str, float], bounds: Bounds) -> list[str]:
    found = []
    if (heat := after.get("temperature_c", 0.0)) > bounds.hot_c:
        found.append(f"the hottest sensor read {heat:.0f} °C afterwards (bound {bounds.hot_c:.0f} °C)")
    first, last = before.get("cpu_frequency_hz", 0.0), after.get("cpu_frequency_hz", 0.0)
    steady = after.get("governor_performance") == 1  # other governors slow an idle clock down, which says nothing
    if steady and last < first * (1 - bounds.frequency_loss):
        found.append(f"the CPU clock fell from {first / 1e9:.2f} to {last / 1e9:.2f} GHz")
    for key, what in (("governor_performance", "the CPU frequency governor"), ("turbo", "turbo")):
        if key in before and key in after and before[key] != after[key]:
            found.append(f"the setting of {what} was changed meanwhile")
    return found


def cautions(host: Host, facts: Mapping[str, float]) -> tuple[str, ...]:
    """Return what makes measurements on this machine less repeatable, without voiding one."""
    found = []
    if facts.get("governor_performance") == 0:
        found.append(f"the CPU frequency governor is not 'performance' ({host.power_mode or 'unknown'})")
    elif host.power_mode and "on battery" in host.power_mode:
        found.append("the machine runs on battery")
    if facts.get("turbo") == 1:
        found.append("turbo is on: the clock depends on heat and on the other cores")
    if (cores := facts.get("cgroup_cpu_cores")) is not None:
        found.append(f"the control group may use {cores:g} cores: it is stopped when it takes more for a while")
    for name in _gpus(facts):
        now, highest = facts.get(f"{name}_clock_hz"), facts.get(f"{name}_clock_max_hz")
        if now and highest:
            found.append(f"{_called(name)}'s clock was {now / 1e6:.0f} of {highest / 1e6:.0f} MHz afterwards")
    return tuple(found)
