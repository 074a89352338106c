"""What no measurement can have given: figures below zero, a batch of none. A document that says such is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

_OF_RESULTS = (
    "queries", "warmup_queries", "duration_ns", "warmup_ns", "load_ns", "first_answer_ns", "size_bytes", "model_bytes",
    "memory_peak_bytes", "samples_per_second", "coefficient_of_variation",
)  # fmt: skip
_OF_ROWS = ("size_bytes", "model_bytes", "n", "speedup_over_fp32")


def impossible(found: Result | BuildRow) -> str | None:
    """Return in words the first figure that cannot be; None where all can."""
    figures = _of_result(found) if isinstance(found, Result) else _of_row(found)
    negative = (f"{name} is {value}" for name, value in figures if value is not None and value < 0)
    empty = (f"scenario: batch is {size}" for size in _batches(found) if size < 1)
    return next(itertools.chain(negative, empty), None)


def _batches(found: Result | BuildRow) -> tuple[int, ...]:
    return (found.scenario.batch,) if isinstance(found, Result) else ()


def _of_result(found: Result) -> Iterator[tuple[str, Any]]:
    for name in _OF_RESULTS:
        yield name, getattr(found, name)
    for one in found.percentiles:
        yield f"p{one.p:g}", one.value_ns
    for name in ("latencies_ns", "distribution_ns"):
        yield name, min(getattr(found, name), default=0)
    yield "samples_per_second_ci95", min(found.samples_per_second_ci95 or (0,))


def _of_row(found: BuildRow) -> Iterator[tuple[str, Any]]:
    for name in _OF_ROWS:
        yield name, getattr(found, name)
    if found.latency_ns is not None:
        yield "p50", found.latency_ns.p50
        yield "p90", found.latency_ns.p90
