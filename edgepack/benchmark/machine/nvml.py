"""NVIDIA's management library by ctypes: clocks, clock-event reasons, heat, energy and memory of all GPUs.

Nothing is needed but the driver, which brings ``libnvidia-ml.so.1``; without it, and on Jetsons, whose library knows
none of this, every fact is absent. Functions, structures and constants are those of nvml.h (NVML API Reference, "Device
Queries"; the reasons are in "NvmlClocksEventReasons"). A call that the GPU does not support leaves its fact out.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_GRAPHICS_CLOCK = 0  # nvmlClockType_t
_CORE_TEMPERATURE = 0  # nvmlTemperatureSensors_t
_POLICIES = {"power_limited_ns": 0, "heat_limited_ns": 1, "board_limited_ns": 3}  # nvmlPerfPolicyType_t
_MOST_PROCESSES = 1024

# What lowers the clock though there is work. Idle (1), settings by the user (2, 0x100) and SyncBoost (0x10) are none.
REASONS = {
    0x4: "its power limit",
    0x8: "a hardware slowdown",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "a power brake from outside",
}


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Violation(ctypes.Structure):
    """``nvmlViolationTime_t``, in microseconds and nanoseconds."""

    _fields_ = (("reference", ctypes.c_ulonglong), ("violation", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    """``nvmlProcessInfo_v2_t``."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Gpu:
    """One GPU of a loaded ``library``; every method returns None for what this GPU does not tell."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    def clock_hz(self) -> int | None:
        """Return the graphics clock now."""
        value = self._number("nvmlDeviceGetClockInfo", ctypes.c_uint, _GRAPHICS_CLOCK)
        return None if value is None else value * 1_000_000

    def clock_max_hz(self) -> int | None:
        """Return the highest graphics clock."""
        value = self._number("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, _GRAPHICS_CLOCK)
        return None if value is None else value * 1_000_000

    def event_reasons(self) -> int | None:
        """Return why the clock is as it is, a bit a reason (``REASONS``)."""
        new = self._number("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong)
        return new if new is not None else self._number("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)

    def temperature_c(self) -> int | None:
        """Return the temperature of the chip."""
        return self._number("nvmlDeviceGetTemperature", ctypes.c_uint, _CORE_TEMPERATURE)

    def utilization(self) -> float | None:
        """Return the share of the last moments in which kernels ran, 0 to 1."""
        found = self._struct("nvmlDeviceGetUtilizationRates", _Utilization)
        return None if found is None else float(found.gpu / 100)

    def limited_ns(self, policy: int) -> int | None:
        """Return for how long since the driver was loaded a policy lowered the clock."""
        found = self._struct("nvmlDeviceGetViolationStatus", _Violation, policy)
        return None if found is None else int(found.violation)

    def energy_uj(self) -> int | None:
        """Return the energy since the driver was loaded (Volta and newer)."""
        value = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if value is None else value * 1000

    def process_bytes(self, pid: int) -> int | None:
        """Return the GPU memory of a process; 0 when it has none, None where the driver does not tell."""
        count = ctypes.c_uint(_MOST_PROCESSES)
        infos = (_Process * _MOST_PROCESSES)()
        code = self._call("nvmlDeviceGetComputeRunningProcesses_v3", ctypes.byref(count), infos)
        if code != _SUCCESS:
            return None
        used = [info.used for info in infos[: count.value] if info.pid == pid]
        if any(value == ctypes.c_ulonglong(-1).value for value in used):  # NVML_VALUE_NOT_AVAILABLE
            return None
        return int(sum(used))

    def _number(self, name: str, kind: Any, *words: int) -> int | None:
        value = kind()
        return int(value.value) if self._call(name, *words, ctypes.byref(value)) == _SUCCESS else None

    def _struct(self, name: str, kind: Any, *words: int) -> Any:
        value = kind()
        return value if self._call(name, *words, ctypes.byref(value)) == _SUCCESS else None

    def _call(self, name: str, *words: Any) -> int:
        try:
            function = getattr(self._library, name)
        except AttributeError:  # an older driver
            return -1
        return int(function(self._handle, *words))


@functools.cache
def these_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine; none without NVIDIA's driver. The library stays loaded."""
    try:
        return find_gpus(ctypes.CDLL(_LIBRARY))
    except OSError:
        return ()


def find_gpus(library: Any) -> tuple[Gpu, ...]:
    """Return the GPUs that ``library`` knows and lets this user ask, in its order; none where no driver starts."""
    count = ctypes.c_uint()
    try:
        if library.nvmlInit_v2() != _SUCCESS or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS:
            return ()
        found = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == _SUCCESS:
                found.append(Gpu(library, handle))
    except AttributeError:  # it is another library of that name
        return ()
    return tuple(found)


def gpu_facts(gpus: Sequence[Gpu]) -> dict[str, float]:
    """Return what slows or loads the GPUs now, under keys as in ``circumstances.facts``; nothing without one.

    The keys of the first begin with ``gpu_``, those of the others with ``gpu1_``, ``gpu2_`` and so on.
    """
    return {f"gpu{i or ''}_{key}": value for i, gpu in enumerate(gpus) for key, value in _facts_of(gpu).items()}


def _facts_of(gpu: Gpu) -> dict[str, float]:
    found = {
        "clock_hz": gpu.clock_hz(),
        "clock_max_hz": gpu.clock_max_hz(),
        "event_reasons": gpu.event_reasons(),
        "temperature_c": gpu.temperature_c(),
        "utilization": gpu.utilization(),
        **{key: gpu.limited_ns(policy) for key, policy in _POLICIES.items()},
    }
    return {key: float(value) for key, value in found.items() if value is not None}


def gpu_bytes() -> int | None:
    """Return the memory of this process on all GPUs; None where there is none or one does not tell."""
    return bytes_of(these_gpus(), os.getpid())


def bytes_of(gpus: Sequence[Gpu], pid: int) -> int | None:
    """Return the memory of a process on ``gpus``; None where there are none or one does not tell."""
    return _together([gpu.process_bytes(pid) for gpu in gpus])


def energy_of(gpus: Sequence[Gpu]) -> int | None:
    """Return the energy of ``gpus`` together since the driver was loaded; None where there are none or one is silent.

    What the idle ones among them take is subtracted as that of an idle machine is.
    """
    return _together([gpu.energy_uj() for gpu in gpus])


def _together(told: Sequence[int | None]) -> int | None:
    """Return the sum, None where there is nothing to add or one is not reported."""
    known = [value for value in told if value is not None]
    return sum(known) if told and len(known) == len(told) else None
