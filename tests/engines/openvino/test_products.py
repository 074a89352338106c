"""Products of 64-bit numbers, which OpenVINO cuts to 32 bits, are named; those of sizes are right and pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from backend_models import FLOAT, INT64, make, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.openvino.engine import check, compile_model, load_model
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("test", "test", "openvino", "x86_64")
X = np.array([[24, 3, 70_000], [40_000, 70_000, 5]], np.int64)
OPERATORS = ("ReduceProd", "ReduceSumSquare")


def product(operator: str, kind: int = INT64) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x", "axes"], ["y"], "product", keepdims=0)
    return make([node], [("x", kind, ["N", 3])], [("y", kind, ["N"])], {"axes": np.array([1])}, opset=18)


def answer(proto: onnx.ModelProto, x: np.ndarray, tmp_path: Path) -> np.ndarray:
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    found = np.array(runner.infer({"x": x})["y"])
    runner.close()
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_products_of_data_are_named_and_still_wrong(operator: str, tmp_path: Path) -> None:
    proto = product(operator)
    (found,) = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert (found.severity, found.node) == ("error", "product")
    assert f"{operator} of int64 in 32 bits" in found.message
    wanted = ReferenceEvaluator(proto).run(None, {"x": X})[0]
    assert not np.array_equal(answer(proto, X, tmp_path), wanted), "it is right now: the refusal can go"


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("kind", [FLOAT, TensorProto.INT32])
def test_products_of_other_numbers_pass(operator: str, kind: int, tmp_path: Path) -> None:
    assert check(save(product(operator, kind), tmp_path / "m.onnx"), CPU) == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_products_of_sizes_pass_and_are_right(operator: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["whole"], to=INT64),
        helper.make_node(operator, ["whole"], ["y"], "product", keepdims=0),
    ]
    proto = make(nodes, [("x", FLOAT, ["N", 3, 4])], [("y", INT64, [])], {}, opset=18)
    proto.graph.value_info.append(helper.make_tensor_value_info("whole", INT64, [3]))
    assert check(save(proto, tmp_path / "checked.onnx"), CPU) == []
    x = np.zeros((5, 3, 4), np.float32)
    assert answer(proto, x, tmp_path) == ReferenceEvaluator(proto).run(None, {"x": x})[0]


@pytest.mark.parametrize("operator", OPERATORS)
def test_products_of_what_was_computed_from_data_are_named(operator: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=INT64),
        helper.make_node(operator, ["whole", "axes"], ["y"], "product", keepdims=0),
    ]
    proto = make(nodes, [("x", FLOAT, ["N", 3])], [("y", INT64, ["N"])], {"axes": np.array([1])}, opset=18)
    assert {found.node for found in check(save(proto, tmp_path / "m.onnx"), CPU)} == {"product"}
