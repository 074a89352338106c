"""The report as CSV: one row an entry, plain numbers in base units, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from typing import Any

from edgepack.report.formats.records import make_records
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> str:
    """Return all entries as CSV (RFC 4180) with a heading; what was not measured is an empty field."""
    records = make_records(results, rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records.columns), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in record.items()} for record in records.rows)
    return out.getvalue()


def _safe(value: Any) -> Any:
    """Return a field that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
