"""Median latencies of a few compiled models on this host, measured in turn: enough to rank them, not a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.stage import stage
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.engines import Runner
    from edgepack.specs.types import Feeds

# Each model is loaded anew in every round, so that no engine's idle threads disturb another model's turn.
_ROUNDS = 3
_WARM_UP = 3
_QUERIES, _LONGEST_NS = (10, 200), 300_000_000


def _engines_here(models: tuple[CompiledModel, ...], *_others: object) -> list[Mapping[str, str]]:
    from edgepack.engines import get_backend

    return [get_backend(model.backend).versions() for model in models]


@stage("latency", host="speed", depends=_engines_here)
def median_latencies(
    models: tuple[CompiledModel, ...],
    golden: Path,
    options: RunOptions,
    out: Path,
    progress: Progress = no_progress,
) -> tuple[int, ...]:
    """Return the median latency in ns of each model on the golden inputs, one query at a time.

    Models take turns over three rounds; in each a model answers 10 to 200 queries, for about 0.3 s. ``out`` is not
    used. Raises what loading raises.
    """
    import numpy as np

    from edgepack.engines import get_backend
    from edgepack.verify.golden import read_golden

    del out
    feeds = read_golden(golden).inputs
    latencies: list[list[int]] = [[] for _ in models]
    for step in range(_ROUNDS):
        for place, model in enumerate(models):
            progress("latency", step * len(models) + place, _ROUNDS * len(models))
            runner = get_backend(model.backend).load_model(model, options)
            try:
                latencies[place] += _time(runner, feeds, time.perf_counter_ns)
            finally:
                runner.close()
    progress("latency", _ROUNDS * len(models), _ROUNDS * len(models))
    return tuple(int(np.median(found)) for found in latencies)


def _time(runner: Runner, feeds: tuple[Feeds, ...], clock: Callable[[], int]) -> list[int]:
    """Return latencies in ns; only the answer is timed."""
    for number in range(_WARM_UP):
        runner.infer(feeds[number % len(feeds)])
    fewest, most = _QUERIES
    found: list[int] = []
    while len(found) < most and (len(found) < fewest or sum(found) < _LONGEST_NS):
        feed = feeds[len(found) % len(feeds)]
        begin = clock()
        runner.infer(feed)
        found.append(clock() - begin)
    return found
