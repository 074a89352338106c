"""Rows of a text file: .csv, .tsv and .jsonl, each cell with its line, so that errors can name it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.documents import suggestion
from edgepack.base.files import read_regular
from edgepack.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl")
MOST_FILE_BYTES = 512 << 20
_MOST_CELL = 1 << 20  # characters
_MOST_COLUMNS = 100_000
_SEPARATORS = ("\t", ";", ",", "|")
_MOST_BESIDE = 8  # files in a folder of one file of rows


@dataclass(frozen=True)
class Rows:
    """The rows of a file: for each its line, from 1, and its cells by column. ``columns`` are those of the file."""

    name: str
    columns: tuple[str, ...]
    lines: tuple[int, ...]
    cells: tuple[Mapping[str, str], ...]

    @property
    def numbered(self) -> bool:
        """Whether nothing names the columns, so that they have numbers."""
        return self.columns == tuple(map(str, range(len(self.columns))))

    def where(self, index: int, column: str | None = None) -> str:
        """Return how errors name a row, or one cell of it."""
        place = f"{self.name} line {self.lines[index]}"
        return place if column is None else f"{place}, column {column!r}"


def rows_file(data: str) -> Path | None:
    """Return the file of rows that a user named: itself, or the only one in a folder; None for anything else.

    Other files, such as a tokenizer.json, may lie in the folder; folders within it mean that it is something else.
    """
    if "\0" in data:
        return None
    path = Path(data)
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        found = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
        alone = len(found) == 1 and len(entries) <= _MOST_BESIDE and not any(entry.is_dir() for entry in entries)
        return found[0] if alone and found[0].is_file() and found[0].name != "labels.csv" else None
    return path if path.suffix.lower() in SUFFIXES and path.is_file() else None


def read_rows(path: Path, *, header: bool | None = True) -> Rows:
    """Return the rows of a file. Raises ``DataError`` naming the line that is wrong.

    ``header``: the first line names the columns; False numbers them from 0; None takes it for a header where none of
    its cells is a number, or one is none over a number. A .jsonl always names them: each line is an object of texts,
    numbers, true or false, or of lists, which are cells as JSON.
    """
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        return _objects(text, str(path))
    return parse_rows(text, str(path), "\t" if path.suffix.lower() == ".tsv" else ",", header=header)


def read_text(path: Path) -> str:
    """Return a file as text in UTF-8. Raises ``DataError``."""
    try:
        return read_regular(path, MOST_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error.reason}", hint="save it as UTF-8") from error


def parse_rows(text: str, name: str, delimiter: str, *, header: bool | None) -> Rows:
    """Return the rows of a text of cells; ``header`` as in ``read_rows``."""
    check_separator(text, name, delimiter)
    lines = list(_split(text, name, delimiter))
    if not lines:
        raise DataError(f"{name} is empty", hint="write a header line and a line for each sample")
    first = lines[0][1]
    headed = header if header is not None else _looks_headed(first, lines[1][1] if len(lines) > 1 else [])
    columns = tuple(cell.strip() for cell in first) if headed else tuple(map(str, range(len(first))))
    _check_columns(columns, name)
    body = lines[1:] if headed else lines
    for line, cells in body:
        if len(cells) != len(columns):
            raise DataError(
                f"{name} line {line} has {len(cells)} columns, the first line has {len(columns)}",
                hint=_delimiter_hint(cells, delimiter)
                or 'put a cell that holds a comma or a quote between quotes ("")',
            )
    return _rows(name, columns, [(line, dict(zip(columns, cells, strict=True))) for line, cells in body])


def find_column(rows: Rows, asked: str, usual: tuple[str, ...], what: str) -> str | None:
    """Return the column that was asked for, else the first of the usual names that is there, in any case, or None.

    Raises ``DataError`` where one was asked for that is not there.
    """
    if asked:
        if asked not in rows.columns:
            raise DataError(
                f"{rows.name} has no column {asked!r} for the {what}; it has {', '.join(rows.columns[:8])}",
                hint=suggestion(asked, rows.columns),
            )
        return asked
    lower = {column.lower(): column for column in reversed(rows.columns)}
    return next((lower[name] for name in usual if name in lower), None)


def read_number(text: str) -> float:
    """Return the number in a cell; "nan" and "inf" are some. Raises ``ValueError``, for Python's 1_000 too."""
    if "_" in text or not text.isascii():
        raise ValueError(f"{text[:40]!r} is not a number")
    return float(text)


def is_number(text: str) -> bool:
    """Say whether a cell is a number, as ``read_number`` reads it."""
    try:
        read_number(text)
    except ValueError:
        return False
    return True


def _looks_headed(first: list[str], second: list[str]) -> bool:
    over = any(not is_number(one) and is_number(other) for one, other in zip(first, second, strict=False))
    return over or not any(is_number(cell) for cell in first)


def _rows(name: str, columns: tuple[str, ...], found: list[tuple[int, dict[str, str]]]) -> Rows:
    if not found:
        raise DataError(f"{name} has a header and no rows", hint="write a line for each sample")
    return Rows(name, columns, tuple(line for line, _ in found), tuple(cells for _, cells in found))


def _split(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield lines with their numbers, empty ones left out; a cell in quotes may hold line breaks."""
    before = csv.field_size_limit(_MOST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in rows:
            if cells and any(cell.strip() for cell in cells):
                yield start, cells
            start = rows.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name} line {start} cannot be read: {error}", hint='write a quote within quotes twice: "say ""yes"""'
        ) from error
    finally:
        csv.field_size_limit(before)


def _check_columns(columns: tuple[str, ...], name: str) -> None:
    if len(columns) > _MOST_COLUMNS:
        raise DataError(f"{name} has {len(columns)} columns", hint=f"at most {_MOST_COLUMNS} are read")
    twice = next((column for column, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{name} has two columns named {twice!r}", hint="rename one of them")


def check_separator(text: str, name: str, delimiter: str, hint: str = "") -> None:
    """Raise ``DataError`` where the first line and others have cells, but with another mark between them.

    Such a file would be one column of whole lines. Marks within quotes part nothing.
    """
    first = re.search(r"\S[^\r\n]*", text)
    bare = re.sub(r'"[^"]*"', "", first.group()) if first else ""
    mark = next((m for m in _SEPARATORS if m in bare and text.find(m, first.end() if first else 0) >= 0), None)
    if mark is not None and delimiter not in bare:
        hint = hint or _separated_hint(mark, delimiter)
        raise DataError(f"{name}: its columns are separated by {_shown(mark)}", hint=hint)


def _delimiter_hint(cells: list[str], delimiter: str) -> str | None:
    mark = next((m for m in _SEPARATORS if m != delimiter and len(cells) == 1 and m in cells[0]), None)
    return f"it is separated by {_shown(mark)}: {_separated_hint(mark, delimiter)}" if mark is not None else None


def _shown(mark: str) -> str:
    return "tabs" if mark == "\t" else repr(mark)


def _separated_hint(mark: str, delimiter: str) -> str:
    named = {"\t": "name it .tsv", ",": "name it .csv"}.get(mark)
    return named or ("save it with commas, or with tabs as .tsv" if delimiter == "," else "save it with tabs")


def _objects(text: str, name: str) -> Rows:
    found = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            cells = _object(line, name, number)
            columns |= dict.fromkeys(cells)
            found.append((number, cells))
    if not found:
        raise DataError(f"{name} is empty", hint='write a line for each sample: {"text": "...", "label": "..."}')
    _check_columns(tuple(columns), name)
    return _rows(name, tuple(columns), found)


def _object(line: str, name: str, number: int) -> dict[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} line {number} is not JSON: {error}", hint="write one object a line") from error
    if not isinstance(value, dict):
        raise DataError(f"{name} line {number} is not an object", hint='write {"text": "...", "label": "..."}')
    return {key: _cell(cell) for key, cell in value.items() if cell is not None}


def _cell(value: Any) -> str:
    """Return a text as it is, and other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
