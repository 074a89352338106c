"""The table of what a build of many models would make."""

from __future__ import annotations

import pytest

from edgepack.cli.show.console import PlainConsole
from edgepack.cli.show.many import show_outlook
from edgepack.pipeline.outlook import MEASURED_ON, Outlook, OutlookRow
from edgepack.specs.build import NOT_HERE


def test_every_row_its_time_and_the_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = (
        OutlookRow("a", "rpi", "fp32", "tvm", "reused", "a.edgepack", "not here"),
        OutlookRow("b", "host", "int8", "tvm", "build", "b.edgepack", "measured here", "compile", 200.0),
        OutlookRow("b", "rpi", "bf16", "tvm", "skipped", "c.edgepack", "not here", reason="not offered"),
        OutlookRow("b", "n100", "fp32", "tvm", "build", "d.edgepack", NOT_HERE, "compile", 100.0),
        OutlookRow("b", "n100", "int8", "tvm", "build", "e.edgepack", NOT_HERE, "compile", 100.0),
        OutlookRow("b", "jp6", "fp16", "tvm", "build", "f.edgepack", f"{MEASURED_ON}me@board", "compile", 100.0),
    )
    show_outlook(PlainConsole(), Outlook("all", "out", rows, 500.0))
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[2:8] == [
        ["a", "rpi", "fp32", "reused", "-", "-", "-"],
        ["b", "host", "int8", "build", "compile", "here", "3", "min"],
        ["b", "rpi", "bf16", "skipped", "-", "-", "-"],
        ["b", "n100", "fp32", "build", "compile", "-", "2", "min"],
        ["b", "n100", "int8", "build", "compile", "-", "2", "min"],
        ["b", "jp6", "fp16", "build", "compile", "by", "ssh", "2", "min"],
    ]
    assert "b rpi bf16: not offered" in said.out
    assert "6 rows of 2 models: 4 build, 1 reused, 1 skipped, 0 failed" in said.err
    assert "about 8 min" in said.err
    assert "no such device is here: n100 (--measure-on USER@HOST" in " ".join(said.err.split())


def test_a_time_that_is_known_of_some_rows_is_said_of_those(capsys: pytest.CaptureFixture[str]) -> None:
    """One row of a precision that was never built hid what was known of a hundred others."""
    rows = tuple(
        OutlookRow("b", name, "int8", "tvm", "build", "b.edgepack", "measured here", "export", expected)
        for name, expected in (("one", 60.0), ("two", 120.0), ("three", None))
    )
    show_outlook(PlainConsole(), Outlook("all", "out", rows, None))
    assert "about 3 min for 2 of 3 rows; none like the others has finished here" in capsys.readouterr().err


def test_a_time_that_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = OutlookRow("b", "host", "int8", "tvm", "build", "b.edgepack", "measured here", "export")
    show_outlook(PlainConsole(), Outlook("all", "out", (row,), None))
    assert "unknown: no build of such rows has finished here" in capsys.readouterr().err
