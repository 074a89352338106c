"""New names are beside every name of a graph."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from edgepack.quantize.graph.names import Names


def value(name: str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def graph() -> object:
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["inner"], name="minus")], "then", [], [value("inner")])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["other"])], "else", [], [value("other")])
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    return helper.make_graph([node], "g", [value("x"), value("c")], [value("y")], [weight])


@pytest.mark.parametrize("taken", ["x", "c", "y", "w", "choice", "inner", "other", "minus"])
def test_a_taken_name_gets_a_number(taken: str) -> None:
    assert Names(graph()).new(taken) == f"{taken}_1"


def test_a_free_name_is_taken_as_wished_and_from_then_on_taken() -> None:
    names = Names(graph())
    assert [names.new("z") for _ in range(3)] == ["z", "z_1", "z_2"]


def test_a_name_that_ends_like_a_numbered_one_is_passed_over() -> None:
    names = Names(graph())
    assert names.new("x_1") == "x_1"
    assert names.new("x") == "x_2"
