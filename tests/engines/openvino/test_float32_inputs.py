"""Which inputs reach an operator that computes whole numbers in float32; and that the others are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from backend_models import BOOL, FLOAT, INT64, make, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.engines.openvino.engine import compile_model, load_model
from edgepack.engines.openvino.float32_inputs import float32_inputs
from edgepack.errors import DataError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

CPU = Target("test", "test", "openvino", "x86_64")
INT32 = TensorProto.INT32
node = helper.make_node
X = np.random.default_rng(3).integers(-(2**31) + 9, 2**31 - 9, 40)


def one(operator: str, kind: int, *, result: int | None = None, size: int | str = "M") -> onnx.ModelProto:
    """Return a model of one operator of one or two inputs."""
    names = ["x"] if operator in ("Abs", "ArgMax", "BitwiseNot", "Identity", "Neg", "Relu", "Sign") else ["x", "z"]
    inputs = [(name, kind, ["N"]) for name in names]
    return make([node(operator, names, ["y"])], inputs, [("y", result or kind, [size])], opset=18)


@pytest.mark.parametrize("operator", ["Div", "Equal", "Less", "Mod", "ReduceMax", "Relu", "MatMul"])
def test_what_reaches_float32_is_found(operator: str) -> None:
    assert "x" in set(float32_inputs(one(operator, INT64)))


@pytest.mark.parametrize("operator", ["Abs", "Add", "ArgMax", "Identity", "Max", "Mul", "Sub"])
def test_what_does_not_is_not(operator: str) -> None:
    assert set(float32_inputs(one(operator, INT64))) == set()


def test_it_is_followed_through_what_hands_values_on_and_into_bodies() -> None:
    branch = helper.make_graph([node("Less", ["inner", "inner"], ["less"])], "b", [], [_info("less", BOOL)])
    nodes = [
        node("Reshape", ["x", "shape"], ["flat"]),
        node("Identity", ["z"], ["same"]),
        node("Cast", ["same"], ["real"], to=FLOAT),
        node("Add", ["flat", "flat"], ["inner"]),
        node("If", ["chosen"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inputs = [("x", INT64, ["N"]), ("z", INT64, ["N"]), ("chosen", BOOL, [])]
    proto = make(nodes, inputs, [("y", BOOL, ["N"]), ("real", FLOAT, ["N"])], {"shape": np.array([-1])})
    assert list(float32_inputs(proto)) == ["x"]


@pytest.mark.slow
def test_what_is_computed_in_float64_is_found_and_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")
    nodes = [
        node("Cast", ["x"], ["seconds"], to=TensorProto.DOUBLE),
        node("Sub", ["seconds", "start"], ["since"]),
        node("Cast", ["since"], ["y"], to=FLOAT),
    ]
    proto = make(nodes, [("x", INT64, ["N"])], [("y", FLOAT, ["N"])], {"start": np.array([1.7e9])})
    assert list(float32_inputs(proto)) == ["x"]
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    with pytest.raises(DataError, match="holds 1700000077, and OpenVINO computes its int64 in float32"):
        runner.infer({"x": np.array([1_700_000_077])})
    runner.close()


def test_indices_of_a_table_are_not_computed_with() -> None:
    nodes = [node("Gather", ["table", "x"], ["rows"]), node("ReduceMax", ["rows"], ["y"])]
    weights = {"table": np.zeros((9, 3), np.float32)}
    proto = make(nodes, [("x", INT64, ["N"])], [("y", FLOAT, [1, 1])], weights)
    assert set(float32_inputs(proto)) == set()


def _info(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N"])


SECOND: dict[str, Array] = {"Mul": np.full(40, 3), "Add": np.full(40, 7), "Sub": np.full(40, 7)}
FIRST: dict[str, Array] = {"Mul": X // 4, "Add": X // 2, "Sub": X // 2}
EXACT = ("Abs", "Add", "ArgMax", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Identity", "Max", "Min", "Mul",
         "Neg", "Sign", "Sub")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [INT64, INT32])
@pytest.mark.parametrize("operator", EXACT)
def test_operators_called_exact_are(operator: str, kind: int, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    proto = one(operator, kind, result=INT64 if operator == "ArgMax" else None)
    feeds = {"x": FIRST.get(operator, X).astype(dtype), "z": SECOND.get(operator, X + 1).astype(dtype)}
    feeds = {value.name: feeds[value.name] for value in proto.graph.input}
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    np.testing.assert_array_equal(runner.infer(feeds)["y"], ReferenceEvaluator(proto).run(None, feeds)[0])
    runner.close()
