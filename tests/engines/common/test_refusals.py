"""What to do about an engine's refusal follows from its cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.engines.common.refusals import opset_too_high, remedy, require_files
from edgepack.errors import CompileError
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import EngineFacts, Target

MODEL = OnnxModel(Path("m.onnx"), "0" * 64, 1, 17, (), ())


def target(max_opset: int | None) -> Target:
    return Target("board", "Board", "engine", "aarch64", engine=EngineFacts(max_opset=max_opset))


@pytest.mark.parametrize(
    ("stated", "known", "limit"),
    [(None, None, None), (17, None, None), (16, None, 16), (None, 16, 16), (16, 15, 15), (15, 18, 15), (18, 17, None)],
)
def test_the_lower_of_both_limits_counts(stated: int | None, known: int | None, limit: int | None) -> None:
    found = opset_too_high("Engine", MODEL, target(stated), known, " or so")
    if limit is None:
        assert found == []
    else:
        (only,) = found
        assert only.severity == "error"
        assert only.message == f"the model uses opset 17; Engine on board knows opsets up to {limit}"
        assert only.hint == f"export the model with opset {limit} or lower or so"


def test_the_first_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "folder").mkdir()
    require_files(tmp_path, "a")
    for name in ("b", "folder"):
        with pytest.raises(CompileError, match=f"{name} is missing from the compiled model"):
            require_files(tmp_path, "a", name, "c")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_too_little_memory_is_not_blamed_on_an_operator(error: BaseException) -> None:
    assert "not enough memory" in remedy(error, "replace the operator")


def test_other_causes_keep_their_remedy() -> None:
    assert remedy(RuntimeError("Node x: no kernel"), "replace the operator") == "replace the operator"
