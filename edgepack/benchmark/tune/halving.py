"""Successive halving over interleaved measurements: who is fastest, when all of them take turns.

Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS:
measure all a little, drop the slower half, measure the rest twice as long, and so on. Each round measures everyone
once, so that what slows the machine slows all; times are compared with the default's of the same round.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgepack.benchmark.machine.usage import Usage
from edgepack.errors import EdgepackError
from edgepack.specs.run import Change

if TYPE_CHECKING:
    from edgepack.benchmark.measure.worker import Block, Measured
    from edgepack.benchmark.measure.worker_pool import Asked

ROUNDS = 4  # of the first rung


@dataclass
class Arm:
    """A candidate in its process. ``costs`` are the times of a sample in ns, one a round; ``failure`` ends it."""

    changes: tuple[Change, ...]
    worker: Asked
    cost: Callable[[Measured], float]
    costs: dict[int, float] = field(default_factory=dict)
    failure: str | None = None
    used: Usage = field(default_factory=Usage)

    def against(self, default: Arm) -> float | None:
        """Return the median over the rounds of the log ratio to the default's time; None before the first round."""
        both = self.costs.keys() & default.costs.keys()
        if not both:
            return None
        return statistics.median(math.log(self.costs[r] / default.costs[r]) for r in both)


def run_rounds(arms: Sequence[Arm], block: Block, first: int, count: int) -> None:
    """Measure everyone who has not failed once a round, every other round in reverse order."""
    for number in range(first, first + count):
        alive = [arm for arm in arms if arm.failure is None]
        for arm in alive if number % 2 == 0 else reversed(alive):
            try:
                found = arm.worker.ask(block)
                arm.costs[number] = max(arm.cost(found), 1.0)
                arm.used += found.used + found.at_rest
            except EdgepackError as error:
                arm.failure = f"{error.message} ({error.hint})"


def better_half(arms: Sequence[Arm], default: Arm, least: int = 1) -> list[Arm]:
    """Return the faster half of those that have not failed, the fastest first, at least ``least``."""
    known = [(value, arm) for arm in arms if arm.failure is None and (value := arm.against(default)) is not None]
    known.sort(key=lambda pair: pair[0])
    return [arm for _, arm in known[: max(least, math.ceil(len(known) / 2))]]
