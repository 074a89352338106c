"""One record an entry, with plain numbers in base units: what CSV and Parquet hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.report.entries import Entry, Group, make_groups
from edgepack.report.text.bounds import bound_of
from edgepack.report.text.table import mark
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Records:
    """``columns`` maps a name to the type of its values: int, float, bool or str; what was not measured is None."""

    columns: dict[str, type]
    rows: tuple[dict[str, Any], ...]


def make_records(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> Records:
    """Return the records of all entries, in the order of the report."""
    found = [
        tuple(_fields(group.source_sha256, entry)) for group in make_groups(results, rows) for entry in group.entries
    ]
    columns = {name: kind for name, kind, _ in found[0]} if found else {}
    return Records(columns, tuple({name: value for name, _, value in fields} for fields in found))


def record_of(group: Group, entry: Entry) -> dict[str, Any]:
    """Return one entry's record."""
    return {name: value for name, _, value in _fields(group.source_sha256, entry)}


def _fields(source_sha256: str, entry: Entry) -> Iterator[tuple[str, type, Any]]:
    result = entry.result
    yield "model", str, entry.model
    yield "model_sha256", str, source_sha256
    yield "target", str, entry.target
    yield "precision", str, entry.precision
    yield "state", str, mark(entry)
    yield "reason", str, entry.reason
    yield "bundle_sha256", str, entry.sha256
    yield "size_bytes", int, entry.size_bytes
    yield "model_bytes", int, entry.model_bytes
    bound = bound_of(entry)
    yield "bound_ns", int, bound.ns if bound else None
    yield "host", str, result.host.cpu if result else None
    yield "host_isa", str, " ".join(result.host.isa) if result else None
    yield "engine", str, result.engine if result else None
    yield "engine_versions", str, _versions(result) if result else None
    yield "scenario", str, result.scenario.name if result else None
    yield "batch", int, result.scenario.batch if result else None
    yield "threads", int, result.options.threads if result else None
    for p in _PERCENTILES:
        found = entry.percentile(p)
        low, high = (found.ci95_ns if found else None) or (None, None)
        name = f"p{p:g}".replace(".", "_")
        yield f"{name}_ns", int, found.value_ns if found else None
        yield f"{name}_ns_low", int, low
        yield f"{name}_ns_high", int, high
    yield "samples_per_second", float, result.samples_per_second if result else None
    yield "speedup_over_fp32", float, entry.speedup
    yield "speedup_low", float, entry.speedup_ci95[0] if entry.speedup_ci95 else None
    yield "speedup_high", float, entry.speedup_ci95[1] if entry.speedup_ci95 else None
    yield "speedup_paired", bool, entry.paired if entry.speedup is not None else None
    yield from _quality(entry)
    yield from _resources(entry)
    yield "queries", int, result.queries if result else None
    yield "valid", bool, result.valid if result else None
    yield "invalid_reasons", str, "; ".join(result.invalid_reasons) if result else None
    yield "measured_on", str, entry.measured_on
    yield "measured_at", str, result.measured_at if result else None


def _quality(entry: Entry) -> Iterator[tuple[str, type, Any]]:
    result, accuracy = entry.result, entry.accuracy or entry.other_accuracy
    yield "metric", str, accuracy.metric if accuracy else None
    yield "metric_n", int, accuracy.n if accuracy else None
    yield "metric_fp32", float, accuracy.fp32 if accuracy else None
    yield "metric_value", float, accuracy.value if accuracy else None
    yield "drop", float, accuracy.drop if accuracy else None
    yield "drop_low", float, accuracy.ci95[0] if accuracy else None
    yield "drop_high", float, accuracy.ci95[1] if accuracy else None
    yield "accuracy_engine", str, result.accuracy.engine if result and result.accuracy else None
    yield "accuracy_isa", str, " ".join(result.accuracy.isa) if result and result.accuracy else None
    yield "agreement", float, entry.agreement
    yield "sqnr_db", float, entry.sqnr_db


def _resources(entry: Entry) -> Iterator[tuple[str, type, Any]]:
    result = entry.result
    yield "load_ns", int, result.load_ns if result else None
    yield "first_answer_ns", int, result.first_answer_ns if result else None
    yield "memory_load_bytes", int, result.memory_load_bytes if result else None
    yield "memory_peak_bytes", int, result.memory_peak_bytes if result else None
    yield "energy_uj", int, result.energy_uj if result else None
    yield "energy_source", str, result.energy_source if result else None


def _versions(result: Result) -> str:
    return "; ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))
