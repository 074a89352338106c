"""What the tables show in a terminal of 80 columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import made_up
import pytest

from edgepack.cli.show.console import Console, PlainConsole, make_console
from edgepack.cli.show.measured import show_results
from edgepack.cli.show.tables import show_build, show_targets, show_verification
from edgepack.engines.targets import list_targets
from edgepack.specs.build import NOT_HERE, BuildResult
from edgepack.specs.run import OutputDistance, Verification


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


def test_exact_is_only_what_was_compared_and_equal(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    """No SQNR may mean identical, decisions, or that nothing was evaluated."""
    row = dataclasses.replace(made_up.labelled_build()[1][0], sqnr_db=None, cosine=1.0, reason=None)
    rows = (
        row,
        dataclasses.replace(row, mismatch=0.105),
        dataclasses.replace(row, status="gate_missed", cosine=None),
        dataclasses.replace(row, status="failed", cosine=None),
    )
    show_build(console, BuildResult("net", rows, (), "out", "report.html", {}, 1, 0))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(row.target)][:4]
    assert ["exact" in line for line in lines] == [True, False, False, False]
    assert ["89.50 % equal" in line for line in lines] == [False, True, False, False]


def test_a_verification(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    def output(name: str, **more: Any) -> OutputDistance:
        facts = {"sqnr_db": None, "cosine": 1.0, "max_abs": 0.0, "tolerance_sqnr_db": 60.0, "passed": True, **more}
        return OutputDistance(name, **facts)

    decision = {"tolerance_sqnr_db": None, "tolerance_mismatch": 0.25}
    outputs = (
        output("same"),
        output("near", sqnr_db=31.25, passed=False),
        output("zero", max_abs=255.0, passed=False, note="all zero: 255, 0.0001 is allowed"),
        output("best", mismatch=0.5, passed=False, note="3 of 6 differ, 25 % may", **decision),
        output("worst", mismatch=0.0, **decision),
        output("type", passed=False, note="its dtype is float64", way="tuned", batch=4),
    )
    show_verification(
        console, Path("b.edgepack"), Verification(False, outputs, 4, "x", {"x": "1"}, (), note="not used: y")
    )
    text = capsys.readouterr().err
    assert max(map(len, text.splitlines())) <= 80
    lines = {line.split()[0]: line for line in text.splitlines()[2:8]}
    assert [name for name, line in lines.items() if "exact" in line] == ["same", "worst"]
    assert "31.2 dB" in lines["near"]
    assert "50.00 % equal" in lines["best"]
    assert "75.00 % equal" in lines["best"]
    assert "type, 4 at once, tuned: its dtype" in text
    for note in ("zero: all zero: 255", "best: 3 of 6 differ", "its dtype is float64", "not used: y", "not verified"):
        assert note in text
    assert "on 4 golden vectors and 4 at once" in text


def test_only_what_can_be_measured_here_is_offered_for_measuring(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = made_up.row("host-openvino", "int8")
    other = made_up.row("raspberry-pi-5", "int8", notes={"latency": NOT_HERE})
    for rows, offered in (((mine, other), [mine]), ((other,), []), ((other, mine), [mine])):
        show_build(console, BuildResult("net", rows, (), "out", "report.html", {}, 1, 0))
        lines = [line.split() for line in capsys.readouterr().err.splitlines()]
        assert [line[2] for line in lines if line[:2] == ["edgepack", "benchmark"]] == [row.bundle for row in offered]
        assert [line[2] for line in lines if line[:2] == ["edgepack", "inspect"]] == [rows[-1].bundle]


def test_a_measurement_of_another_machine_is_marked(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    show_results(console, (made_up.result("raspberry-pi-5", stands_for_target=False),))
    text = " ".join(capsys.readouterr().err.split())
    assert "not on the target" in text
    assert "which is not raspberry-pi-5: no report takes it for that device's" in text
    show_results(console, (made_up.result("raspberry-pi-5", stands_for_target=True),))
    assert "not on the target" not in capsys.readouterr().err


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
