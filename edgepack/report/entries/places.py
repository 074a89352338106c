"""Which processor each entry was measured on: a row of a build says it in words, a result by its host."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.report.entries import Entry


def places(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the processor of each entry, empty where it was not measured; a row's own words where no result has it."""
    known = sorted({entry.result.host.cpu for entry in entries if entry.result is not None})
    return tuple(_place(entry, known) for entry in entries)


def _place(entry: Entry, known: Sequence[str]) -> str:
    if entry.result is not None:
        return entry.result.host.cpu
    said = (entry.measured_on or "") if entry.latency_ns else ""
    return next((cpu for cpu in known if cpu in said), said)
