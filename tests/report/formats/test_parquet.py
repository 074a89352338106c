import io
import sys

import made_up
import pytest
from click.testing import CliRunner

from edgepack.base import documents
from edgepack.cli.main import cli
from edgepack.errors import ConfigError, ToolchainError
from edgepack.report.formats.parquet import to_parquet
from edgepack.report.formats.records import make_records

pytestmark = pytest.mark.slow

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra 'parquet')")


def read(data):
    return parquet.read_table(io.BytesIO(data))


def test_every_record_comes_back_with_its_types():
    build = made_up.labelled_build()
    table, records = read(to_parquet(*build)), make_records(*build)
    assert table.to_pylist() == list(records.rows)
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["p50_ns"], types["drop"], types["valid"], types["target"]) == ("int64", "double", "bool", "string")


def test_a_column_that_nothing_was_measured_for_keeps_its_type():
    table = read(to_parquet((), made_up.labelled_build()[1]))
    assert str(table.schema.field("energy_uj").type) == "int64"
    assert table.column("energy_uj").null_count == table.num_rows == 6


def test_many_results_are_small():
    build = made_up.many()
    data = to_parquet(*build)
    assert read(data).num_rows == 500
    assert len(data) < 150_000


def test_the_same_results_give_the_same_bytes():
    assert to_parquet(*made_up.labelled_build()) == to_parquet(*made_up.labelled_build())


def test_a_number_that_no_int64_holds_is_refused():
    with pytest.raises(ConfigError, match="cannot hold"):
        to_parquet((made_up.result(size_bytes=10**30),), ())


def test_without_pyarrow_the_command_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ToolchainError) as caught:
        to_parquet((made_up.result(),), ())
    assert "edgepack[parquet]" in caught.value.hint


def test_the_command_writes_every_format_asked_for(tmp_path):
    source = tmp_path / "result.json"
    source.write_text(documents.to_json(made_up.result()))
    names = ["a.html", "a.md", "a.csv", "a.parquet", "a.xml"]
    words = [w for name in names for w in ("--out", str(tmp_path / name))]
    done = CliRunner().invoke(cli, ["report", str(source), *words])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names, "result.json"])
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 1


def test_nothing_is_written_when_one_format_is_unknown(tmp_path):
    source = tmp_path / "result.json"
    source.write_text(documents.to_json(made_up.result()))
    words = ["--out", str(tmp_path / "a.html"), "--out", str(tmp_path / "a.docx")]
    done = CliRunner().invoke(cli, ["report", str(source), *words])
    assert done.exit_code == 2
    assert "a.docx" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
