"""What ``tune`` tries: each engine's run options with the values that make sense on this many cores.

A search begins with single changes of the engine's defaults; those that help are then combined (``combinations``).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.run_options import RUN_OPTIONS, RunOption
from edgepack.engines import FIXES_BATCH
from edgepack.specs import RunOptions

if TYPE_CHECKING:
    from edgepack.runtime.tuning import TunedFor

_BATCHES = (2, 4, 8, 16, 32)
_MOST_CHANGES = 4  # of one combination


@dataclass(frozen=True)
class Candidate:
    """A way of running: run options, and the samples of a call (Offline)."""

    options: RunOptions
    batch: int = 1


Change = tuple[str, Any]


def changes(backend: str, cores: int, scenario: TunedFor, *, free_batch: bool) -> tuple[Change, ...]:
    """Return the single changes of an engine's defaults to try, those first that help most often.

    ``free_batch`` says that the model takes several samples at once. An engine that is not known has its threads.
    """
    # The batch that is measured, or any: what the engine's default is not.
    fixed = [("fixed_batch", 0 if backend in FIXES_BATCH else 1)] if free_batch else []
    threads = [("threads", n) for n in sorted({1, *_halves(cores), cores}, reverse=True)]
    common = _COMMON.get(backend, ())
    if scenario == "SingleStream":
        return (*fixed, *threads, *common, *_LATENCY.get(backend, ()))
    streams = [("streams", n) for n in sorted({2, cores, 2 * cores})]
    batches = [("batch", n) for n in _BATCHES] if free_batch else []
    return (*streams, *batches, *fixed, *threads, *_THROUGHPUT.get(backend, ()), *common)


# ONNX Runtime's layouts come with its optimization: "extended" leaves them out, and "layout" is without what follows.
_COMMON: Mapping[str, tuple[Change, ...]] = {
    "onnxruntime": (
        ("spinning", False),
        ("reuse_outputs", True),
        ("optimization", "extended"),
        ("pinning", True),
        ("arena", False),
        ("optimization", "layout"),
        ("optimization", "basic"),
    ),
    "openvino": (("pinning", False), ("pinning", True), ("reuse_outputs", True)),
}
_LATENCY: Mapping[str, tuple[Change, ...]] = {"openvino": (("hint", "throughput"), ("streams", 1))}
_THROUGHPUT: Mapping[str, tuple[Change, ...]] = {"openvino": (("hint", "throughput"),)}


def _halves(cores: int) -> tuple[int, ...]:
    return tuple(cores >> i for i in range(1, cores.bit_length()) if cores >> i > 1)


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
