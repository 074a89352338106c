"""The timed loops: thin, with injected clock and issue function. Only the issue of a query is inside the timed region.

Scenarios are those of MLPerf LoadGen (loadgen/README.md, "Scenarios"): SingleStream and MultiStream issue the next
query when the last has completed, Offline has all its samples at once, Server's queries arrive by a Poisson process.
The numbers are edgepack's own; they are not MLPerf results.
"""

from __future__ import annotations

import gc
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

Q = TypeVar("Q")
Clock = Callable[[], int]
Sleep = Callable[[float], None]

_WINDOWS = 3  # of warm-up that must agree
_STABLE = 1.05  # largest ratio of the medians of those windows
_WINDOW_QUERIES = 5
_SPIN_NS = 300_000  # before an arrival the loop spins: a sleep may end this late


@dataclass(frozen=True)
class Warmup:
    """Untimed queries before a measurement; ``stable`` says whether the medians of its last windows agreed."""

    queries: int
    duration_ns: int
    stable: bool


@dataclass(frozen=True)
class Timed:
    """Latencies in ns [n] in the order of issue, and the time from the first issue to the last completion."""

    latencies: Array
    duration_ns: int


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and not again before the end of the block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def closed_loop(
    issue: Callable[[Q], Any],
    queries: Sequence[Q],
    minimum_ns: int,
    *,
    minimum_queries: int = 1,
    maximum_ns: int | None = None,
    first: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> Timed:
    """Issue ``queries`` in turn, beginning with number ``first``, each when the last has completed.

    Ends when ``minimum_ns`` have passed and ``minimum_queries`` were issued, or ``maximum_ns`` have passed.
    """
    with no_garbage_collection():
        return _closed(issue, queries, minimum_ns, minimum_queries, maximum_ns, first, clock)


def _closed(
    issue: Callable[[Q], Any],
    queries: Sequence[Q],
    minimum_ns: int,
    minimum_queries: int,
    maximum_ns: int | None,
    first: int,
    clock: Clock,
) -> Timed:
    latencies = array("q", bytes(8 * 4096))
    count, room, turn = 0, len(latencies), len(queries)
    begin = clock()
    enough, limit = begin + minimum_ns, begin + (maximum_ns if maximum_ns is not None else 1 << 62)
    while True:
        query = queries[(first + count) % turn]
        start = clock()
        issue(query)
        end = clock()
        latencies[count] = end - start
        count += 1
        if (end >= enough and count >= minimum_queries) or end >= limit:
            break
        if count == room:
            latencies.extend(latencies)
            room = len(latencies)
    return Timed(np.frombuffer(latencies, dtype=np.int64)[:count].copy(), end - begin)


def parallel_loop(
    issues: Sequence[Callable[[Q], Any]],
    queries: Sequence[Q],
    minimum_ns: int,
    *,
    minimum_queries: int = 1,
    maximum_ns: int | None = None,
    first: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> Timed:
    """Do what ``closed_loop`` does with each of ``issues`` in a thread of its own, all at once.

    The queries are dealt out in turn; latencies are in about the order of completion. The duration is from the first
    issue to the last completion.
    """
    together = threading.Barrier(len(issues))
    each = -(-minimum_queries // len(issues))

    def run(number: int) -> tuple[int, Timed]:
        together.wait()
        begin = clock()
        return begin, _closed(issues[number], queries, minimum_ns, each, maximum_ns, first + number, clock)

    with no_garbage_collection(), ThreadPoolExecutor(len(issues)) as pool:
        parts = list(pool.map(run, range(len(issues))))
    begin = min(start for start, _ in parts)
    ended = max(start + timed.duration_ns for start, timed in parts)
    completions = np.concatenate([start + np.cumsum(timed.latencies) for start, timed in parts])
    latencies = np.concatenate([timed.latencies for _, timed in parts])
    return Timed(latencies[np.argsort(completions, kind="stable")], ended - begin)


def poisson_loop(
    issue: Callable[[Q], Any],
    queries: Sequence[Q],
    arrivals_ns: Array,
    *,
    bound_ns: int,
    most_late: int,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
) -> Timed:
    """Issue queries at their arrival times [n], ascending; a latency runs from the arrival, so waiting counts.

    Queries wait in order for the one runner. Ends early once more than ``most_late`` took longer than ``bound_ns``.
    """
    turn, late = len(queries), 0
    latencies = array("q", bytes(8 * len(arrivals_ns)))
    arrivals = [int(a) for a in arrivals_ns]
    count = 0
    with no_garbage_collection():
        begin = end = clock()
        for count, arrival in enumerate(arrivals, start=1):
            due = begin + arrival
            _wait_until(due, clock, sleep)
            issue(queries[(count - 1) % turn])
            end = clock()
            latencies[count - 1] = end - due
            if end - due > bound_ns:
                late += 1
                if late > most_late:
                    break
    return Timed(np.frombuffer(latencies, dtype=np.int64)[:count].copy(), end - begin)


def _wait_until(due: int, clock: Clock, sleep: Sleep) -> None:
    left = due - clock()
    while left > 0:
        if left > _SPIN_NS:
            sleep((left - _SPIN_NS) / 1e9)
        left = due - clock()


def warm_up(
    issue: Callable[[Q], Any],
    queries: Sequence[Q],
    minimum_ns: int,
    *,
    clock: Clock = time.perf_counter_ns,
) -> Warmup:
    """Issue queries untimed for at least ``minimum_ns`` and until latencies are stable, at most four times as long.

    Stable: the medians of the last three windows, each of a sixth of the minimum and five queries, are within 5 %.
    """
    window_ns = max(minimum_ns // (2 * _WINDOWS), 1)
    medians: list[float] = []
    with no_garbage_collection():
        count, begin = 0, clock()
        while True:
            timed = _closed(issue, queries, window_ns, _WINDOW_QUERIES, None, count, clock)
            count += len(timed.latencies)
            medians.append(float(np.median(timed.latencies)))
            last = medians[-_WINDOWS:]
            stable = len(last) == _WINDOWS and max(last) <= _STABLE * min(last)
            passed = clock() - begin
            if (stable and passed >= minimum_ns) or (passed >= 4 * minimum_ns and len(medians) >= _WINDOWS):
                return Warmup(count, passed, stable)
