"""doctor_benchmark(): what to change on this machine so that measurements on it can be believed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.benchmark.machine import energy, validity
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.usage import usage
from edgepack.device.host import host_facts
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edgepack.specs.target import Host

_ROOT = Path("/")
_WATCH_S = 1.0
_CPUS = Path("sys/devices/system/cpu")


def doctor_benchmark(
    root: Path = _ROOT, watch_s: float = _WATCH_S, sleep: Callable[[float], None] = time.sleep
) -> tuple[Diagnostic, ...]:
    """Watch this machine at rest for ``watch_s`` seconds and return what disturbs measurements, with hints.

    An "error" would void a measurement made now, a "warning" makes it less repeatable, a "note" says what cannot be
    measured or judged here. Nothing is changed.
    """
    before, began, used = facts(root), time.monotonic(), usage()
    sleep(watch_s)
    after = facts(root)
    run = validity.Run(max(time.monotonic() - began, watch_s), usage() - used, os.cpu_count() or 1)
    host = host_facts(root)
    return (
        *_now(before, after, run),
        *_settings(root, host, after),
        *_limits(root, host, after),
        *_sensors(root, after),
    )


def _now(before: Mapping[str, float], after: Mapping[str, float], run: validity.Run) -> Iterator[Diagnostic]:
    """Say what would void a measurement if it were made now."""
    hints = {
        "tasks waited": "end other work; 'top' shows it",
        "other processes": "end other work; 'top' shows it",
        "hypervisor": "the machine is virtual and shares its cores: ask for dedicated ones",
        "throttled": "cool the machine, or lower its power limit",
        "quota": "raise the control group's CPU quota",
        "swapped": "free some memory",
        "sensor read": "let it cool down",
        "clock fell": "let it cool down",
        "for heat": "see to cooling, and let it cool down",
        "under-voltage": "use a stronger power supply and a shorter cable",
        "firmware": "see to cooling and to the power supply",
        "over-current": "use a stronger power supply, or a lower power mode",
        "memory limit": "raise the control group's memory limit, or free some memory",
        "from swap": "free some memory",
        "GPU": "end other work on the GPU; 'nvidia-smi -q -d PERFORMANCE' says what slows it",
    }
    for reason in validity.reasons(before, after, run):
        hint = next((text for key, text in hints.items() if key in reason), None)
        yield Diagnostic("error", f"a measurement would be disturbed now: {reason}", hint=hint)


def _settings(root: Path, host: Host, known: Mapping[str, float]) -> Iterator[Diagnostic]:
    if known.get("governor_performance") == 0:
        yield Diagnostic(
            "warning",
            f"the CPU frequency governor is not 'performance' ({host.power_mode or 'unknown'})",
            hint="sudo cpupower frequency-set --governor performance",
        )
    if known.get("turbo") == 1:
        intel = root / _CPUS / "intel_pstate/no_turbo"
        switch, value = (intel, 1) if intel.exists() else (root / _CPUS / "cpufreq/boost", 0)
        yield Diagnostic(
            "warning",
            "turbo is on: the clock depends on heat and on the other cores",
            hint=f"echo {value} | sudo tee {switch}; turn it on again afterwards",
        )
    if _text(root / _CPUS / "smt/active") == "1":
        yield Diagnostic(
            "warning",
            "two threads share a core (SMT): a neighbour slows a measurement without any pressure being seen",
            hint="echo off | sudo tee /sys/devices/system/cpu/smt/control, or leave half of the threads idle",
        )
    if "on battery" in (host.power_mode or ""):
        yield Diagnostic("warning", "the machine runs on battery and may save power", hint="connect mains power")
    if _text(root / "proc/sys/kernel/randomize_va_space") not in ("", "0"):
        yield Diagnostic(
            "note",
            "the memory layout differs between processes, so two runs of one bundle differ a little",
            hint="'edgepack compare' takes that into account: it uses several pairs of fresh processes",
        )


def _limits(root: Path, host: Host, known: Mapping[str, float]) -> Iterator[Diagnostic]:
    cores = os.cpu_count() or 1
    if root == _ROOT and host.cores < cores:
        yield Diagnostic(
            "warning",
            f"this process may use {host.cores} of the machine's {cores} cores; others may use the rest",
            hint="measure with --threads no larger than that",
        )
    if (limit := known.get("cgroup_cpu_cores")) is not None:
        yield Diagnostic(
            "warning",
            f"the control group may use {limit:g} cores: it is stopped when it takes more for a while",
            hint=f"measure with --threads {max(1, int(limit))} or fewer, or raise the quota",
        )
    if known.get("swap_used_bytes", 0) > validity.Bounds().swap_bytes:
        yield Diagnostic(
            "warning",
            f"{known['swap_used_bytes'] / 1e6:.0f} MB are swapped out; swapping disturbs measurements",
            hint="free some memory, then: sudo swapoff -a && sudo swapon -a",
        )
    if known.get("throttle_count", 0) > 0:
        yield Diagnostic(
            "note",
            f"the CPU has throttled {known['throttle_count']:.0f} times since it was started",
            hint="long measurements may overheat: improve the cooling",
        )


def _sensors(root: Path, known: Mapping[str, float]) -> Iterator[Diagnostic]:
    if "cpu_pressure_total_us" not in known:
        yield Diagnostic(
            "note",
            "this kernel does not report CPU pressure (/proc/pressure), so waiting is not noticed",
            hint="start it with psi=1, or a kernel with CONFIG_PSI",
        )
    sensor, reason = energy.find_sensor(root)
    if sensor is None:
        yield Diagnostic("note", f"energy cannot be measured: {reason}")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
