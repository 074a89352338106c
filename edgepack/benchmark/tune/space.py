"""Ways of running a bundle: changes of an engine's defaults, in words and combined."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.base.run_options import RUN_OPTIONS, RunOption
from edgepack.specs.run import Change, RunOptions

_MOST_CHANGES = 4  # of one combination


@dataclass(frozen=True)
class Candidate:
    """A way of running: run options, and the samples of a call (Offline)."""

    options: RunOptions
    batch: int = 1


def with_changes(made: Sequence[Change]) -> Candidate:
    """Return the defaults with these changes."""
    fields = dict(made)
    batch = fields.pop("batch", 1)
    if fields.get("fixed_batch"):
        fields["fixed_batch"] = batch
    return Candidate(dataclasses.replace(RunOptions(), **fields), batch)


def describe_changes(made: Sequence[Change]) -> str:
    """Return changes in words, as ``threads 2, spinning off``; "defaults" for none."""
    # The batch goes with the options, and is none of them.
    described = [(RUN_OPTIONS.get(name) or RunOption(name, help=""), value) for name, value in made]
    return ", ".join(option.describe(value) for option, value in described) or "defaults"


def combinations(helped: Sequence[tuple[Change, float]], count: int, seed: int) -> list[tuple[Change, ...]]:
    """Return up to ``count`` combinations of changes that each helped alone, by what they promise together.

    ``helped`` pairs a change with its log ratio of time to the default's, below 0. No combination has two values of one
    option. The best promise is the smallest sum of log ratios, as if they did not depend on each other; the last third
    is drawn by chance, because they do.
    """
    best = sorted(helped, key=lambda pair: pair[1])[:8]
    sets = [
        chosen
        for size in range(2, _MOST_CHANGES + 1)
        for chosen in itertools.combinations(best, size)
        if len({change[0] for change, _ in chosen}) == size
    ]
    sets.sort(key=lambda chosen: sum(value for _, value in chosen))
    first, rest = sets[: count - count // 3], sets[count - count // 3 :]
    order = np.random.default_rng(seed).permutation(len(rest))[: count // 3]
    return [tuple(change for change, _ in chosen) for chosen in (*first, *(rest[i] for i in order))]
