"""What became of each board of a fleet, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.cli.show import format as show
from edgepack.cli.show.layout import safe
from edgepack.cli.show.tables import make_table

if TYPE_CHECKING:
    from edgepack.cli.show.console import Console
    from edgepack.remote.fleet import BoardRow, Deployment

_COLOURS = {"ok": "green", "already": "green", "failed": "bold red", "skipped": "yellow", "planned": "cyan"}


def show_fleet(console: Console, found: Deployment) -> None:
    """Print a row for each board, and why a deployment was stopped."""
    table = make_table(
        "board", "wave", "status", "version", "p90", "took", "reason", right=("wave", "p90", "took"), spare=("took",)
    )
    for row in found.rows:
        table.add_row(*_cells(row))
    console.print(table)
    if found.stopped:
        console.print(f"[bold red]stopped:[/] {safe(found.stopped)}")


def _cells(row: BoardRow) -> tuple[str, ...]:
    p90 = "-" if row.p90_ns is None else show.time_ns(row.p90_ns)
    took = "-" if not row.took_ns else show.time_ns(row.took_ns)
    words = "; ".join(filter(None, (row.reason, *row.notes)))
    status = f"[{_COLOURS[row.status]}]{row.status}[/]"
    return safe(row.host), str(row.wave), status, safe(row.version or "-"), p90, took, safe(words)
