"""What stages need, from their arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.pipeline.needs import needs_of
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions


def compiled(folder: Path, device: str = "CPU") -> CompiledModel:
    return CompiledModel("engine", "fp32", folder, "a", ("a", "b"), (), (), {}, device=device)


def test_memory_grows_with_the_largest_model(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    none = needs_of(("words", 3))
    onnx = OnnxModel(tmp_path / "a", "0" * 64, 70_000, 17, (), ())
    assert needs_of((onnx, 3, compiled(tmp_path))).memory_bytes == none.memory_bytes + 700_000
    assert needs_of((compiled(tmp_path),)).memory_bytes == none.memory_bytes + 50_000
    assert 100e6 < none.memory_bytes < 1e9


@pytest.mark.parametrize(
    ("device", "asked", "gpu"),
    [("CPU", None, False), ("GPU", None, True), ("GPU.1", None, True), ("GPU", "CPU", False), ("CPU", "GPU", True)],
)
def test_a_gpu_is_needed_where_a_model_is_run_on_one(tmp_path: Path, device: str, asked: str | None, gpu: bool) -> None:
    assert needs_of((compiled(tmp_path, device), RunOptions(device=asked))).gpu is gpu


def test_a_model_for_a_gpu_that_is_only_packed_needs_none_to_be_read(tmp_path: Path) -> None:
    assert needs_of((compiled(tmp_path, "GPU"),)).gpu is False
