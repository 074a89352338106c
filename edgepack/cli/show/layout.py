"""Tables as lines of text that fit a width: what is worth least goes first, then text is cut, never a figure.

Cells may hold rich's marks, as in ``[bold]name[/]``. What is not ours goes through ``safe`` first.
"""

from __future__ import annotations

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from edgepack.base.text import printable

GAP = "  "
ELLIPSIS = "…"
_MARK = re.compile(r"(\\*)(\[[a-z#/@][^[]*?\])")  # as in rich/markup.py
_WHOLE = re.compile(r"(\[[a-z][a-z ]*\])(.*)(\[/\])")  # a cell with one mark around it
_LEAST_WRAPPED = 12  # columns of text that is wrapped
_LONG = 28  # columns of text that is cut before a figure goes
_LEAST_CUT = 14  # columns of text that is cut


@dataclass
class Table:
    """Column names and rows of marked text; the columns in ``right`` hold figures, those in ``wrapped`` long text.

    ``units`` stand below the names. Where a table does not fit, the columns in ``spare`` go, the first one first; then
    the text in ``cut`` is shortened; then the columns in ``scarce`` go.
    """

    columns: tuple[str, ...]
    right: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    units: Mapping[str, str] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    scarce: tuple[str, ...] = ()

    def add_row(self, *cells: str) -> None:
        """Add one cell a column; a cell may have several lines."""
        self.rows.append(tuple(printable(cell) for cell in cells))


def lay_out(table: Table, width: int | None, rule: str = "─") -> list[str]:
    """Return a table as lines of marked text: head, rule and rows, or a block a row where nothing else fits.

    Without a ``width`` nothing is left out, cut or wrapped.
    """
    grid = [_Column(name, table, i) for i, name in enumerate(table.columns)]
    fitted = _fitted(table, grid, width)
    return _records(table, width) if fitted is None else _aligned(fitted, rule)


@dataclass(frozen=True)
class Command:
    """A command to copy: its words, not quoted yet."""

    words: tuple[str, ...]


def lay_out_command(command: Command, width: int | None) -> list[str]:
    """Return a command as lines of marked text that a shell reads as one; a word that is wider stays whole.

    No line ends between an option and its value.
    """
    first, *others = (safe(shlex.quote(word)) for word in command.words)
    lines = [f"  {first}"]
    for part in _with_values(others):
        if width is None or width_of(f"{lines[-1]} {part} \\") <= width:
            lines[-1] += f" {part}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {part}")
    return lines


def _with_values(words: Sequence[str]) -> Iterator[str]:
    """Yield words, an option together with its value."""
    option = ""
    for word, following in zip_longest(words, words[1:], fillvalue="--"):
        if _is_option(word) and not option and not _is_option(following):
            option = f"{word} "
        else:
            yield f"{option}{word}"
            option = ""


def _is_option(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit()  # -200 is a value


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


def width_of(text: str) -> int:
    """Return how many columns of a terminal marked text takes; East Asian characters take two, accents none."""
    shown = plain(text)
    if shown.isascii():
        return len(shown)
    return sum(_width(character) for character in shown)


def cut_to(text: str, width: int) -> str:
    """Return marked text in so many columns, its middle left out: names differ at their ends."""
    if width_of(text) <= width:
        return text
    before, shown, after = _inside(text)
    head = _fill(shown, (width - 1) // 2)
    tail = _fill(shown[::-1], width - 1 - width_of(safe(head)))[::-1]
    return f"{before}{safe(head + ELLIPSIS + tail)}{after}"


class _Column:
    """A column while its width is looked for."""

    def __init__(self, name: str, table: Table, index: int) -> None:
        unit = table.units.get(name, "")
        self.head = [f"[bold]{safe(name)}[/]"]
        if any(table.units.values()):
            self.head.append(f"[dim]{safe(unit)}[/]" if unit else "")
        self.cells = [row[index].split("\n") for row in table.rows]
        self.name = name
        self.right = name in table.right
        self.wraps, self.cuts = name in table.wrapped, name in table.cut
        self.width = self.natural = max(width_of(line) for cell in (self.head, *self.cells) for line in cell)

    def shrinkable(self, shortest: int) -> int:
        """Return the least width that the column may have where text is cut to ``shortest`` columns."""
        bound = _LEAST_WRAPPED if self.wraps else shortest if self.cuts else self.natural
        return min(self.natural, max(bound, *map(width_of, self.head)))

    def lines(self, cell: Sequence[str]) -> list[str]:
        """Return a cell in the column's width."""
        fitted = [part for line in cell for part in (_wrap(line, self.width) if self.wraps else [line])]
        return [self._padded(cut_to(line, self.width) if self.cuts else line) for line in fitted]

    def _padded(self, line: str) -> str:
        space = " " * (self.width - width_of(line))
        return space + line if self.right else line + space


def _fitted(table: Table, grid: list[_Column], width: int | None) -> list[_Column] | None:
    """Return the columns that are shown, each with its width; None where even the least do not fit."""
    if width is None:
        return grid
    for gone, shortest in _ways(table):
        kept = [column for column in grid if column.name not in gone]
        room = width - len(GAP) * (len(kept) - 1)
        if sum(column.shrinkable(shortest) for column in kept) <= room:
            _shrink(kept, room, shortest)
            return kept
    return None


def _ways(table: Table) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield which columns go and how short text may be cut, the least loss first."""
    for count in range(len(table.spare) + 1):
        yield table.spare[:count], _LONG
    for count in range(len(table.scarce) + 1):
        yield (*table.spare, *table.scarce[:count]), _LEAST_CUT


def _shrink(columns: list[_Column], room: int, shortest: int) -> None:
    while sum(column.width for column in columns) > room:
        able = (column for column in columns if column.width > column.shrinkable(shortest))
        max(able, key=lambda column: column.width).width -= 1


def _aligned(columns: list[_Column], rule: str) -> list[str]:
    heads = zip(*(column.lines(column.head) for column in columns), strict=True)
    lines = [line for line in (GAP.join(cells).rstrip() for cells in heads) if line]  # no units may be left
    lines.append(rule * (sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)))
    for i in range(len(columns[0].cells)):
        parts = [column.lines(column.cells[i]) for column in columns]
        empty = [" " * column.width for column in columns]
        for cells in zip_longest(*parts):
            filled = (blank if cell is None else cell for cell, blank in zip(cells, empty, strict=True))
            lines.append(GAP.join(filled).rstrip())
    return lines


def _records(table: Table, width: int | None) -> list[str]:
    """Return one block a row: a line for each cell, after its column; text that is wider goes on below itself."""
    names = [f"{name}, {table.units[name]}" if table.units.get(name) else name for name in table.columns]
    head = max(map(width_of, names))
    room = None if width is None else max(_LEAST_WRAPPED, width - head - len(GAP))
    lines = []
    for row in table.rows:
        for column, name, cell in zip(table.columns, names, (cell.replace("\n", " ") for cell in row), strict=True):
            if cell:
                parts = [cell] if room is None or column in table.right else _wrap(cell, room, whole=True)
                starts = (f"{safe(name)}{' ' * (head - width_of(name))}", *(" " * head for _ in parts[1:]))
                lines += [f"{start}{GAP}{part}" for start, part in zip(starts, parts, strict=True)]
        lines.append("")
    return lines[:-1]


def _inside(text: str) -> tuple[str, str, str]:
    """Return the mark around the whole of a text, the plain text, and the end of the mark."""
    whole = _WHOLE.fullmatch(text)
    return ("", plain(text), "") if whole is None else (whole[1], plain(whole[2]), whole[3])


def _wrap(line: str, width: int, *, whole: bool = False) -> list[str]:
    """Return marked text in lines of so many columns; with ``whole`` a longer word, such as a path, is not broken."""
    if width_of(line) <= width:
        return [line]
    before, shown, after = _inside(line)
    if shown.isascii():
        parts = textwrap.wrap(shown, width, break_long_words=not whole, break_on_hyphens=not whole)
    else:
        parts = _wrap_wide(shown, width)
    return [f"{before}{safe(part)}{after}" for part in parts or [""]]


def _wrap_wide(text: str, width: int) -> list[str]:
    """Return text in lines of so many columns, which ``textwrap`` takes for characters."""
    lines = [""]
    for word in text.split():
        left = word
        joined = f"{lines[-1]} {left}".strip()
        if _fill(joined, width) == joined:
            lines[-1], left = joined, ""
        while left:
            lines.append(_fill(left, width))
            left = left[len(lines[-1]) :]
    return [line for line in lines if line] or [""]


def _fill(text: str, width: int) -> str:
    """Return as much of the beginning of a text as takes so many columns."""
    taken = 0
    for i, character in enumerate(text):
        taken += _width(character)
        if taken > width:
            return text[:i]
    return text


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
