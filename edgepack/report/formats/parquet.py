"""The report as Parquet: the records of CSV with their types, for many results and for tools that query them."""

from __future__ import annotations

import io

from edgepack import __version__
from edgepack.errors import ConfigError, ToolchainError
from edgepack.report.formats.records import make_records
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result


def to_parquet(results: tuple[Result, ...], rows: tuple[BuildRow, ...]) -> bytes:
    """Return all entries as one Parquet file, compressed with Zstandard; what was not measured is null.

    Integers are int64, other numbers float64. Raises ``ToolchainError`` where pyarrow is not installed, and
    ``ConfigError`` for a number that no int64 holds.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ToolchainError(
            "writing .parquet needs pyarrow, which is not installed", hint="pip install 'edgepack[parquet]'"
        ) from None
    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_(), str: pyarrow.string()}
    records = make_records(results, rows)
    schema = pyarrow.schema(
        [(name, kinds[kind]) for name, kind in records.columns.items()], metadata={"edgepack": __version__}
    )
    try:
        table = pyarrow.Table.from_pylist(list(records.rows), schema=schema)
    except (OverflowError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(
            f"Parquet cannot hold a figure of these results: {str(error)[:200]}", hint="leave out the damaged result"
        ) from None
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()
