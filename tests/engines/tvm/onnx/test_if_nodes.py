"""Branches of If become part of the main graph: the one that a constant condition takes, else both."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines.tvm.onnx.if_nodes import merge_branches


def branch(operator: str, name: str) -> onnx.GraphProto:
    """Return a graph that reads ``x`` of the main graph."""
    node = helper.make_node(operator, ["x"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])])


def conditional(condition: bool | None) -> onnx.ModelProto:
    """Return a model that negates ``x`` where the condition holds and takes its square root else; None: an input."""
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, [3])]
    weights = []
    if condition is None:
        inputs.append(value("c", TensorProto.BOOL, []))
    else:
        weights.append(numpy_helper.from_array(np.array(condition), "c"))
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch("Neg", "a"), else_branch=branch("Sqrt", "b"))
    graph = helper.make_graph([node], "graph", inputs, [value("y", TensorProto.FLOAT, [3])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_takes_its_branch_alone(condition: bool) -> None:
    proto = conditional(condition)
    assert merge_branches(proto)
    onnx.checker.check_model(proto)
    x = np.float32([1, 4, 9])
    np.testing.assert_array_equal(run(proto, {"x": x}), -x if condition else np.sqrt(x))
    assert {node.op_type for node in proto.graph.node} == {"Identity", "Neg" if condition else "Sqrt"}


@pytest.mark.parametrize("condition", [True, False])
def test_where_the_input_decides_both_are_computed_and_one_chosen(condition: bool) -> None:
    proto = conditional(None)
    assert merge_branches(proto)
    x = np.float32([1, 4, 9])
    np.testing.assert_array_equal(run(proto, {"x": x, "c": np.array(condition)}), -x if condition else np.sqrt(x))
    assert "If" not in {node.op_type for node in proto.graph.node}
