"""What a build of many models would make; ``test_many.py`` looks at it before, during and after real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import GateError
from edgepack.execution.store import Store
from edgepack.pipeline import outlook as module
from edgepack.pipeline.matrix import Matrix, read_matrix
from edgepack.pipeline.outlook import outlook
from edgepack.specs.build import NOT_HERE

MODELS = """
[defaults]
targets = ["host-onnxruntime", "rpi5"]
precisions = ["fp32", "bf16"]
[[models]]
model = "a.onnx"
[[models]]
model = "b.onnx"
benchmark = false
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "models.toml").write_text(MODELS)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    return read_matrix([str(tmp_path / "models.toml")], {"out": str(tmp_path / "out")})


def test_where_rows_are_measured_and_why_not(matrix: Matrix, tmp_path: Path) -> None:
    found = outlook(matrix, Store(tmp_path / "store"))
    assert [(row.model, row.precision, row.status, row.latency) for row in found.rows if row.status == "build"] == [
        ("a", "fp32", "build", "measured here"),
        ("a", "fp32", "build", NOT_HERE),
        ("b", "fp32", "build", "not measured"),
        ("b", "fp32", "build", "not measured"),
    ]
    assert {row.status for row in found.rows} == {"build", "skipped"}
    assert all("does not offer bf16" in str(row.reason) for row in found.rows if row.status == "skipped")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "models.toml"]


def test_a_board_that_rows_may_be_measured_on_is_named(matrix: Matrix, tmp_path: Path) -> None:
    path = str(tmp_path / "models.toml")
    found = outlook(read_matrix([path], {"measure_on": ("me@board",)}), Store(tmp_path / "store"))
    assert [(row.target, row.latency) for row in found.rows if row.model == "a"] == [
        ("host-onnxruntime", "measured here"),
        ("host-onnxruntime", "not measured"),  # it does not offer bf16
        ("raspberry-pi-5", "measured where it is the device, on me@board"),
        ("raspberry-pi-5", "not measured"),
    ]


def test_a_row_that_fails_is_not_measured(matrix: Matrix, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").unlink()
    found = outlook(matrix, Store(tmp_path / "store"))
    assert {row.latency for row in found.rows if row.status == "failed"} == {"not measured"}


def test_the_time_is_that_of_earlier_builds(matrix: Matrix, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "durations.json").write_text('{"a host-onnxruntime fp32": 10.0, "x raspberry-pi-5 fp32": 20.0}')
    found = outlook(matrix, Store(tmp_path / "store"))
    assert [row.expected_s for row in found.rows if row.status == "build"] == [10.0, 15.0, 15.0, 15.0]
    assert found.expected_s == 55.0


def test_an_error_that_stored_outputs_end_with_is_known_before(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misses(*_: Any) -> Any:
        raise GateError("int8 drops top1", hint="allow more")

    monkeypatch.setattr(module, "prepare_original", misses)
    found = outlook(matrix, Store(tmp_path / "store"))
    assert found.rows[0].reason == "int8 drops top1 (allow more)"
    assert (found.rows[0].status, found.exit_code) == ("failed", 5)
