"""Chooses how output for people looks, in this one place: by rich where it is installed, as plain text on a device.

Text may hold rich's marks, as in ``[bold]name[/]``. What is not ours goes through ``safe`` first.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from edgepack.base.text import printable

if TYPE_CHECKING:
    from rich.console import Console as Rich
    from rich.progress import Progress, TaskID

_LOG_COLUMNS = 140
_MARK = re.compile(r"(\\*)(\[[a-z#/@][^[]*?\])")  # as in rich/markup.py
_GAP = "  "
_LEAST_WRAPPED = 12  # columns of long text


@dataclass
class Table:
    """Column names and rows of marked text; the columns in ``right`` hold figures, those in ``wrapped`` long text."""

    columns: tuple[str, ...]
    right: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        """Add one cell a column; a cell may have several lines."""
        self.rows.append(tuple(printable(cell) for cell in cells))


class StatusLine(Protocol):
    """The last line of a terminal, rewritten while a stage runs; nothing where stderr is not a terminal."""

    def start(self) -> None:
        """Take over the line."""

    def stop(self) -> None:
        """Give the line back, empty."""

    def begin(self, stage: str, text: str) -> None:
        """Show that a stage runs."""

    def update(self, text: str, done: int, total: int) -> None:
        """Show ``done`` of ``total`` units of it; ``total`` 0 means unknown."""

    def end(self) -> None:
        """The stage is over."""


class Console(Protocol):
    """Where people read: stderr, so that stdout is for ``--json`` alone."""

    def print(self, what: str | Table = "") -> None:
        """Print a line of marked text, or a table."""

    def status_line(self) -> StatusLine:
        """Return what shows progress."""


def make_console() -> Console:
    """Return the console of all output for people."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return PlainConsole()
    return RichConsole()


def safe(text: Any) -> str:
    """Return text as it is shown, whatever marks of rich and controls are in it."""
    escaped = _MARK.sub(r"\1\1\\\2", printable(str(text)))
    return escaped + "\\" if escaped.endswith("\\") and not escaped.endswith("\\\\") else escaped


def plain(text: str) -> str:
    """Return marked text without its marks."""

    def shown(match: re.Match[str]) -> str:
        backslashes = len(match[1])
        return "\\" * (backslashes // 2) + (match[2] if backslashes % 2 else "")

    return _MARK.sub(shown, text)


def _columns() -> int:
    """Return how wide output for people is: as the terminal, and 140 columns in a log file."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() or "COLUMNS" in os.environ else _LOG_COLUMNS


def _fits(table: Table) -> bool:
    """Say whether every column of a table has room for its text, wrapped ones for some of it."""
    cells = zip(table.columns, *table.rows, strict=True)
    widths = [max(len(line) for cell in column for line in plain(cell).split("\n")) for column in cells]
    least = [
        min(width, _LEAST_WRAPPED) if name in table.wrapped else width
        for name, width in zip(table.columns, widths, strict=True)
    ]
    return sum(least) + len(_GAP) * (len(least) - 1) <= _columns()


def _records(table: Table) -> list[str]:
    """Return a table that is wider than the terminal as one block a row: a line for each cell, after its column."""
    width = max(map(len, table.columns))
    lines = []
    for row in table.rows:
        named = zip(table.columns, (cell.replace("\n", " ") for cell in row), strict=True)
        lines += [f"{name:<{width}}{_GAP}{cell}" for name, cell in named if cell]
        lines.append("")
    return lines[:-1]


# --- without rich -----------------------------------------------------------------------------------------------------


class PlainConsole:
    """Text and aligned columns on stderr."""

    def print(self, what: str | Table = "") -> None:
        """Print a line of marked text, or a table."""
        if isinstance(what, Table):
            lines = _aligned(what) if _fits(what) else [plain(line) for line in _records(what)]
        else:
            lines = [plain(printable(what))]
        sys.stderr.write("".join(f"{line}\n" for line in lines))

    def status_line(self) -> StatusLine:
        """Return a line with a percentage."""
        return _PlainStatusLine()


def _aligned(table: Table) -> list[str]:
    """Return the lines of a table: its head, a rule, and its rows; the widest column of long text is wrapped."""
    rows = [[plain(cell).split("\n") for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(line) for row in rows for line in row[i]) for i in range(len(table.columns))]
    if wrapped := [i for i, name in enumerate(table.columns) if name in table.wrapped]:
        widest = max(wrapped, key=widths.__getitem__)
        others = sum(widths) - widths[widest] + len(_GAP) * (len(widths) - 1)
        room = max(_columns() - others, _LEAST_WRAPPED)
        for row in rows:
            row[widest] = [part for line in row[widest] for part in textwrap.wrap(line, room) or [""]]
        widths[widest] = max(len(line) for row in rows for line in row[widest])
    lines = []
    for row in rows:
        for cells in zip_longest(*row, fillvalue=""):
            padded = [
                cell.rjust(width) if name in table.right else cell.ljust(width)
                for cell, width, name in zip(cells, widths, table.columns, strict=True)
            ]
            lines.append(_GAP.join(padded).rstrip())
    return [lines[0], "-" * (sum(widths) + len(_GAP) * (len(widths) - 1)), *lines[1:]]


class _PlainStatusLine:
    """``benchmark  small: 40 %``, rewritten in place."""

    def __init__(self) -> None:
        self._stage = ""

    def start(self) -> None:
        """Nothing to take over."""

    def stop(self) -> None:
        """Clear the line."""
        self._write("")

    def begin(self, stage: str, text: str) -> None:
        """Show the stage's name."""
        self._stage = stage
        self._write(f"{stage:<9} {text}")

    def update(self, text: str, done: int, total: int) -> None:
        """Show the share that is done."""
        share = f"{100 * done // total} %" if total else str(done)
        self._write(f"{self._stage:<9} {text}: {share}" if text else f"{self._stage:<9} {share}")

    def end(self) -> None:
        """Clear the line."""
        self._write("")

    @staticmethod
    def _write(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{printable(text)[: _columns() - 1]}\x1b[K")
            sys.stderr.flush()


# --- with rich --------------------------------------------------------------------------------------------------------


class RichConsole:
    """Colours, tables that fit the terminal, and bars; a log file gets 140 columns."""

    def __init__(self) -> None:
        from rich.console import Console as Rich

        width = None if sys.stderr.isatty() or "COLUMNS" in os.environ else _LOG_COLUMNS
        self._rich = Rich(stderr=True, highlight=False, emoji=False, soft_wrap=False, width=width)

    def print(self, what: str | Table = "") -> None:
        """Print a line of marked text, or a table."""
        if not isinstance(what, Table):
            self._rich.print(printable(what))
        elif _fits(what):
            self._rich.print(_rich_table(what))
        else:
            self._rich.print("\n".join(_records(what)))

    def status_line(self) -> StatusLine:
        """Return a bar with the time left."""
        return _RichStatusLine(self._rich)


def _rich_table(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable

    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in table.columns:
        wraps = column in table.wrapped
        shown.add_column(
            column,
            justify="right" if column in table.right else "left",
            overflow="fold",
            no_wrap=not wraps,
            min_width=_LEAST_WRAPPED if wraps else None,
        )
    for row in table.rows:
        shown.add_row(*row)
    return shown


class _RichStatusLine:
    """A spinner, a bar, a count and the time left."""

    def __init__(self, console: Rich) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<9} {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def start(self) -> None:
        """Start to draw."""
        self._bars.start()

    def stop(self) -> None:
        """Stop drawing and clear the line."""
        self._bars.stop()

    def begin(self, stage: str, text: str) -> None:
        """Show a spinner for the stage."""
        self._task = self._bars.add_task(safe(text), stage=stage, total=None)

    def update(self, text: str, done: int, total: int) -> None:
        """Advance the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, description=safe(text))

    def end(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
