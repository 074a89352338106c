"""A .csv or .tsv of numbers as samples: columns feed inputs, one column is the label."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base import documents
from edgepack.base.documents import suggestion
from edgepack.data.checks import check_shape
from edgepack.data.named_classes import number_classes, whole_number
from edgepack.data.pictures import SUFFIXES as PICTURES
from edgepack.data.rows import Rows, find_column, is_number, read_number, read_rows, rows_file
from edgepack.data.sound_folder import SUFFIXES as SOUNDS
from edgepack.data.source import Asked, Bad, Contents, Item, Source
from edgepack.data.text_file import KINDS as TEXT_KINDS
from edgepack.data.text_file import LABEL_COLUMNS
from edgepack.errors import ConfigError, DataError
from edgepack.specs.signals import Columns

if TYPE_CHECKING:
    from edgepack.data.labels import Labels
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Task
    from edgepack.specs.types import Array

NUMBER_LABELS = ("regression",)  # tasks whose labels are numbers, not classes
TABLE_CLASSES = "tabular-classification"


@dataclass(frozen=True)
class NumberTable:
    """A file of rows, the columns that feed each input, and the labels."""

    rows: Rows
    columns: Mapping[str, tuple[str, ...]]
    labels: Labels | None
    classes: tuple[str, ...]
    bad: tuple[Bad, ...]


def column_settings(task: Task | None) -> Columns:
    """Return which columns feed what. Raises ``ConfigError``."""
    values = task.input if task is not None else {}
    found: Columns = documents.decode(Columns, documents.encode(values), "task.input")
    return found


def feeding_columns(
    made: Columns, columns: Sequence[str], label: str | None, inputs: Sequence[TensorSpec], name: str
) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that feed each input. Raises ``DataError`` naming what is missing."""
    if made.inputs:
        return _named(made.inputs, columns, inputs, name)
    others = tuple(column for column in columns if column != label)
    names = [spec.name for spec in inputs]
    if len(names) == 1:
        return {names[0]: others}
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(
            f"{name} has no column {missing[0]!r} for the input of that name; it has {', '.join(columns[:8])}",
            hint="name the columns of each input in [task.input.inputs] of the recipe",
        )
    return {name: (name,) for name in names}


def _named(
    asked: Mapping[str, tuple[str, ...]], columns: Sequence[str], inputs: Sequence[TensorSpec], name: str
) -> Mapping[str, tuple[str, ...]]:
    for spec in inputs:
        if spec.name not in asked:
            raise ConfigError(
                f"task.input.inputs names no columns for the model's input {spec.name!r}",
                hint=suggestion(spec.name, list(asked)),
            )
    for needed in (column for spec in inputs for column in asked[spec.name]):
        if needed not in columns:
            raise DataError(f"{name} has no column {needed!r}", hint=suggestion(needed, columns))
    return {spec.name: asked[spec.name] for spec in inputs}


def row_feed(
    cells: Mapping[str, str],
    columns: Mapping[str, tuple[str, ...]],
    inputs: Sequence[TensorSpec],
    where: Callable[[str], str],
) -> dict[str, Array]:
    """Return the arrays of one row by input, each [1, columns] or the model's shape of as many numbers.

    Raises ``DataError`` naming the cell that is not a number, or the input that has another number of columns.
    """
    feed = {}
    for spec in inputs:
        values = [_number(cells.get(column, ""), where(column)) for column in columns[spec.name]]
        feed[spec.name] = _shaped(values, spec, columns[spec.name], where)
    return feed


def _number(text: str, where: str) -> float:
    """Return the number in a cell, a whole one exactly: no float64 holds an id of 64 bits."""
    try:
        value = read_number(text)
    except ValueError:
        what = f"{text[:40]!r} is not a number" if text.strip() else "is empty"
        raise DataError(f"{where} {what}", hint="fill in what is missing, or leave the column out") from None
    if not math.isfinite(value):
        raise DataError(f"{where} holds {text.strip()[:40]}", hint="fill in what is missing, or remove the row")
    return int(text) if text.strip().lstrip("+-").isdigit() else value


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Say whether a type has room for a number; Python compares whole numbers exactly, whatever their size."""
    if dtype.kind == "f":
        return abs(value) <= float(np.finfo(dtype).max)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return int(info.min) <= value <= int(info.max)
    return dtype.kind != "b" or value in (0, 1)


def _shaped(values: Sequence[float], spec: TensorSpec, columns: Sequence[str], where: Callable[[str], str]) -> Array:
    dtype = np.dtype(spec.dtype)
    for value, column in zip(values, columns, strict=True):
        if dtype.kind in "iu" and value != int(value):
            raise DataError(
                f"{where(column)} is not a whole number, and the model's input {spec.name!r} is {dtype.name}"
            )
        if not _holds(dtype, value):
            raise DataError(
                f"{where(column)} holds {value:g}, which {dtype.name} of the model's input {spec.name!r} does not hold",
                hint="correct the number, or remove the row",
            )
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    _check_count(spec, columns, where(columns[0]) if columns else "the table")
    shape = (1, *sizes) if len(sizes) == len(spec.shape) - 1 else (1, len(values))
    return np.array([int(value) if dtype.kind in "iu" else value for value in values], dtype).reshape(shape)


def _check_count(spec: TensorSpec, columns: Sequence[str], where: str, *, labelled: bool = True) -> None:
    """Raise ``DataError`` where an input takes another count of numbers than there are columns for it."""
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    taken, given = math.prod(sizes), len(columns)
    if len(sizes) < len(spec.shape) - 1 or given == taken:
        return
    hint = "name the label's column and those that feed the model in [task.input] of the recipe"
    if not labelled and given == taken + 1:
        last = columns[-1]
        hint = f"if {last!r} is the label, write label = {last!r} in [task.input] of a recipe of yours"
    feed = "1 column feeds" if given == 1 else f"{given} columns feed"
    raise DataError(f"{where}: {feed} the model's input {spec.name!r}, which takes {taken} numbers", hint=hint)


def read_table(path: Path, task: Task | None, inputs: Sequence[TensorSpec] | None) -> NumberTable:
    """Return the rows of a file, with the columns that feed ``inputs`` where these are known. Raises ``DataError``."""
    made = column_settings(task)
    rows = read_rows(path, header=made.header)
    label = find_column(rows, made.label, LABEL_COLUMNS, "label")
    columns = feeding_columns(made, rows.columns, label, inputs, str(path)) if inputs is not None else {}
    for spec in inputs or ():
        # a column of words is named by its first cell, and is the better reason
        if rows.cells and all(is_number(rows.cells[0].get(column, "")) for column in columns[spec.name]):
            _check_count(spec, columns[spec.name], str(path), labelled=label is not None)
    if label is None:
        return NumberTable(rows, columns, None, (), ())
    labels, classes, bad = _labels(rows, label, task)
    return NumberTable(rows, columns, labels, classes, bad)


def count_columns(data: str, task: Task | None) -> int:
    """Return how many columns feed a model's only input: those that the recipe names, else all but the label's."""
    made = column_settings(task)
    if len(made.inputs) == 1:
        return len(next(iter(made.inputs.values())))
    rows = read_rows(_path(Asked(data)), header=made.header)
    label = find_column(rows, made.label, LABEL_COLUMNS, "label")
    return len([column for column in rows.columns if column != label])


def _labels(rows: Rows, label: str, task: Task | None) -> tuple[Array, tuple[str, ...], tuple[Bad, ...]]:
    """Return numbers where the task's labels are numbers, or where nobody says and not all are whole; else classes."""
    words = [cells.get(label, "") for cells in rows.cells]
    numbers = task is not None and task.kind in NUMBER_LABELS
    if task is None or not (task.classes or numbers or task.kind == TABLE_CLASSES):
        known = [word.strip() for word in words if word.strip()]
        numbers = all(map(is_number, known)) and any(whole_number(word) is None for word in known)
    if not numbers:
        return number_classes(words, task.classes if task is not None else (), lambda i: rows.where(i, label))
    values = [read_number(word) if is_number(word) else math.nan for word in words]
    bad = tuple(
        Bad(i, f"{rows.where(i, label)} {'is empty' if not words[i].strip() else 'is not a number'}", "write a number")
        for i, value in enumerate(values)
        if not math.isfinite(value)
    )
    return np.array(values), (), bad


def _path(asked: Asked) -> Path:
    path = rows_file(asked.source)
    if path is None:
        raise DataError(f"{asked.source} is no longer there", hint="do not change the data during a run")
    return path


def _recognises(data: str, task: Task | None) -> bool:
    path, kind = rows_file(data), task.kind if task is not None else ""
    if path is None or kind in TEXT_KINDS:
        return False
    return Path(data).is_file() or kind == TABLE_CLASSES or not _has_media(path.parent)


def _has_media(folder: Path) -> bool:
    """Say whether a folder holds pictures or sounds, so that a table beside them says something of these."""
    return any(entry.name.lower().endswith((*PICTURES, *SOUNDS)) for entry in folder.iterdir())


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    path = _path(asked)
    found = read_table(path, asked.task, inputs)
    bad = (*found.bad, *_bad_rows(found, inputs)) if inputs is not None else found.bad
    of_file = digest(path)
    names = tuple(f"{path.name} line {line}" for line in found.rows.lines)
    return Contents(
        len(names), lambda index: f"{of_file}:{index}", found.labels, found.classes, (), names,
        tuple({item.index: item for item in bad}.values()),
        input={"inputs": found.columns} if found.columns and not found.rows.numbered else {},
    )  # fmt: skip


def _bad_rows(found: NumberTable, inputs: tuple[TensorSpec, ...]) -> Iterator[Bad]:
    hint = _label_meant(found)
    for i, cells in enumerate(found.rows.cells):
        try:
            row_feed(cells, found.columns, inputs, lambda column, i=i: found.rows.where(i, column))  # type: ignore[misc]
        except DataError as error:
            yield Bad(i, error.message, hint or error.hint)


def _label_meant(found: NumberTable) -> str | None:
    """Return a hint where no label was found, and one column that feeds the model holds no number at all."""
    if found.labels is not None:
        return None
    used = {column for columns in found.columns.values() for column in columns}
    of_words = [
        column
        for column in found.rows.columns
        if column in used and not any(is_number(cells.get(column, "")) for cells in found.rows.cells)
    ]
    if len(of_words) != 1:
        return None
    return (
        f"if {of_words[0]!r} is the label, write label = {of_words[0]!r} in [task.input] of a recipe; else leave it out"
    )


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    path = _path(asked)
    of_file = hashlib.sha256(path.read_bytes()).hexdigest()
    found = read_table(path, asked.task, inputs)
    for index in indices:
        if index >= len(found.rows.cells):
            raise DataError(f"{path} has fewer rows than before", hint="do not change the data during a run")
        feed = row_feed(
            found.rows.cells[index],
            found.columns,
            inputs,
            lambda column, i=index: found.rows.where(i, column),  # type: ignore[misc]
        )
        for spec in inputs:
            check_shape(feed[spec.name].shape, spec, found.rows.where(index))
        label: Any = None if found.labels is None else found.labels[index]
        yield Item(feed, f"{of_file}:{index}", label)


SOURCE = Source(_recognises, _scan, _read, named=True)
