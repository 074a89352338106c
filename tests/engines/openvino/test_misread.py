"""What OpenVINO would compute wrongly is named, and still is wrong: else the refusal can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from backend_models import FLOAT, make, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.openvino.engine import check, compile_model, load_model
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("test", "test", "openvino", "x86_64")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip


def reduction(operator: str, opset: int, axes: list[int] | None) -> onnx.ModelProto:
    attributes = {} if axes is None or opset >= 18 else {"axes": axes}
    stored = {"a": np.array(axes)} if axes is not None and opset >= 18 else {}
    node = helper.make_node(operator, ["x", *stored], ["y"], operator, **attributes)
    shape = [1, 1, 1] if axes is None else [1 if i in (a % 3 for a in axes) else e for i, e in enumerate(X.shape)]
    return make([node], [("x", FLOAT, X.shape)], [("y", FLOAT, shape)], stored, opset=opset)


def shift(direction: str, kind: int) -> onnx.ModelProto:
    node = helper.make_node("BitShift", ["x", "k"], ["y"], "shift", direction=direction)
    return make([node], [("x", kind, [4])], [("y", kind, [4])], {"k": np.array([6], np.uint8)}, opset=13)


def is_right(proto: onnx.ModelProto, x: Any, tmp_path: Path) -> bool:
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    found = np.array(runner.infer({"x": x})["y"])
    runner.close()
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=1e-5))


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_reductions_that_are_wrong_are_named_and_no_others(
    operator: str, axes: list[int] | None, opset: int, tmp_path: Path
) -> None:
    proto = reduction(operator, opset, axes)
    found = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert (not found) == is_right(proto, X, tmp_path)
    if found:
        assert [(d.severity, d.node) for d in found] == [("error", operator)]
        assert "opset 18" in str(found[0].hint)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bits_that_are_shifted_out(direction: str, tmp_path: Path) -> None:
    proto = shift(direction, TensorProto.UINT8)
    found = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert (not found) == is_right(proto, np.array([1, 2, 3, 200], np.uint8), tmp_path)
    assert bool(found) == (direction == "LEFT")


def test_they_are_found_in_branches(tmp_path: Path) -> None:
    inner = reduction("ReduceL1", 17, [1]).graph
    del inner.input[:]
    branches = {"then_branch": inner, "else_branch": inner}
    node = helper.make_node("If", ["c"], ["z"], "if", **branches)
    inputs = [("x", FLOAT, X.shape), ("c", TensorProto.BOOL, [])]
    model = save(make([node], inputs, [("z", FLOAT, [2, 1, 4])]), tmp_path / "m.onnx")
    assert {d.node for d in check(model, CPU)} == {"ReduceL1"}
