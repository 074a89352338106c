"""The table of what a build of many models would make."""

from __future__ import annotations

import pytest

from edgepack.cli.show.console import PlainConsole
from edgepack.cli.show.many import show_outlook
from edgepack.pipeline.outlook import Outlook, OutlookRow


def test_every_row_its_time_and_the_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = (
        OutlookRow("a", "rpi", "fp32", "tvm", "reused", "a.edgepack", "not here"),
        OutlookRow("b", "host", "int8", "tvm", "build", "b.edgepack", "measured here", "compile", 200.0),
        OutlookRow("b", "rpi", "bf16", "tvm", "skipped", "c.edgepack", "not here", reason="not offered"),
    )
    show_outlook(PlainConsole(), Outlook("all", "out", rows, 200.0))
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[2:5] == [
        ["a", "rpi", "fp32", "reused", "-", "-", "-"],
        ["b", "host", "int8", "build", "compile", "here", "3", "min"],
        ["b", "rpi", "bf16", "skipped", "-", "-", "-"],
    ]
    assert "b rpi bf16: not offered" in said.out
    assert "3 rows of 2 models: 1 build, 1 reused, 1 skipped, 0 failed" in said.err
    assert "about 3 min" in said.err


def test_a_time_that_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = OutlookRow("b", "host", "int8", "tvm", "build", "b.edgepack", "measured here", "export")
    show_outlook(PlainConsole(), Outlook("all", "out", (row,), None))
    assert "not known: no build of such rows has ended here" in capsys.readouterr().err
