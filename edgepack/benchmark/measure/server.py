"""LoadGen's Server scenario: the highest Poisson rate of queries whose p99 keeps a bound, found by search."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgepack.benchmark.measure.loop import Clock, Sleep, Timed, closed_loop, poisson_loop
from edgepack.benchmark.statistics.percentiles import allowed_over, queries_needed
from edgepack.specs.result import Result, Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepack.specs.types import Array

Q = TypeVar("Q")

PERCENTILE = 99.0
_PROBE_QUERIES = 64
_SEARCH_QUERIES = 1000
_RESOLUTION = 1.05  # the search ends when what passed and what failed are this close
_LOWEST_LOAD = 0.01  # of the rate at which the runner would never rest
_STEP_BACK = 0.95
_CONFIRMATIONS = 10


@dataclass(frozen=True)
class Found:
    """The highest rate in queries per second that was confirmed, 0 when none was, and the run that confirmed it."""

    rate: float
    timed: Timed
    attempts: int


def benchmark_server(bundle: Path, scenario: Scenario, options: RunOptions, progress: Progress = no_progress) -> Result:
    """``benchmark`` for Server: search the rate with the bundle loaded in this process."""
    from edgepack.benchmark.machine import validity
    from edgepack.benchmark.machine.state import facts
    from edgepack.benchmark.machine.usage import usage
    from edgepack.benchmark.measure import session, summary

    scenario = dataclasses.replace(scenario, launches=1)
    loaded = session.open_session(bundle, scenario, options)
    try:
        warmup = session.warm_up(loaded, scenario)
        before, began, used = facts(), session.clock_s(), usage()
        measured_at = session.utc_now()
        found = find_rate(loaded.issue, loaded.queries, scenario, progress)
        run = validity.Run(session.clock_s() - began, usage() - used, session.machine_cores())
        around = summary.Circumstances(
            before=before,
            after=facts(),
            run=run,
            measured_at=measured_at,
            warmup_queries=warmup.queries,
            warmup_ns=warmup.duration_ns,
            warmup_stable=warmup.stable,
            memory=session.used_memory(loaded.resident),
            energy_uj=None,
            energy_source="not measured: Server's search runs many rates",
            notes=(*loaded.notes, f"the rate was found and confirmed in {found.attempts} runs"),
        )
        timed = found.timed
        return summary.summarise(loaded.subject, scenario, timed.latencies, timed.duration_ns, around, rate=found.rate)
    finally:
        loaded.close()


def find_rate(
    issue: Callable[[Q], Any],
    queries: Sequence[Q],
    scenario: Scenario,
    progress: Progress = no_progress,
    *,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
) -> Found:
    """Search by bisection with short runs, then confirm with a run of the scenario's full duration.

    A short run passes when at most 1 % of its queries are late; the confirmation when LoadGen's early stopping accepts
    its late queries for p99 at 99 % confidence. One that fails lowers the rate by 5 % and is repeated.
    """
    bound = scenario.latency_bound_ns
    assert bound is not None, "check_scenario asks for it"
    probe = closed_loop(issue, queries, 0, minimum_queries=_PROBE_QUERIES, clock=clock)
    fastest = len(probe.latencies) / (probe.duration_ns / 1e9)
    seeds = iter(range(scenario.seed, scenario.seed + 1000))

    def attempt(rate: float, *, confirm: bool) -> tuple[bool, Timed]:
        least = queries_needed(PERCENTILE)
        count = max(least, round(rate * scenario.duration_ns / 1e9)) if confirm else _SEARCH_QUERIES
        late = allowed_over(count, PERCENTILE) if confirm else count // 100
        arrivals = poisson_arrivals(rate, count, next(seeds))
        timed = poisson_loop(issue, queries, arrivals, bound_ns=bound, most_late=late, clock=clock, sleep=sleep)
        return int((timed.latencies > bound).sum()) <= late, timed

    attempts, low, high = 0, 0.0, fastest
    trial = fastest / 2
    while high > fastest * _LOWEST_LOAD and (low == 0 or high / low > _RESOLUTION):
        passed, timed = attempt(trial, confirm=False)
        attempts += 1
        progress("search of the highest rate", attempts, 0)
        low, high = (trial, high) if passed else (low, trial)
        trial = (low + high) / 2 if low else high / 2
    for _ in range(_CONFIRMATIONS if low else 0):
        passed, timed = attempt(low, confirm=True)
        attempts += 1
        progress("confirmation of the rate", attempts, 0)
        if passed:
            return Found(low, timed, attempts)
        low *= _STEP_BACK
    return Found(0.0, timed, attempts)


def poisson_arrivals(rate: float, count: int, seed: int) -> Array:
    """Return the arrival times in ns [count], ascending, of a Poisson process of ``rate`` per second."""
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, count)
    return np.cumsum(gaps).astype(np.int64)
