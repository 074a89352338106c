"""Equal values come out of OpenVINO in the order that ONNX says: the one with the lower index first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array

LENGTH, K = 40, 20
ZEROS = np.zeros((3, LENGTH), np.float32)
FEW = np.random.default_rng(0).integers(0, 3, (3, LENGTH)).astype(np.float32)


def value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def top(largest: int, *, sort: int = 1, name: str = "i") -> onnx.NodeProto:
    return helper.make_node("TopK", ["x", "k"], ["v", name], axis=1, largest=largest, sorted=sort)


def graph(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.array([K], np.int64), "k")])


def found(made: onnx.GraphProto, feeds: dict[str, Array], folder: Path) -> dict[str, Array]:
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    onnx.save(proto, folder / "m.onnx")
    engine = get_backend("openvino")
    compiled = engine.compile_model(load_model(folder / "m.onnx"), load_target("host-openvino"), "fp32", folder / "out")
    runner = engine.load_model(compiled, RunOptions(threads=1))
    return {name: np.array(array) for name, array in runner.infer(feeds).items()}


def order(x: Array, largest: int) -> Array:
    return np.argsort(-x if largest else x, axis=1, kind="stable")[:, :K]


@pytest.mark.parametrize("free", [True, False], ids=["free", "fixed"])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("x", [ZEROS, FEW], ids=["zeros", "few"])
def test_of_equal_values_the_first_come_first(tmp_path: Path, x: Array, largest: int, free: bool) -> None:
    batch: int | str = "N" if free else len(x)
    outputs = [value("v", TensorProto.FLOAT, [batch, K]), value("i", TensorProto.INT64, [batch, K])]
    answer = found(graph([top(largest)], [value("x", TensorProto.FLOAT, [batch, LENGTH])], outputs), {"x": x}, tmp_path)
    np.testing.assert_array_equal(answer["i"], order(x, largest))
    np.testing.assert_array_equal(answer["v"], np.take_along_axis(x, answer["i"], 1))


def test_what_is_not_sorted_is_chosen_as_onnx_says(tmp_path: Path) -> None:
    outputs = [value("i", TensorProto.INT64, [3, K])]
    made = graph([top(1, sort=0)], [value("x", TensorProto.FLOAT, [3, LENGTH])], outputs)
    np.testing.assert_array_equal(np.sort(found(made, {"x": FEW}, tmp_path)["i"]), np.sort(order(FEW, 1)))


def test_a_hardmax_takes_the_first_of_equal_values(tmp_path: Path) -> None:
    shape: list[int | str] = [3, LENGTH]
    nodes = [helper.make_node("Hardmax", ["x"], ["y"], axis=1)]
    made = graph(nodes, [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)])
    for x in (ZEROS, FEW):
        answer = found(made, {"x": x}, tmp_path)["y"]
        np.testing.assert_array_equal(answer, np.eye(LENGTH, dtype=np.float32)[x.argmax(1)])


def test_branches_keep_the_order_too(tmp_path: Path) -> None:
    branches = {}
    for name, largest in (("then_branch", 1), ("else_branch", 0)):
        inner = helper.make_graph([top(largest, name=name)], name, [], [value(name, TensorProto.INT64, [3, K])])
        branches[name] = inner
    made = graph(
        [helper.make_node("If", ["c"], ["i"], **branches)],
        [value("c", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, [3, LENGTH])],
        [value("i", TensorProto.INT64, [3, K])],
    )
    for case, largest in ((True, 1), (False, 0)):
        answer = found(made, {"c": np.array(case), "x": FEW}, tmp_path)["i"]
        np.testing.assert_array_equal(answer, order(FEW, largest))
