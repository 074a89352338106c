"""The report as CSV: one row an entry, plain numbers in base units, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from edgepack.report.entries import Entry, make_groups
from edgepack.report.tables import mark
from edgepack.specs import BuildRow, Result

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def to_csv(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> str:
    """Return all entries as CSV (RFC 4180) with a heading; what was not measured is an empty field."""
    records = [
        dict(_fields(group.source_sha256, entry)) for group in make_groups(results, rows) for entry in group.entries
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else [], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in record.items()} for record in records)
    return out.getvalue()


def _fields(source_sha256: str, entry: Entry) -> Iterator[tuple[str, Any]]:
    result = entry.result
    yield "model", entry.model
    yield "model_sha256", source_sha256
    yield "target", entry.target
    yield "precision", entry.precision
    yield "state", mark(entry)
    yield "reason", entry.reason
    yield "bundle_sha256", entry.sha256
    yield "size_bytes", entry.size_bytes
    yield "scenario", result.scenario.name if result else None
    yield "threads", result.options.threads if result else None
    for p in _PERCENTILES:
        found = entry.percentile(p)
        low, high = (found.ci95_ns if found else None) or (None, None)
        name = f"p{p:g}".replace(".", "_")
        yield f"{name}_ns", found.value_ns if found else None
        yield f"{name}_ns_low", low
        yield f"{name}_ns_high", high
    yield "samples_per_second", result.samples_per_second if result else None
    yield "speedup_over_fp32", entry.speedup
    yield "speedup_low", entry.speedup_ci95[0] if entry.speedup_ci95 else None
    yield "speedup_high", entry.speedup_ci95[1] if entry.speedup_ci95 else None
    yield "speedup_paired", entry.paired if entry.speedup is not None else None
    accuracy = entry.accuracy
    yield "metric", accuracy.metric if accuracy else None
    yield "metric_n", accuracy.n if accuracy else None
    yield "metric_fp32", accuracy.fp32 if accuracy else None
    yield "metric_value", accuracy.value if accuracy else None
    yield "drop", accuracy.drop if accuracy else None
    yield "drop_low", accuracy.ci95[0] if accuracy else None
    yield "drop_high", accuracy.ci95[1] if accuracy else None
    yield "agreement", entry.agreement
    yield "sqnr_db", entry.sqnr_db
    yield "memory_load_bytes", result.memory_load_bytes if result else None
    yield "memory_peak_bytes", result.memory_peak_bytes if result else None
    yield "energy_uj", result.energy_uj if result else None
    yield "energy_source", result.energy_source if result else None
    yield "queries", result.queries if result else None
    yield "valid", result.valid if result else None
    yield "invalid_reasons", "; ".join(result.invalid_reasons) if result else None
    yield "measured_on", entry.measured_on
    yield "measured_at", result.measured_at if result else None


def _safe(value: Any) -> Any:
    """Return a field that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
