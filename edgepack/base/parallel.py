"""Runs a function on many things at once, on all cores that this process may use; the order of the results is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# What Python does between calls of numpy and of engines keeps no more threads busy.
_MOST = 16


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not every system has it
        return os.cpu_count() or 1


def each(function: Callable[[T], R], items: Iterable[T], most: int = _MOST) -> list[R]:
    """Return ``function`` of every item, in order, computed by as many threads as there are cores, at most ``most``.

    What one call holds in memory is held so many times. It pays for work that numpy or an engine does without the
    interpreter's lock, with one thread for each call. The first error, in the order of the items, is raised when what
    has begun is done.
    """
    waiting = list(items)
    workers = min(usable_cores(), len(waiting), most)
    if workers < 2:
        return [function(item) for item in waiting]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, waiting))
