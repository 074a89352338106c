"""The report as CSV: one row an entry, plain numbers in base units, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io

from edgepack.base.text import spreadsheet
from edgepack.report.formats.records import make_records
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result


def to_csv(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> str:
    """Return all entries as CSV (RFC 4180) with a heading; what was not measured is an empty field."""
    records = make_records(results, rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records.columns), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: spreadsheet(value) for key, value in record.items()} for record in records.rows)
    return out.getvalue()
