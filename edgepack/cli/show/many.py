"""What a build of many models would make, as a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgepack.cli.show.layout import safe
from edgepack.cli.show.progress import in_words
from edgepack.cli.show.tables import make_table
from edgepack.specs.build import NOT_HERE

if TYPE_CHECKING:
    from edgepack.cli.show.console import Console
    from edgepack.pipeline.outlook import Outlook

_STATUS = {"failed": "[red]failed[/]", "skipped": "[dim]skipped[/]", "reused": "[cyan]reused[/]"}


def _where(latency: str) -> str:
    """Return the cell of a row's latency."""
    from edgepack.pipeline.outlook import MEASURED_HERE, MEASURED_ON

    return "here" if latency == MEASURED_HERE else "by ssh" if latency.startswith(MEASURED_ON) else "-"


def _time(found: Outlook) -> str:
    """Say how long the rows take that would be built, as far as it is known."""
    if found.expected_s is not None:
        return f"about {in_words(found.expected_s)}"
    rows = [row.expected_s for row in found.rows if row.status == "build"]
    known = [expected for expected in rows if expected is not None]
    if not known:
        return "unknown: no build of such rows has finished here"
    return f"about {in_words(sum(known))} for {len(known)} of {len(rows)} rows; none like the others has finished here"


def show_outlook(console: Console, found: Outlook) -> None:
    """Print each row, why rows would not be built, how many are what, and the time that is expected."""
    table = make_table(
        "model", "target", "precision", "status", "from", "latency", "time",
        right=("time",), cut=("model", "target"), spare=("latency",),
    )  # fmt: skip
    for row in found.rows:
        status = _STATUS.get(row.status, row.status)
        time = "-" if row.expected_s is None else in_words(row.expected_s)
        where = _where(row.latency)
        table.add_row(safe(row.model), safe(row.target), row.precision, status, row.next_stage or "-", where, time)
    console.print(table)
    for row in found.rows:
        if row.reason:
            colour = "dim" if row.status == "skipped" else "red"
            console.print(f"[{colour}]{safe(row.model)} {safe(row.target)} {row.precision}[/]: {safe(row.reason)}")
    counts = Counter(row.status for row in found.rows)
    words = ", ".join(f"{counts[status]} {status}" for status in ("build", "reused", "skipped", "failed"))
    console.remark(f"{len(found.rows)} rows of {len({row.model for row in found.rows})} models: {words}")
    if nowhere := dict.fromkeys(row.target for row in found.rows if row.latency == NOT_HERE):
        console.remark(
            f"not measured, as no such device is here: {safe(', '.join(nowhere))} (--measure-on USER@HOST, or bundles "
            "to take there)"
        )
    if counts["build"]:
        console.remark(f"time, one row after the other: {_time(found)}")
