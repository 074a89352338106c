"""What a build returns shows itself in a shell and in a notebook."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path
from typing import Any

import pytest

from edgepack.specs.build import BuildResult, BuildRow, Latency
from edgepack.specs.run import Accuracy

EMPTY = BuildRow("board", "int8", "ok")
FULL = dataclasses.replace(
    EMPTY,
    size_bytes=1_234_567,
    accuracy=Accuracy("top1", 400, 0.92, 0.91, 0.01, (0.0, 0.02)),
    sqnr_db=31.25,
    latency_ns=Latency(1_500_000, None),
)


def result(*rows: BuildRow, name: str = "net") -> BuildResult:
    return BuildResult(name, rows, (), "out", None, {}, 0, 0)


def test_what_was_not_measured_is_an_empty_cell() -> None:
    assert EMPTY.cells() == ("board", "int8", "ok", "", "", "", "", "")


def test_cells_are_in_the_units_of_their_columns() -> None:
    assert FULL.cells() == ("board", "int8", "ok", "1.23", "top1 0.91 (n=400)", "+0.01", "31.2", "1.500")


def test_a_gain_has_a_minus() -> None:
    accuracy = Accuracy("top1", 4, 0.5, 0.75, -0.25, (0.0, 0.0))
    assert dataclasses.replace(EMPTY, accuracy=accuracy).cells()[5] == "-0.25"


def test_a_row_that_failed_says_why() -> None:
    row = dataclasses.replace(EMPTY, status="failed", reason="no memory")
    assert row.cells()[2] == "failed: no memory"
    assert repr(row) == "<BuildRow board int8 failed: no memory; >"


def test_a_short_row_names_what_was_measured_only() -> None:
    assert repr(dataclasses.replace(EMPTY, sqnr_db=31.25)) == "<BuildRow board int8 ok; SQNR (dB) 31.2>"


def test_a_short_result_has_one_line_a_row() -> None:
    assert repr(result(EMPTY, FULL)).splitlines() == [
        "<BuildResult net: 2 rows in out",
        f"  {EMPTY!r}",
        f"  {FULL!r}>",
    ]


def test_a_notebook_gets_a_table_of_all_cells() -> None:
    page = result(EMPTY, FULL)._repr_html_()
    assert page.count("<tr>") == 3
    assert page.count("<th>") == page.count("<td>") // 2 == len(EMPTY.cells())
    assert "<td>top1 0.91 (n=400)</td>" in page


@pytest.mark.parametrize("changes", [{"target": "<script>"}, {"status": "failed", "reason": "a < b & <script>"}])
def test_nothing_of_a_row_is_markup(changes: dict[str, Any]) -> None:
    page = result(dataclasses.replace(EMPTY, **changes), name="<script>")._repr_html_()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") == 2


def test_a_notebook_gets_the_page_in_a_frame_of_its_own(tmp_path: Path) -> None:
    """Nothing of the page is part of the notebook: it is the text of an attribute, and the frame is a sandbox."""
    page = tmp_path / "report.html"
    page.write_text('<!doctype html><p title="a">"</iframe><script>alert(1)</script>')
    shown = dataclasses.replace(result(EMPTY), report=str(page))._repr_html_()
    assert shown.count("<iframe ") == shown.count("</iframe>") == 1
    assert 'sandbox="allow-scripts"' in shown
    assert "<script>" not in shown
    assert html.unescape(shown.partition('srcdoc="')[2].rpartition('"></iframe>')[0]) == page.read_text()
    assert "<iframe" not in dataclasses.replace(result(EMPTY), report=str(tmp_path / "none.html"))._repr_html_()


def test_a_page_that_is_too_large_for_a_notebook_is_left_out(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(b" " * ((4 << 20) + 1))
    assert "<iframe" not in dataclasses.replace(result(EMPTY), report=str(page))._repr_html_()
