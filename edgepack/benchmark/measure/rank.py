"""Latencies of a few compiled models on this host, measured in turn: enough to choose among them, not a result."""

from __future__ import annotations

import statistics
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
_WARM_UP = 3
_QUERIES, _LONGEST_NS = (5, 100), 150_000_000


def _engines_here(models: tuple[CompiledModel, ...], *_others: object) -> list[Mapping[str, str]]:
    from edgepack.engines import get_backend

    return [get_backend(model.backend).versions() for model in models]


@stage("latency", host="speed", depends=_engines_here)
def latencies_in_turn(
    models: tuple[CompiledModel, ...],
    golden: Path,
    options: RunOptions,
    rounds: int,
    out: Path,
    progress: Progress = no_progress,
) -> tuple[tuple[int, ...], ...]:
    """Return for every round the median latency in ns of each model on the golden inputs, one query at a time.

    Models take turns, every other round in reverse order; in each a model answers 5 to 100 queries, for about 0.15 s.
    ``out`` is not used. Raises what loading raises.
    """
    from edgepack.engines import get_backend
    from edgepack.verify.golden import read_golden

    del out
    feeds = read_golden(golden).inputs
    found = []
    for number in range(rounds):
        medians = [0] * len(models)
        order = list(enumerate(models))
        for done, (place, model) in enumerate(order if number % 2 == 0 else reversed(order)):
            progress("latency", number * len(models) + done, rounds * len(models))
            runner = get_backend(model.backend).load_model(model, options)
            try:
                medians[place] = round(statistics.median(_time(runner, feeds, time.perf_counter_ns)))
            finally:
                runner.close()
        found.append(tuple(medians))
    progress("latency", rounds * len(models), rounds * len(models))
    return tuple(found)


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
