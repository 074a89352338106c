"""New nodes under names that nothing has."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper

from edgepack.engines.tvm.onnx.edit import Rewriter, attributes_of, optional


@pytest.fixture
def graph() -> onnx.GraphProto:
    return onnx.parser.parse_graph(
        """net (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
            a = Add(x, w)
            y = If (c) <then_branch = one () => (float[2] inner) { inner = Identity(a) },
                        else_branch = two () => (float[2] other) { other = Neg(a) }>
        }"""
    )


@pytest.mark.parametrize(
    ("wish", "name"), [("new", "new"), ("x", "x_1"), ("w", "w_1"), ("inner", "inner_1"), ("a", "a_1")]
)
def test_names_of_inputs_weights_nodes_and_bodies_are_taken(graph: onnx.GraphProto, wish: str, name: str) -> None:
    rewriter = Rewriter(graph)
    assert rewriter.free(wish) == name
    assert rewriter.free(wish) != name


def test_nodes_are_collected_and_written_at_the_end(graph: onnx.GraphProto) -> None:
    rewriter = Rewriter(graph)
    rewriter.keep(graph.node[0])
    b = rewriter.add("Relu", ["a"], "a")
    rewriter.add("LeakyRelu", [b], ["y"], {"alpha": 0.5, "left_out": None})
    assert len(graph.node) == 2
    rewriter.finish()
    assert [(node.op_type, list(node.output)) for node in graph.node] == [
        ("Add", ["a"]),
        ("Relu", ["a_1"]),
        ("LeakyRelu", ["y"]),
    ]
    assert attributes_of(graph.node[2]) == {"alpha": 0.5}
    names = [node.name for node in graph.node[1:]]
    assert len(set(names)) == 2
    assert all(names)


def test_constants_are_stored_and_read(graph: onnx.GraphProto) -> None:
    rewriter = Rewriter(graph)
    name = rewriter.constant(np.float32([3, 4]), "w")
    assert name == "w_1"
    np.testing.assert_array_equal(rewriter.value(name), [3, 4])
    np.testing.assert_array_equal(rewriter.value("w"), [1, 2])
    assert rewriter.value("x") is None
    assert [tensor.name for tensor in graph.initializer] == ["w", "w_1"]


def test_an_input_that_is_left_out_is_empty() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    assert [optional(node, index) for index in range(4)] == ["x", "", "high", ""]
