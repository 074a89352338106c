"""The report as Markdown, for a pull request or a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from edgepack.base.text import markdown as escape
from edgepack.report.entries import Group, make_groups
from edgepack.report.entries.baseline import WORDS, Both, Comparison, compare_with_baseline
from edgepack.report.entries.choice import default_limits
from edgepack.report.entries.merging import bundles_apart, kept_apart
from edgepack.report.text import remarks
from edgepack.report.text.devices import devices, standing
from edgepack.report.text.sentences import recommendation
from edgepack.report.text.table import MARKS, Cell, Table, make_table
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result


def to_markdown(results: tuple[Result, ...], rows: tuple[BuildRow, ...], baseline: Both | None = None) -> str:
    """Return tables, recommendation, and what was not measured and why, one section a model.

    With ``baseline``, older results and rows, what changed since comes last.

    Everything that came from a document is escaped, so that names cannot add markup.
    """
    groups = make_groups(results, rows)
    lines = ["# edgepack report", ""]
    for note in kept_apart(groups):
        lines += [escape(note), ""]
    for group in groups:
        lines += [f"## {escape(group.title)}", "", *_section(group), ""]
    if baseline is not None:
        lines += [*_changes(compare_with_baseline((results, rows), baseline)), ""]
    lines.append("Scenarios are defined as in MLPerf LoadGen; none of these figures is an MLPerf result.")
    return "\n".join(lines) + "\n"


def _section(group: Group) -> Iterable[str]:
    table = make_table(group)
    yield escape(recommendation(group.entries, default_limits(group.entries)))
    if first := standing(group.entries):
        yield ""
        yield escape(first)
    yield ""
    for device in devices(group.entries):
        of_class = f" ({escape(device.of_class)})" if device.of_class else ""
        yield f"- **{escape(device.name)}**{of_class}: {escape(device.text)}"
    yield ""
    yield from _table(table)
    yield ""
    yield escape(" ".join(table.footnotes))
    if notes := bundles_apart(group):
        yield ""
        yield from (f"- {escape(note)}" for note in notes)
    for title, found in (
        ("Failed", remarks.failures(group.entries)),
        ("Measurements that do not count", remarks.disturbances(group.entries)),
        ("Not measured", remarks.not_measured(group.entries)),
    ):
        if found:
            yield ""
            yield f"### {title}"
            yield ""
            yield from (f"- {_remark(remark)}" for remark in found)


def _changes(found: Comparison) -> Iterable[str]:
    yield "## Against the baseline"
    yield ""
    if found.differences:
        yield "| Row | Figure | Was | Is | Change | Interval | |"
        yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for d in found.differences:
        cells = (d.row, d.figure, d.old, d.new, d.difference, d.interval, WORDS[d.change])
        yield "| " + " | ".join(escape(cell) for cell in cells) + " |"
    yield ""
    yield from (f"- {escape(note)}" for note in found.notes)


def _table(table: Table) -> Iterable[str]:
    headings = [escape(c.heading) for c in table.columns] + ["State"]
    aligned = ["---" if c.key in ("target", "precision") else "---:" for c in table.columns] + ["---"]
    yield "| " + " | ".join(headings) + " |"
    yield "| " + " | ".join(aligned) + " |"
    for i, mark in enumerate(table.marks):
        cells = [_cell(column.cells[i]) for column in table.columns]
        yield "| " + " | ".join([*cells, escape(MARKS[mark])]) + " |"


def _cell(cell: Cell) -> str:
    return escape(cell.text) + (f" ({escape(cell.detail)})" if cell.detail else "")


def _remark(remark: remarks.Remark) -> str:
    about = "all" if remark.all and len(remark.about) > 1 else ", ".join(remark.about)
    return f"{escape(about)}: {escape(remark.text)}"
