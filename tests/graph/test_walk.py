"""Every graph, node and tensor is met, wherever it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.walk import (
    all_graphs,
    all_nodes,
    all_tensors,
    describe_node,
    has_bodies,
    is_external,
    names_read,
    names_read_inside,
)


def tensor(name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(1, np.float32), name)


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), name, [], [out], [tensor(f"{name}_weight")])


@pytest.fixture
def model() -> Any:
    """An If in a branch of an If, one in a function, and tensors in every kind of attribute."""
    inner = helper.make_node("If", ["c"], ["i"], then_branch=branch("deep"), else_branch=branch("deeper"))
    outer = helper.make_node(
        "If",
        ["c"],
        ["y"],
        then_branch=branch("then", inner),
        else_branch=branch("else", helper.make_node("A", [], ["a"])),
    )
    constant = helper.make_node("Constant", [], ["k"], value=tensor("value"))
    sparse = helper.make_sparse_tensor(
        tensor("sparse_values"), numpy_helper.from_array(np.zeros(1, np.int64), "sparse_indices"), [4]
    )
    many = helper.make_node("Other", [], ["o"], domain="d", tensors=[tensor("one"), tensor("two")], sparse=sparse)
    graph = helper.make_graph(
        [outer, constant, many], "main", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], [tensor("main_weight")],
    )  # fmt: skip
    graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            tensor("stored_values"), numpy_helper.from_array(np.zeros(1, np.int64), "stored_indices"), [4]
        )
    )
    called = helper.make_node("If", ["p"], ["q"], then_branch=branch("called"), else_branch=branch("not_called"))
    function = helper.make_function("d", "f", ["p"], ["q"], [called], [helper.make_opsetid("", 17)])
    return helper.make_model(graph, functions=[function])


def test_graphs_come_from_outside_inwards(model: Any) -> None:
    names = [graph.name for graph in all_graphs(model.graph)]
    assert sorted(names) == ["deep", "deeper", "else", "main", "then"]
    assert names[0] == "main"
    assert names.index("then") < min(names.index("deep"), names.index("deeper"))


def test_nodes_are_those_of_bodies_and_functions_too(model: Any) -> None:
    assert sorted(node.op_type for node in all_nodes(model)) == ["A", "Constant", "If", "If", "If", "Other"]


def test_every_stored_tensor_is_met_once(model: Any) -> None:
    assert sorted(t.name for t in all_tensors(model)) == sorted(
        [
            *("main_weight", "then_weight", "else_weight", "deep_weight", "deeper_weight", "called_weight"),
            *("not_called_weight", "value", "one", "two", "sparse_values", "sparse_indices", "stored_values"),
            "stored_indices",
        ]
    )


def test_a_tensor_is_external_where_it_says_so() -> None:
    found = tensor("w")
    assert not is_external(found)
    found.data_location = TensorProto.EXTERNAL
    assert is_external(found)


@pytest.mark.parametrize(("name", "outputs", "shown"), [("n", ["y"], "n"), ("", ["", "z"], "z"), ("", [], "(unnamed)")])
def test_a_node_without_a_name_is_called_by_its_output(name: str, outputs: list[str], shown: str) -> None:
    assert describe_node(helper.make_node("Relu", ["x"], outputs, name=name)) == shown


def test_what_a_node_reads_is_its_own_and_that_of_all_graphs_inside(model: Any) -> None:
    outer, constant, _ = model.graph.node
    assert (has_bodies(outer), has_bodies(constant)) == (True, False)
    inside = ["c", "deep_out", "deeper_out", "then_out", "else_out"]
    assert sorted(names_read_inside(outer)) == sorted(inside)
    assert sorted(names_read(outer)) == sorted(["c", *inside])
    assert list(names_read(helper.make_node("Clip", ["x", "", "most"], ["y"]))) == ["x", "most"]
