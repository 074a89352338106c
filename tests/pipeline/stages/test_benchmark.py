"""Which rows are measured on this host, and what becomes of a failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess

from edgepack.benchmark.measure.interleave import Row
from edgepack.errors import ChildError
from edgepack.pipeline.stages import benchmark
from edgepack.pipeline.stages.benchmark import Measured, measure_bundles, measure_rows_here
from edgepack.specs.build import BuildRow
from edgepack.specs.target import Target

HERE, BOARD = (Target(name, name, "onnxruntime", "x86_64") for name in ("here", "board"))
BUILT = BuildRow("here", "fp32", "ok", bundle="out/a.edgepack")


@pytest.fixture(autouse=True)
def this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "is_this_host", lambda target: target.id == "here")


def measure(tmp_path: Path, rows: tuple[BuildRow, ...], answer: Any) -> tuple[Measured, InProcess]:
    runner: Any = InProcess(tmp_path, measure_bundles=answer)
    return measure_rows_here(runner, (HERE, BOARD), rows, 0.25, 7), runner


def test_only_bundles_of_this_host_are_measured(tmp_path: Path) -> None:
    rows = (
        BUILT,
        dataclasses.replace(BUILT, precision="int8", bundle=None, status="failed"),
        dataclasses.replace(BUILT, target="board", bundle="out/b.edgepack"),
        dataclasses.replace(BUILT, precision="fp16", bundle="out/c.edgepack"),
    )
    asked: list[Any] = []
    found, runner = measure(tmp_path, rows, lambda *arguments: (asked.append(arguments), Measured())[1])
    assert found == Measured()
    names, bundles, duration_ns, seed = asked[0]
    assert names == ("here fp32", "here fp16")
    assert bundles == (Path("out/a.edgepack"), Path("out/c.edgepack"))
    assert (duration_ns, seed) == (250_000_000, 7)
    assert runner.ran == [("measure_bundles", "2 bundles in turn")]


def test_without_such_a_bundle_nothing_is_run(tmp_path: Path) -> None:
    found, runner = measure(tmp_path, (dataclasses.replace(BUILT, target="board"),), None)
    assert (found.rows, found.reason, runner.ran) == ({}, None, [])


def test_a_failure_is_a_reason(tmp_path: Path) -> None:
    def fail(*_: Any) -> Any:
        raise ChildError("the measuring process crashed", hint="x")

    found, _ = measure(tmp_path, (BUILT,), fail)
    assert found == Measured(reason="not measured: the measuring process crashed")


def test_measurements_have_the_names_of_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(Row(Path(name), None, "made up", None) for name in ("a", "b"))
    monkeypatch.setattr(benchmark, "measure_rows", lambda *_: rows)
    found = measure_bundles(("x fp32", "x int8"), (Path("a"), Path("b")), 1, 0, tmp_path)
    assert found.rows == {"x fp32": rows[0], "x int8": rows[1]}
