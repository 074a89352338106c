"""Runs a bundle until the machine is as warm and as fast as it stays, so that what follows holds for hours.

A board without a fan keeps its first clock for minutes and then a lower one. Steady: over the last minute the hottest
sensor moved by one degree at most (that is the resolution of most) and the medians of the latencies by 3 %. Where no
sensor is told, latencies alone are judged.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from edgepack.benchmark.machine.validity import heat
from edgepack.specs.result import Steady

_WINDOW_S = 60.0
_BLOCK_NS = 2_000_000_000
_DEGREES = 1.0
_LATENCY = 1.03


def until_steady(
    run: Callable[[int], tuple[int, ...]],
    facts: Callable[[], Mapping[str, float]],
    most_ns: int,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Steady:
    """Return how it went; at most ``most_ns``. ``run`` runs queries for so many ns and returns their latencies.

    ``facts`` are ``state.facts``. ``tell`` is told how much of the time has passed.
    """
    before, began = facts(), clock()
    seen: deque[tuple[int, float | None, float]] = deque()
    while True:
        median = float(np.median(run(_BLOCK_NS)))
        after, now = facts(), clock()
        seen.append((now, _temperature(after), median))
        while len(seen) > 1 and now - seen[1][0] >= _WINDOW_S * 1e9:
            seen.popleft()
        tell(min(now - began, most_ns), most_ns)
        reached = now - seen[0][0] >= _WINDOW_S * 1e9 and _is_steady(seen)
        if reached or now - began >= most_ns:
            slowed = heat(before, after)
            return Steady(reached, now - began, _temperature(before), _temperature(after), slowed)


def _is_steady(seen: deque[tuple[int, float | None, float]]) -> bool:
    warm = [degrees for _, degrees, _ in seen if degrees is not None]
    medians = [median for _, _, median in seen]
    return max(medians) <= _LATENCY * min(medians) and (not warm or max(warm) - min(warm) <= _DEGREES)


def _temperature(facts: Mapping[str, float]) -> float | None:
    """Return the hottest of all that is told: the processor's, and each GPU's."""
    return max((value for key, value in facts.items() if key.endswith("temperature_c")), default=None)
