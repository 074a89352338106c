"""measure_peaks(): the most operations and bytes a second that the best kernels at hand reach on this host.

A measured peak is only as high as the best kernel tried, so several are tried: those of the engines that are installed
(oneDNN in OpenVINO, MLAS in ONNX Runtime, or torch) on shapes that suit them, and plain copies for memory. Of each the
fastest of many repetitions counts, because a floor for the latency must not be raised by what disturbs the probe.
The model is the cache-aware roofline: Williams, Waterman and Patterson (2009), "Roofline", CACM 52(4); Ilic, Pratas and
Sousa (2014), "Cache-aware Roofline model: Upgrading the loft", IEEE Computer Architecture Letters 13(1).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.extensions import load_reference
from edgepack.device.host import host_facts, load_facts
from edgepack.engines import ENGINES, part_of
from edgepack.engines.common.peak import Trial
from edgepack.errors import ToolchainError
from edgepack.specs.result import Bandwidth, Peak, Peaks
from edgepack.specs.types import Precision, Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_TRIAL_S = 0.08
_LEAST_CALLS = 4
_KIB, _MIB = 1 << 10, 1 << 20
_CACHES = "sys/devices/system/cpu/cpu0/cache"
_SMALLEST_SET, _LARGEST_SET = 256 * _KIB, 64 * _MIB
_MEMORY_SHARE = 8  # of the free memory, for the largest working set
# Beside the engines' own kernels: torch, where no engine has the same, and plain copies.
_OTHERS = ("edgepack.profiling.peak_torch", "edgepack.profiling.peak_copy")


def measure_peaks(
    precisions: tuple[Precision, ...], threads: int | None = None, progress: Progress = no_progress
) -> Peaks:
    """Return what this host can do in these precisions and in fp32, with ``threads`` at once (None: all cores).

    It takes about a second a precision and engine and a few for memory. Call it in a process of its own. Raises
    ``ToolchainError`` when no engine is there to try.
    """
    host = host_facts()
    threads = threads or host.cores
    wanted: tuple[Precision, ...] = tuple(dict.fromkeys(("fp32", *precisions)))
    sets = working_sets(cache_bytes(Path("/")), load_facts().get("memory_available_bytes"))
    trials: list[tuple[Trial, float]] = []
    versions: dict[str, str] = {}
    probes = (*((name, engine.peaks) for name, engine in ENGINES.all() if engine.peaks), *(("", p) for p in _OTHERS))
    for number, (name, reference) in enumerate(probes):
        try:
            module: Any = part_of(name, reference) if name else load_reference(reference)
            found = module.versions(versions)
        except ToolchainError:
            continue
        versions |= found
        for trial in module.trials(wanted, threads, sets):
            trials.append((trial, fastest_s(trial.call)))
            progress("peaks", number, len(probes))
    return peaks_of(trials, threads, versions)


def fastest_s(
    call: Callable[[], Any], *, seconds: float = _TRIAL_S, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the shortest time of a call, of at least four after one that is not timed, for about ``seconds``."""
    call()
    best, count, end = float("inf"), 0, clock() + seconds
    while count < _LEAST_CALLS or clock() < end:
        begin = clock()
        call()
        best = min(best, clock() - begin)
        count += 1
    return max(best, 1e-9)


def peaks_of(trials: Iterable[tuple[Trial, float]], threads: int, versions: Mapping[str, str]) -> Peaks:
    """Return the best of each precision and working set, of trials with the seconds of their fastest call."""
    peaks: dict[str, Peak] = {}
    bands: dict[int, Bandwidth] = {}
    for trial, seconds in trials:
        rate = round(trial.amount / seconds)
        if trial.precision is not None and rate > (peaks[trial.precision].ops_per_s if trial.precision in peaks else 0):
            peaks[trial.precision] = Peak(trial.precision, rate, trial.kernel)
        size = trial.working_set_bytes
        if size is not None and rate > (bands[size].bytes_per_s if size in bands else 0):
            bands[size] = Bandwidth(size, rate, trial.kernel)
    if "fp32" not in peaks or not bands:
        raise ToolchainError(
            "no engine is installed whose kernels could measure this host's peak",
            hint="pip install 'edgepack[openvino]' or 'edgepack[onnxruntime]' with the package onnx",
        )
    return Peaks(threads, tuple(peaks.values()), _falling([bands[size] for size in sorted(bands)]), dict(versions))


def _falling(bands: Sequence[Bandwidth]) -> tuple[Bandwidth, ...]:
    """Let no working set be slower than a larger one: what a larger set was moved at, a smaller one can be too."""
    best = list(bands)
    for i in range(len(best) - 2, -1, -1):
        if best[i].bytes_per_s < best[i + 1].bytes_per_s:
            best[i] = Bandwidth(best[i].working_set_bytes, best[i + 1].bytes_per_s, best[i + 1].kernel)
    return tuple(best)


def peak_of(peaks: Peaks, *precisions: str) -> int:
    """Return the highest measured rate of these precisions, in operations a second; of fp32 for one not measured."""
    known = {peak.precision: peak.ops_per_s for peak in peaks.peaks}
    return max(known.get(name, known["fp32"]) for name in precisions or ("fp32",))  # type: ignore[call-overload,no-any-return]


def bandwidth_of(peaks: Peaks, working_set_bytes: int) -> int:
    """Return the bytes a second for a working set: those of the largest measured set that is not larger than it.

    Where none is as small, the smallest measured one's. Both err to the faster side, as a floor must.
    """
    smaller = [band for band in peaks.bandwidths if band.working_set_bytes <= working_set_bytes]
    return (smaller[-1] if smaller else peaks.bandwidths[0]).bytes_per_s


def working_sets(caches: Sequence[int], available_bytes: float | None) -> tuple[int, ...]:
    """Return the sizes to probe in bytes, ascending: a small one, half of each cache, and one past the last cache.

    None is above 64 MiB or an eighth of the free memory: on a machine with a larger cache the last is still inside it,
    and the floor of what does not fit is lower than it could be.
    """
    past = max([*caches, 16 * _MIB]) * 2
    most = min(_LARGEST_SET, past, round(available_bytes / _MEMORY_SHARE) if available_bytes else _LARGEST_SET)
    halves = [size // 2 for size in caches if 2 * _SMALLEST_SET <= size // 2 <= most // 2]
    return tuple(sorted({_SMALLEST_SET, *halves, max(most, _SMALLEST_SET)}))


def cache_bytes(root: Path) -> tuple[int, ...]:
    """Return the sizes of the data caches that core 0 reaches, ascending; empty where Linux does not tell.

    Linux, Documentation/ABI/testing/sysfs-devices-system-cpu: ``index*/size`` such as "2048K", ``type``.
    """
    sizes = []
    for index in sorted((root / _CACHES).glob("index*")):
        try:
            kind, text = ((index / name).read_text().strip() for name in ("type", "size"))
            if kind in ("Data", "Unified") and text.endswith("K"):
                sizes.append(int(text[:-1]) * _KIB)
        except (OSError, ValueError):
            continue
    return tuple(sorted(set(sizes)))
