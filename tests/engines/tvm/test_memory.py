"""What a model needs at least, counted by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines.tvm.import_onnx import tensor_shapes, tensor_types
from edgepack.engines.tvm.memory import Need, memory_need


def need(nodes: list[onnx.NodeProto], outputs: dict[str, list[int]], size: int = 256) -> Need:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "graph", [value("x", TensorProto.FLOAT, [size])],
        [value(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.ones(3, np.float32), "w")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(proto, full_check=True)
    return memory_need(proto, tensor_shapes(proto), tensor_types(proto))


def test_a_tensor_lives_until_the_last_node_that_reads_it() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "one"),
        helper.make_node("Neg", ["a"], ["b"], "two"),
        helper.make_node("Abs", ["b"], ["c"], "three"),
        helper.make_node("Add", ["a", "c"], ["y"], "four"),
    ]
    found = need(nodes, {"y": [256]})
    assert found == Need(3 * 4, 3 * 256 * 4, "three")  # a, b and c


def test_in_a_chain_two_tensors_are_alive_and_outputs_stay() -> None:
    nodes = [
        helper.make_node(op, [a], [b], op) for op, a, b in (("Relu", "x", "a"), ("Neg", "a", "b"), ("Abs", "b", "y"))
    ]
    assert need(nodes, {"y": [256]}) == Need(12, 2 * 256 * 4, "Relu")
    assert need(nodes, {"a": [256], "y": [256]}) == Need(12, 3 * 256 * 4, "Abs")
