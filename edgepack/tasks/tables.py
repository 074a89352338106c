"""Rows of numbers as inputs: a mapping, an array, or a .csv whose first row counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.data.checks import check_values, fits
from edgepack.data.number_table import column_settings, feeding_columns, row_feed
from edgepack.data.rows import Rows, find_column, read_rows
from edgepack.data.text_file import LABEL_COLUMNS
from edgepack.errors import DataError
from edgepack.specs.signals import Columns
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import Making, Prepared


def prepare_row(thing: Any, making: Making) -> Prepared:
    """Return the inputs of one row: a mapping of columns to numbers, numbers in the model's order, or a .csv of a row.

    A mapping and a file with a header are read by the names of columns where the task knows them. Raises ``DataError``
    naming the column.
    """
    if isinstance(thing, str | Path):
        return Prepared(_from_file(Path(thing), making), Frame())
    if isinstance(thing, Mapping):
        if all(isinstance(value, np.ndarray) for value in thing.values()):
            return Prepared(dict(thing), Frame())
        cells = {str(column): repr(float(value)) for column, value in thing.items()}
        made = column_settings(making.task)
        columns = feeding_columns(made, tuple(cells), made.label or None, making.inputs, "the row")
        return Prepared(row_feed(cells, columns, making.inputs, lambda c: f"the row, column {c!r}"), Frame())
    return Prepared(_from_array(thing, making), Frame())


def _from_file(path: Path, making: Making) -> dict[str, Array]:
    made = column_settings(making.task)
    rows = read_rows(path, header=made.header)
    if len(rows.cells) > 1:
        raise DataError(f"{path} has {len(rows.cells)} rows", hint="give a file with one row")
    if _only_numbered(rows, made) and len(making.inputs) == 1:
        columns: Mapping[str, tuple[str, ...]] = {making.inputs[0].name: rows.columns}
    else:
        label = find_column(rows, made.label if made.label in rows.columns else "", LABEL_COLUMNS, "label")
        columns = feeding_columns(made, rows.columns, label, making.inputs, str(path))
    return row_feed(rows.cells[0], columns, making.inputs, lambda column: rows.where(0, column))


def _only_numbered(rows: Rows, made: Columns) -> bool:
    """Say whether a row without names is for a model whose columns have names: it has their order then."""
    named = {column for columns in made.inputs.values() for column in columns}
    return rows.numbered and not named <= {*rows.columns}


def _from_array(thing: Any, making: Making) -> dict[str, Array]:
    if isinstance(thing, list | tuple) and thing and all(isinstance(one, int | float | np.number) for one in thing):
        thing = np.array(thing, np.float64)
    if not isinstance(thing, np.ndarray) or len(making.inputs) != 1:
        raise DataError(
            f"a {type(thing).__name__} is not a row for {len(making.inputs)} inputs",
            hint="give a dict of column to number, or an array of numbers for a model with one input",
        )
    spec = making.inputs[0]
    array = thing.astype(spec.dtype).reshape(1, *thing.shape) if thing.ndim == len(spec.shape) - 1 else thing
    if not fits(array.shape, spec):
        raise DataError(
            f"an array {list(thing.shape)} does not fit the model's input {spec.name!r} {show_shape(spec.shape)}"
        )
    check_values(array, spec.name, "the row")
    return {spec.name: np.ascontiguousarray(array, spec.dtype)}


def check_columns(task: Task) -> None:
    """Raise ``ConfigError`` for settings of columns that cannot be meant."""
    column_settings(task)
