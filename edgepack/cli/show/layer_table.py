"""The layers of a bundle as a table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import Table, safe

if TYPE_CHECKING:
    from edgepack.profiling.layers import LayerRow, LayersReport

_NOTABLE_SHARE = 0.01
_NAME_COLUMNS = 30
_COLORS = {"int8": "green", "fp32": "yellow", "fused": "dim", "unknown": "dim"}


def show_layers(console: Console, report: LayersReport) -> None:
    """Print one line for each layer that has weights, takes time, or does not run in its requested precision."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    console.print(f"[bold]{safe(report.bundle)}[/], {report.precision}, on {safe(report.cpu)} with {safe(versions)}")
    columns = ("layer", "operator", "requested", "executed", "SQNR", "time", "reason")
    units = {"SQNR": "dB", "time": "%"}
    table = Table(columns, ("SQNR", "time"), ("reason",), units=units, cut=("layer",))
    rows = [row for row in report.layers if _is_shown(row)]
    for row in rows:
        color = _COLORS.get(row.executed, "yellow")
        table.add_row(
            safe(_short(row.name)),
            safe(row.operator),
            row.asked,
            f"[{color}]{row.executed}[/]",
            "exact" if row.identical else _figure(row.sqnr_db),
            _figure(None if row.time_share is None else 100 * row.time_share),
            safe(row.reason or ""),
        )
    console.print(table)
    console.print(
        f"one inference takes {show.time_ns(report.time_ns)} in {len(report.layers)} operators "
        f"({len(report.layers) - len(rows)} not shown); {show.percent(report.conversion_share)} of it converts between "
        f"precisions and layouts" + _rest(report)
    )
    console.print(f"[dim]time: profile of the engine, {report.runs} inferences on the golden inputs[/]")
    if report.sqnr_samples is None:
        console.print("[dim]SQNR: not in this bundle; int8 builds measure it[/]")
    else:
        console.print(
            f"[dim]SQNR: each layer's output against the fp32 model's, including the noise of earlier layers; "
            f"{report.sqnr_samples} samples, {safe(report.sqnr_engine or '')}, measured at build time[/]"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _rest(report: LayersReport) -> str:
    return f", {show.percent(report.other_share)} is spent in nodes added by the engine" if report.other_share else ""


def _is_shown(row: LayerRow) -> bool:
    return row.weighted or (row.time_share or 0) >= _NOTABLE_SHARE or (row.asked != row.executed != "fused")


def _short(name: str) -> str:
    """Return the end of a long name, where layers differ."""
    return name if len(name) <= _NAME_COLUMNS else "…" + name[1 - _NAME_COLUMNS :]
