"""What the tables show in a terminal of 80 columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import made_up
import numpy as np
import pytest

from edgepack.cli.show import terminal
from edgepack.cli.show.built import show_build, show_plan
from edgepack.cli.show.console import Console, PlainConsole, make_console
from edgepack.cli.show.inspected import show_outputs, show_verification
from edgepack.cli.show.measured import show_results
from edgepack.cli.show.tables import show_recipe, show_targets
from edgepack.data.recipes import load_recipe
from edgepack.engines.targets import list_targets
from edgepack.pipeline.preview import BuildPreview, PlannedRow
from edgepack.specs.build import NOT_HERE, BuildResult, BuildRow
from edgepack.specs.run import Accuracy, OutputDistance, Verification


@pytest.fixture(params=[PlainConsole, make_console], ids=["plain", "rich"], autouse=True)
def console(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    console: Console = request.param()
    return console


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_build(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made_up.labelled_build()[1]
    show_build(console, BuildResult("net", tuple(rows), (), "out", "report.html", {}, 1, 0))
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert max(map(len, lines[: 3 + len(rows)])) <= 80
    assert lines[0].split() == ["target", "precision", "status", "size", "top1", "drop", "p50", "p90", "speed-up"]
    assert lines[1].split() == ["kB", "%", "points", "ms", "ms", "x", "fp32"]
    assert lines[3].split() == ["host-openvino", "fp32", "ok", "1130", "91.98", "+0.00", "4.11", "4.45", "1.00"]
    assert lines[4].split() == ["host-openvino", "int8", "ok", "340", "91.34", "+0.64", "2.20", "2.36", "1.86"]
    assert any(line.split()[:3] == ["intel-n100", "int8", "failed"] for line in lines)
    assert "report: report.html" in said.err


def test_the_source_of_a_whole_part_of_a_recipe_stands_once(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    show_recipe(console, load_recipe("fastestdet"))
    lines = shown(capsys)
    assert sum("qiuqiu" in line for line in lines) == 1
    assert next(line for line in lines if "preprocessing.color" in line).split() == [
        "preprocessing.color", "BGR", "as", "above",
    ]  # fmt: skip


ALWAYS = ("target", "precision", "status", "top1", "drop", "p90", "speed-up")
LONG = ("jetson-agx-orin-64gb-jp6", "a-board-with-a-name-as-long-as-those-of-catalogues-are")


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (60, ("target", "precision", "status", "drop", "speed-up")),
        (80, ALWAYS),
        (100, (*ALWAYS, "p50")),
        (140, (*ALWAYS, "size", "SQNR", "p50")),
    ],
)
def test_a_build_at_a_width(
    console: Console,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    columns: tuple[str, ...],
) -> None:
    """A figure is whole or its column is gone; a name is cut where it shows that it is."""
    monkeypatch.setenv("COLUMNS", str(width))
    first = dataclasses.replace(made_up.labelled_build()[1][1], reason=None)
    rows = (first, *(dataclasses.replace(first, target=name, status="gate_missed") for name in LONG))
    show_build(console, BuildResult("net", rows, (), "out", None, {}, 1, 0))
    lines = shown(capsys)
    assert len(lines) == 3 + len(rows), "one line a row"
    assert max(map(len, lines)) <= width
    assert set(columns) <= set(lines[0].split())
    figures = {
        "precision": "int8", "top1": "91.34", "drop": "+0.64", "p50": "2.20", "p90": "2.36", "speed-up": "1.86",
        "size": "340", "SQNR": "27.8",
    }  # fmt: skip
    for line, name in zip(lines[3:], (first.target, *LONG), strict=True):
        cells = line.replace("gate missed", "missed").split()
        assert len(cells) == len(lines[0].split())
        assert cells[0] == name or ((cells[0][:5], cells[0][-5:]) == (name[:5], name[-5:]) and "…" in cells[0])
        found = dict(zip(lines[0].split(), cells, strict=True))
        assert {column: found[column] for column in found if column in figures} == {
            column: figure for column, figure in figures.items() if column in found
        }


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_every_table_keeps_its_width(
    console: Console, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    results = tuple(made_up.labelled_build()[0])
    show_results(console, results)
    lines = shown(capsys)
    assert len(lines) == 3 + len(results)
    assert max(map(len, lines)) <= width
    assert {"target", "precision", "status", "p50", "p90"} <= set(lines[0].split())
    for result, line in zip(results, lines[3:], strict=True):
        assert f"{result.target} " in line
    targets = list_targets()
    show_targets(console, targets)
    lines = shown(capsys)
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[2:]] == [target.id for target in targets]


def test_a_metric_that_takes_fp32s_answers_for_right_says_so_in_its_unit(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    row = made_up.labelled_build()[1][1]
    assert row.accuracy is not None
    for truth, unit in (("labels", "%"), ("fp32", "% fp32")):
        accuracy = dataclasses.replace(row.accuracy, truth=truth)  # type: ignore[arg-type]
        show_build(console, BuildResult("net", (dataclasses.replace(row, accuracy=accuracy),), (), "o", None, {}, 1, 0))
        names, units = shown(capsys)[:2]
        assert units[: names.index("top1") + 4].endswith(f" {unit}")


def test_without_labels_the_quality_is_agreement_and_without_classes_closeness(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    row = dataclasses.replace(made_up.labelled_build()[1][1], accuracy=None, agreement=0.98)
    show_build(console, BuildResult("net", (row,), (), "out", None, {}, 1, 0))
    lines = shown(capsys)
    assert lines[0].split() == ["target", "precision", "status", "size", "agreement", "SQNR", "p50", "p90", "speed-up"]
    show_build(console, BuildResult("net", (dataclasses.replace(row, agreement=None),), (), "out", None, {}, 1, 0))
    lines = shown(capsys)
    assert lines[0].split() == ["target", "precision", "status", "size", "SQNR", "p50", "p90", "speed-up"]
    assert "27.8" in lines[3]


def test_experts_detail_is_shown_to_those_who_ask(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    notes = {"corrections": "scaled channels 30 dB", "latency": "not measured: --no-benchmark"}
    result = BuildResult("net", (made_up.row("board", "int8", notes=notes),), (), "out", None, {}, 1, 0)
    show_build(console, result)
    said = capsys.readouterr().err
    assert "not measured: --no-benchmark" in said
    assert "scaled channels" not in said
    with click.Context(click.Command("build")) as context:
        terminal.set_verbosity(context, terminal.VERBOSE)
        show_build(type(console)(), result)
        assert "corrections: scaled channels 30 dB" in capsys.readouterr().err
        terminal.set_verbosity(context, terminal.QUIET)
        show_build(type(console)(), result)
        quiet = capsys.readouterr()
    assert (quiet.err, quiet.out.splitlines()[0].split()[0]) == ("", "target")


def test_what_the_answer_says_of_a_device_is_not_said_again(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why int8 is not faster and how it came to be are for experts; a device without a sentence keeps its notes."""
    fp32, int8 = made_up.labelled_build()[1][:2]
    notes = {"not faster": "bound by memory", "size": "int8 is larger", "placement": "none was tried"}
    slower = dataclasses.replace(int8, speedup_over_fp32=0.8, speedup_ci95=(0.7, 0.9), notes=notes)
    show_build(console, BuildResult("net", (fp32, slower), (), "out", None, {}, 1, 0))
    said = capsys.readouterr().err
    assert "int8 is 1.25 times slower" in said
    assert not [text for text in notes.values() if text in said]
    faster = dataclasses.replace(int8, notes=notes)
    show_build(console, BuildResult("net", (fp32, faster), (), "out", None, {}, 1, 0))
    said = capsys.readouterr().err
    assert [text for text in notes.values() if text in said] == ["bound by memory", "int8 is larger"]
    with click.Context(click.Command("build")) as context:
        terminal.set_verbosity(context, terminal.VERBOSE)
        show_build(type(console)(), BuildResult("net", (fp32, slower), (), "out", None, {}, 1, 0))
        said = capsys.readouterr().err
    assert [text for text in notes.values() if text in said] == list(notes.values())


def test_exact_is_only_what_was_compared_and_equal(
    console: Console, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No SQNR may mean identical, decisions, or that nothing was evaluated."""
    monkeypatch.setenv("COLUMNS", "120")
    row = dataclasses.replace(made_up.labelled_build()[1][0], sqnr_db=None, cosine=1.0, reason=None)
    rows = (
        row,
        dataclasses.replace(row, mismatch=0.105),
        dataclasses.replace(row, status="gate_missed", cosine=None),
        dataclasses.replace(row, status="failed", cosine=None),
    )
    show_build(console, BuildResult("net", rows, (), "out", "report.html", {}, 1, 0))
    lines = [line for line in shown(capsys) if line.startswith(row.target)][:4]
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
    said = capsys.readouterr()
    text = said.out + said.err
    assert max(map(len, text.splitlines())) <= 80
    lines = {line.split()[0].rstrip(","): line for line in text.splitlines()[2:8]}
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
    text = " ".join(capsys.readouterr().out.split())
    assert "not on the target" in text
    assert "which is not raspberry-pi-5: no report counts it as that device's" in text
    show_results(console, (made_up.result("raspberry-pi-5", stands_for_target=True),))
    assert "not on the target" not in capsys.readouterr().out


def test_a_measurement(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    result = made_up.result()
    show_results(console, (result,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["target", "precision", "status", "p50", "p50", "95", "%", "p90", "p99", "samples/s"]
    assert lines[3].startswith(f"{result.target}  {result.precision}")
    assert ".." in lines[3]


def test_targets_lose_none_of_their_precisions(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    targets = list_targets()
    show_targets(console, targets)
    lines = shown(capsys)
    for target in targets:
        (line,) = [line for line in lines if line.split()[:1] == [target.id]]
        assert " ".join(target.compute.precisions) in line


def test_a_build_ends_with_what_to_take(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made_up.labelled_build()[1]
    show_build(console, BuildResult("net", rows, (), "out", None, {}, 1, 0))
    printed = " ".join(capsys.readouterr().err.split())
    assert "Take host-openvino int8: p90 2.36 ms, 1.86 times as fast as its fp32" in printed
    assert "Take fp32 there" not in printed
    slower = dataclasses.replace(rows[3], speedup_over_fp32=0.9, speedup_ci95=(0.85, 0.97))
    show_build(console, BuildResult("net", (*rows[:3], slower), (), "out", None, {}, 1, 0))
    printed = " ".join(capsys.readouterr().err.split())
    assert "host-onnxruntime: int8 is 1.11 times slower (1.03–1.18)" in printed  # noqa: RUF001
    assert "Take fp32 there, unless size matters more." in printed


def test_what_to_take_names_the_model_where_there_are_several(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sentences began with "Take host-openvino int8", and nobody could tell which model each was of."""
    rows = made_up.labelled_build()[1]
    slower = dataclasses.replace(rows[3], speedup_over_fp32=0.9, speedup_ci95=(0.85, 0.97))
    both = [
        dataclasses.replace(row, model=name, source_sha256=name[0] * 64)
        for name in ("first", "second")
        for row in (*rows[:3], slower)
    ]
    show_build(console, BuildResult("all", tuple(both), (), "out", None, {}, 1, 0))
    printed = " ".join(capsys.readouterr().err.split())
    for name in ("first", "second"):
        assert f"{name}: Take host-openvino int8" in printed
        assert f"{name}: host-onnxruntime: int8 is 1.11 times slower" in printed


def test_rows_of_several_models_are_named_by_their_model(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tuple(
        BuildRow(
            "host", "int8", "failed" if number == 0 else "ok", "no", model=f"net{number}", notes={"accuracy": "none"}
        )
        for number in range(12)
    )
    show_build(console, BuildResult("all", rows, (), "out", None, {}, 1, 0))
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split()[:3] == ["model", "target", "precision"]
    assert "net0 host int8: no" in said.out
    words = " ".join(said.err.split())
    assert "net1 host int8, net2 host int8" in words
    assert "net8 host int8 and 3 more: accuracy: none" in words


def test_rows_of_several_metrics_name_their_own(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    figures = (Accuracy("top1", 40, 0.99, 0.97, 0.02, (0.0, 0.1)), Accuracy("mae", 40, 0.5, 0.5235, 0.0235, (0.0, 0.1)))
    rows = tuple(BuildRow("host", "int8", "ok", model=found.metric, accuracy=found) for found in figures)
    show_build(console, BuildResult("all", rows, (), "out", None, {}, 1, 0))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any("top1 97.00 %" in line and "+2.00 pt" in line for line in lines)
    assert any("mae 0.5235" in line and "+0.0235" in line and "%" not in line for line in lines)
    assert not any("points" in line for line in lines)


def planned(*rows: PlannedRow) -> BuildPreview:
    return BuildPreview("net", "net.onnx", "out", None, None, "auto", rows, ("edgepack", "build", "net.onnx"))


def test_a_plan_gives_each_reason_once_and_a_command_only_where_something_is_built(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = [PlannedRow("nano", p, "tensorrt", "failed", False, "b", "too old", 4) for p in ("fp32", "fp16")]
    built = PlannedRow("rpi5", "fp32", "onnxruntime", "build", False, "b")
    show_plan(console, planned(*refused, built))
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "nano fp32 fp16: too old"
    assert said.err.split() == ["build", "it:", "edgepack", "build", "net.onnx"]
    show_plan(console, planned(*refused))
    assert capsys.readouterr().err.split() == ["none", "of", "it", "can", "be", "built"]


def test_what_is_next_is_about_the_bundle_that_is_recommended(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [dataclasses.replace(row, bundle=f"{row.target}-{row.precision}") for row in made_up.labelled_build()[1]]
    rows = sorted((row for row in rows if row.status == "ok"), key=lambda row: row.precision, reverse=True)
    assert (rows[0].precision, rows[-1].precision) == ("int8", "fp32")
    show_build(console, BuildResult("net", tuple(rows), (), "out", None, {}, 1, 0))
    lines = capsys.readouterr().err.split("next:")[1].split("\n")
    assert [line.strip() for line in lines if line] == [
        "edgepack inspect host-openvino-int8",
        "edgepack run host-openvino-int8 --input FILE",
        "edgepack benchmark host-openvino-int8",
    ]


def test_a_remark_names_a_target_once_with_its_precisions(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [BuildRow(t, p, "ok", notes={"samples": "few"}) for t in ("rpi5", "n100") for p in ("fp32", "int8")]
    rows.append(BuildRow("other", "fp32", "ok"))
    show_build(console, BuildResult("net", tuple(rows), (), "out", None, {}, 1, 0))
    assert "rpi5 fp32 int8, n100 fp32 int8: samples: few" in capsys.readouterr().err


def test_whole_numbers_keep_all_their_digits(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {"ids": np.array([31337, 2**62]), "is": np.array([True]), "score": np.array([0.123456], np.float32)}
    show_outputs(PlainConsole(), SimpleNamespace(answer=None, outputs=outputs, top5=None, notes=()))
    cells = capsys.readouterr().out.split()
    assert {"31337", str(2**62), "1", "0.1235"} <= {*cells}
