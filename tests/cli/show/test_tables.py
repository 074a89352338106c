"""What the tables show in a terminal of 80 columns."""

from __future__ import annotations

import made_up
import pytest

from edgepack.cli.show.console import Console, PlainConsole, make_console
from edgepack.cli.show.measured import show_results
from edgepack.cli.show.tables import show_build, show_targets
from edgepack.engines.targets import list_targets
from edgepack.specs.build import BuildResult


@pytest.fixture(params=[PlainConsole, make_console], ids=["plain", "rich"], autouse=True)
def console(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    console: Console = request.param()
    return console


def test_a_build(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made_up.labelled_build()[1]
    show_build(console, BuildResult("net", tuple(rows), (), "out", "report.html", {}, 1, 0))
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines[: 3 + len(rows)])) <= 80
    assert lines[1].split() == ["target", "size", "top1", "drop", "SQNR", "p50", "p90", "speed"]
    assert lines[3].split()[:3] == ["host-openvino", "fp32", "1.1"]
    assert "1.86x" in lines[4]
    assert any(line.split() == ["failed"] for line in lines)


def test_a_measurement(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    result = made_up.result()
    show_results(console, (result,))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["bundle", "p50", "p90", "p99", "samples/s", "memory"]
    assert lines[2].startswith(result.bundle_name)
    assert any(line.startswith(f"{result.target} {result.precision}") for line in lines)
    assert ".." in lines[3]


def test_targets_lose_none_of_their_precisions(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    targets = list_targets()
    show_targets(console, targets)
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    for target in targets:
        (line,) = [line for line in lines if line.split()[:1] == [target.id]]
        assert line.rstrip().endswith(" ".join(target.compute.precisions))
