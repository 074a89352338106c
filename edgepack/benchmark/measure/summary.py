"""From raw latencies and circumstances to a ``Result``; a pure function of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.benchmark.machine import validity
from edgepack.benchmark.statistics.bootstrap import between_launches, mean_interval
from edgepack.benchmark.statistics.percentiles import (
    coefficient_of_variation,
    distribution,
    nearest_rank,
    percentiles,
    queries_needed,
    split,
)
from edgepack.specs.bundle import Manifest
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host

if TYPE_CHECKING:
    from edgepack.specs.result import Memory, Result, Scenario, Steady
    from edgepack.specs.types import Array

FORMAT = 1
SAMPLES_PER_QUERY = {"SingleStream": 1, "MultiStream": 8, "Server": 1}  # LoadGen's; Offline: the batch
MOST_LATENCIES = 65_536  # kept in a result's document
_DRIFT = 1.10


@dataclass(frozen=True)
class Subject:
    """What is measured, and how it was loaded."""

    manifest: Manifest
    sha256: str
    size_bytes: int
    engine: str
    versions: Mapping[str, str]
    options: RunOptions
    host: Host
    stands_for_target: bool | None = None
    load_ns: int | None = None
    first_answer_ns: int | None = None


@dataclass(frozen=True)
class Circumstances:
    """What surrounded a measurement: ``run`` is its wall and CPU time, ``facts`` are ``host.load_facts()``."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    run: validity.Run
    measured_at: str
    warmup_queries: int
    warmup_ns: int
    warmup_stable: bool
    memory: Memory | None
    energy_uj: int | None
    energy_source: str
    notes: tuple[str, ...] = ()
    energy_idle_uw: int | None = None
    steady: Steady | None = None


def samples_per_query(scenario: Scenario) -> int:
    """Return the samples of one query, which for Offline is one batch."""
    return SAMPLES_PER_QUERY.get(scenario.name, scenario.batch)


def summarise(
    subject: Subject,
    scenario: Scenario,
    latencies: Array,
    duration_ns: int,
    around: Circumstances,
    *,
    rate: float | None = None,
    lengths: Sequence[int] = (),
) -> Result:
    """Return the result of latencies in ns [n] in the order of issue, measured in ``duration_ns`` of wall time.

    ``lengths`` are the numbers of latencies of each launch. ``rate`` is Server's: the highest rate of queries per
    second that kept its bound, 0 when none did.
    """
    from edgepack.specs.result import Result

    per_query = samples_per_query(scenario)
    reasons, warm = _judged(around)
    if rate == 0:
        reasons = (*reasons, "no rate of queries keeps the p99 latency below the bound")
    notes = (
        *elsewhere(subject),
        *around.notes,
        *warm,
        *validity.cautions(subject.host, around.after),
        *_notes(latencies, scenario, around),
    )
    memory = around.memory
    return Result(
        format=FORMAT,
        bundle_sha256=subject.sha256,
        bundle_name=subject.manifest.name,
        target=subject.manifest.target,
        precision=subject.manifest.precision,
        host=subject.host,
        engine=subject.engine,
        versions=subject.versions,
        options=subject.options,
        scenario=scenario,
        queries=len(latencies),
        warmup_queries=around.warmup_queries,
        duration_ns=duration_ns,
        percentiles=percentiles(latencies, scenario.seed, lengths),
        samples_per_second=len(latencies) * per_query / (duration_ns / 1e9) if rate is None else rate,
        samples_per_second_ci95=_throughput_ci95(latencies, per_query, duration_ns, scenario, lengths),
        memory_load_bytes=memory.load_bytes - memory.before_bytes if memory else None,
        memory_peak_bytes=_peak(memory),
        energy_uj=around.energy_uj,
        energy_source=around.energy_source,
        load_before=around.before,
        load_after=around.after,
        valid=not reasons,
        invalid_reasons=reasons,
        accuracy=subject.manifest.accuracy,
        size_bytes=subject.size_bytes,
        latencies_ns=tuple(latencies.tolist()) if len(latencies) <= MOST_LATENCIES else (),
        distribution_ns=distribution(latencies),
        coefficient_of_variation=coefficient_of_variation(latencies),
        memory=memory,
        warmup_ns=around.warmup_ns,
        warmup_stable=around.warmup_stable,
        source_sha256=subject.manifest.source_sha256,
        measured_at=around.measured_at,
        notes=notes,
        energy_idle_uw=around.energy_idle_uw,
        stands_for_target=subject.stands_for_target,
        model_bytes=subject.manifest.model_bytes,
        load_ns=subject.load_ns,
        first_answer_ns=subject.first_answer_ns,
        steady=around.steady,
    )


def _judged(around: Circumstances) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why a measurement does not count, and what is to be known of its steady state.

    A machine that was brought to its steady state is measured as it stays: that it throttles there is what was asked.
    """
    reasons = validity.reasons(around.before, around.after, around.run)
    if around.steady is None:
        return reasons, ()
    if not around.steady.reached:
        took = around.steady.duration_ns / 1e9
        return (*reasons, f"temperature and latency did not become steady within {took:.0f} s"), ()
    heat = validity.heat(around.before, around.after)
    notes = [f"at its steady state {text}" for text in heat]
    if around.steady.temperature_c is None:
        notes.append("no sensor tells a temperature here: the steady state is that of the latencies alone")
    return tuple(reason for reason in reasons if reason not in heat), tuple(notes)


def elsewhere(subject: Subject) -> tuple[str, ...]:
    """Return what must be said of a measurement that was not made on the device that the bundle is for."""
    if subject.stands_for_target is not False:
        return ()
    target = subject.manifest.target
    return (f"measured on {subject.host.cpu} with {subject.engine}: this is not {target} and says nothing of it",)


def _throughput_ci95(
    latencies: Array, per_query: int, duration_ns: int, scenario: Scenario, lengths: Sequence[int]
) -> tuple[float, float] | None:
    """Return the interval of samples per second: that of the mean time between completions, turned over.

    None for Server, whose queries arrive by the clock. The time that the loop itself takes is added to each latency;
    where several queries ran at once, each counts with its share of the time.
    """
    interval = None if scenario.name == "Server" else mean_interval(latencies, scenario.seed)
    if interval is None:
        return None
    spent = int(latencies.sum())
    own = max(duration_ns - spent, 0) / len(latencies)
    share = min(1.0, duration_ns / max(spent, 1))
    low, high = interval.ends
    if len(lengths) > 1:
        mean = float(latencies.mean())
        half = between_launches([float(part.mean()) for part in split(latencies, lengths)])
        low, high = min(low, mean - half), max(high, mean + half)
    low, high = share * low + own, share * high + own
    return (per_query * 1e9 / high, per_query * 1e9 / low) if low > 0 else None


def _peak(memory: Memory | None) -> int | None:
    if memory is None or memory.infer_peak_bytes is None:
        return None
    return max(memory.infer_peak_bytes, memory.load_peak_bytes or 0)


def _notes(latencies: Array, scenario: Scenario, around: Circumstances) -> list[str]:
    notes = []
    if not around.warmup_stable:
        notes.append("latency had not become stable when the warm-up ended: its last windows differed by over 5 %")
    judged = {"SingleStream": 90.0, "MultiStream": 99.0, "Server": 99.0}.get(scenario.name)
    if judged and (more := queries_needed(judged) - len(latencies)) > 0:
        notes.append(
            f"p{judged:g} needs {more} more queries than the {len(latencies)} measured: ask for a longer duration"
        )
    if drift := drift_ratio(latencies):
        notes.append(f"the second half's median latency was {drift:.2f} times the first half's")
    return notes


def drift_ratio(latencies: Array) -> float | None:
    """Return by how much the median changed from the first half to the second, if by more than 10 % either way."""
    half = len(latencies) // 2
    if half < 32:
        return None
    first, second = (_median(part) for part in (latencies[:half], latencies[half:]))
    ratio = second / max(first, 1)
    return ratio if ratio > _DRIFT or ratio < 1 / _DRIFT else None


def _median(values: Array) -> int:
    return nearest_rank(np.sort(values), 50.0)
