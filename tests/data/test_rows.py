import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.data.rows import find_column, parse_rows, read_rows, rows_file
from edgepack.errors import DataError

CELL = st.text(st.characters(exclude_characters="\0\ud800", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=6), st.sampled_from(",\t"))
def test_cells_are_those_that_were_written(table, delimiter):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["a", "b"])
    writer.writerows(table)
    kept = [tuple(row) for row in table if any(cell.strip() for cell in row)]
    if not kept:
        with pytest.raises(DataError, match="no rows"):
            parse_rows(buffer.getvalue(), "x.csv", delimiter, header=True)
        return
    found = parse_rows(buffer.getvalue(), "x.csv", delimiter, header=True)
    assert [(row["a"], row["b"]) for row in found.cells] == kept


def test_lines_are_counted_with_those_within_quotes_and_empty_ones():
    found = parse_rows('text,label\n"two\nlines",a\n\nlast,b\n', "x.csv", ",", header=True)
    assert found.lines == (2, 5)
    assert found.where(1, "label") == "x.csv line 5, column 'label'"


@pytest.mark.parametrize(
    ("text", "header", "columns"),
    [
        ("1,2\n3,4\n", None, ("0", "1")),
        ("a,b\n3,4\n", None, ("a", "b")),
        ("a,2\n3,4\n", True, ("a", "2")),
        ("7,y\n3,4\n", None, ("7", "y")),
        ("1,cat\n2,dog\n", None, ("0", "1")),
        ("1,2\n3,4\n", False, ("0", "1")),
    ],
)
def test_a_first_line_without_a_number_or_with_a_word_over_one_is_a_header(text, header, columns):
    assert parse_rows(text, "x", ",", header=header).columns == columns


def test_objects_a_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        '\ufeff{"text": "a\\nb", "label": 3, "other": [1]}\n\n{"text": "c", "label": true, "score": 1e-3}\n', "utf-8"
    )
    found = read_rows(path)
    assert found.columns == ("text", "label", "other", "score")
    assert found.lines == (1, 3)
    assert dict(found.cells[0]) == {"text": "a\nb", "label": "3", "other": "[1]"}
    assert dict(found.cells[1]) == {"text": "c", "label": "true", "score": "0.001"}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"a,b\n", "no rows"),
        ("x.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 columns, the first line has 2"),
        ("x.csv", b"a,b\n1;2\n", "line 2 has 1 columns"),
        ("x.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("x.csv", b'a,b\n1,"2\n', "line 2 cannot be read"),
        ("x.csv", b"a,b\n1,\xff\n", "not text in UTF-8"),
        ("x.csv", b"a,b\n1," + b"x" * (1 << 20) + b"y\n", "line 2 cannot be read"),
        ("x.jsonl", b"\n \n", "is empty"),
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("x.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("x.jsonl", b"[1]\n", "line 1 is not an object"),
        ("x.jsonl", b"{}\n", "x.jsonl"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    if data == b"{}\n":
        assert read_rows(path).columns == ()
        return
    with pytest.raises(DataError, match=words) as error:
        read_rows(path)
    assert str(path) in str(error.value)
    assert error.value.hint


def test_what_parts_the_cells_is_told():
    with pytest.raises(DataError) as error:
        parse_rows("a,b\n1\t2\n", "x.csv", ",", header=True)
    assert ".tsv" in error.value.hint


@pytest.mark.parametrize(
    ("name", "text", "mark", "hint"),
    [
        ("x.csv", "text;label\nthis, and that;pos\nno;neg\n", "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", "text;label\ngood;pos\n", "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", '\ufeff"text";"label"\r\n"a, b";"pos"\r\n', "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", 'text;label\n"two\nlines";pos\n', "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", "\n\nx;y\n1,5;2,5\n", "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", "1;2\n3;4\n", "';'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", "text|label\ngood|pos\n", "'\\|'", "save it with commas, or with tabs as .tsv"),
        ("x.csv", "text\tlabel\ngood, or not\tpos\n", "tabs", "name it .tsv"),
        ("x.tsv", "text,label\ngood,pos\n", "','", "name it .csv"),
        ("x.tsv", "text;label\ngood;pos\n", "';'", "save it with tabs"),
    ],
)
@pytest.mark.parametrize("header", [True, None])
def test_another_separator_is_named_as_the_cause(tmp_path, name, text, mark, hint, header):
    path = tmp_path / name
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=rf"its columns are separated by {mark}$") as error:
        read_rows(path, header=header)
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("x.csv", "text\nfirst; then\nno|yes\n", ("text",)),
        ("x.csv", "text,label;kind\na;b,c\n", ("text", "label;kind")),
        ("x.csv", '"one; or two"\na;b\n', ("one; or two",)),
        ("x.tsv", "weight, kg\n3.5\n", ("weight, kg",)),
        ("x.tsv", "a,b\tc\n1,2\t3\n", ("a,b", "c")),
    ],
)
def test_marks_within_cells_are_no_separators(tmp_path, name, text, columns):
    path = tmp_path / name
    path.write_text(text)
    assert read_rows(path).columns == columns


def test_columns_are_found_by_name():
    rows = parse_rows("Text,category\na,b\n", "x.csv", ",", header=True)
    assert find_column(rows, "", ("sentence", "text"), "text") == "Text"
    assert find_column(rows, "", ("label",), "label") is None
    assert find_column(rows, "category", ("label",), "label") == "category"
    with pytest.raises(DataError, match="no column 'categorie' for the label") as error:
        find_column(rows, "categorie", (), "label")
    assert "category" in error.value.hint


def test_files_of_rows_are_told_by_their_suffix(tmp_path):
    for name, right in (("a.csv", True), ("a.TSV", True), ("a.jsonl", True), ("a.json", False)):
        (tmp_path / name).write_text("x")
        assert (rows_file(str(tmp_path / name)) is not None) is right
    assert rows_file(str(tmp_path / "nothing.csv")) is None
    assert rows_file("a\0.csv") is None


def test_a_folder_may_hold_one_file_of_rows(tmp_path):
    assert rows_file(str(tmp_path)) is None
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert rows_file(str(tmp_path)) == tmp_path / "a.csv"
    (tmp_path / "b.csv").write_text("x")
    assert rows_file(str(tmp_path)) is None
    (tmp_path / "b.csv").unlink()
    (tmp_path / "cats").mkdir()
    assert rows_file(str(tmp_path)) is None, "labels of pictures in folders are no rows"
