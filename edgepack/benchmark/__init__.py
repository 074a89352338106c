"""benchmark(): one bundle, one LoadGen scenario, one result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.errors import ConfigError
from edgepack.specs import Progress, Result, RunOptions, Scenario, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepack.benchmark.loop import Timed
    from edgepack.benchmark.session import Session
    from edgepack.specs import Array

DEFAULT_DURATION_NS = 10_000_000_000
OFFICIAL_DURATION_NS = 600_000_000_000  # LoadGen's minimum duration
_LEAST_QUERIES = {"SingleStream": 64, "MultiStream": 662, "Offline": 1}  # for p90 and p99 by early stopping
_SEGMENTS = 20
_LEAST_SEGMENT_NS = 100_000_000
_PATIENCE_NS = 60_000_000_000
_IDLE_S = 1.0


def benchmark(bundle: Path, scenario: Scenario, options: RunOptions, progress: Progress = no_progress) -> Result:
    """Measure a bundle in this process, which should be a fresh one: call it through ``children.call``.

    Real inputs are fed: the bundle's golden ones in turn. Ends when the scenario's duration has passed and there are
    queries enough for its percentile, at the latest after twice the duration more or a minute. The numbers are
    edgepack's own, by LoadGen's definitions; they are no MLPerf results.
    Raises ``ConfigError`` for a scenario that makes no sense, and what loading the bundle raises.
    """
    from edgepack.benchmark import energy, session, summary, validity
    from edgepack.host import load_facts

    check_scenario(scenario)
    loaded = session.open_session(bundle, scenario, options)
    try:
        sensor, source = energy.find_sensor()
        idle = energy.rest(sensor, _IDLE_S)
        warmup = session.warm_up(loaded, scenario)
        before, began, cpu = load_facts(), session.clock_s(), session.cpu_seconds()
        with energy.record(sensor) as work:
            timed, rate = _measure(loaded, scenario, progress)
        run = validity.Run(session.clock_s() - began, session.cpu_seconds() - cpu, session.machine_cores())
        around = summary.Circumstances(
            before=before,
            after=load_facts(),
            run=run,
            measured_at=session.utc_now(),
            warmup_queries=warmup.queries,
            warmup_ns=warmup.duration_ns,
            warmup_stable=warmup.stable,
            memory=session.used_memory(loaded.resident),
            energy_uj=energy.per_inference_uj(work, idle, len(timed.latencies) * summary.samples_per_query(scenario)),
            energy_source=source,
            notes=loaded.notes,
        )
        return summary.summarise(loaded.subject, scenario, timed.latencies, timed.duration_ns, around, rate=rate)
    finally:
        loaded.close()


def check_scenario(scenario: Scenario) -> None:
    """Refuse settings that cannot be measured. Raises ``ConfigError``."""
    if scenario.duration_ns <= 0:
        raise ConfigError("a benchmark without a duration measures nothing", hint="give --duration 10s")
    if scenario.warmup_ns < 0:
        raise ConfigError("the warm-up cannot be negative", hint="give --warmup 1s")
    if scenario.queries < 1:
        raise ConfigError(f"{scenario.queries} queries measure nothing", hint="give 1 or more")
    if scenario.batch != 1 and scenario.name != "Offline":
        raise ConfigError(
            f"--batch is for Offline; {scenario.name} has its own samples a query", hint="add --scenario Offline"
        )
    if scenario.name == "Server" and not (scenario.latency_bound_ns and scenario.latency_bound_ns > 0):
        raise ConfigError("Server needs the latency that its p99 must keep", hint="add --latency-bound 20ms")


def _measure(loaded: Session, scenario: Scenario, progress: Progress) -> tuple[Timed, float | None]:
    """Return the latencies, and the rate that was found for Server."""
    if scenario.name == "Server":
        from edgepack.benchmark.server import find_rate

        found = find_rate(loaded.issue, loaded.queries, scenario, progress)
        return found.timed, found.rate
    return measure_closed(loaded.issue, loaded.queries, scenario, progress), None


def measure_closed(
    issue: Callable[[Any], Any],
    queries: Sequence[Any],
    scenario: Scenario,
    progress: Progress = no_progress,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timed:
    """Run a closed loop for the scenario in segments, between which progress is told, untimed."""
    from edgepack.benchmark.loop import Timed, closed_loop

    least = max(scenario.queries, _LEAST_QUERIES[scenario.name])
    segment_ns = max(scenario.duration_ns // _SEGMENTS, min(_LEAST_SEGMENT_NS, scenario.duration_ns))
    patience_ns = scenario.duration_ns + max(2 * scenario.duration_ns, _PATIENCE_NS)
    parts: list[Array] = []
    count = passed = 0
    while passed < scenario.duration_ns or count < least:
        if passed >= patience_ns:
            break
        part = closed_loop(issue, queries, segment_ns, maximum_ns=patience_ns - passed, first=count, clock=clock)
        parts.append(part.latencies)
        count += len(part.latencies)
        passed += part.duration_ns
        done = min(passed / scenario.duration_ns, count / least)
        progress(scenario.name, min(round(100 * done), 100), 100)
    return Timed(np.concatenate(parts), passed)
