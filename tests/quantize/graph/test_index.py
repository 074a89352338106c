"""Who makes and who uses each tensor of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.quantize.graph.index import attribute, drop_attribute, index_graph, to_array

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4] x) => (float[N,4] y, float[N,4] seen)
    <float[1] one = {1}, float[4] four = {1, 2, 3, 4}> {
    seen = Relu(x)
    twice = Mul(seen, seen)
    y = Add(twice, four)
    unused = Add(twice, one)
}"""
# The branches of an If read "kept" of the graph around them.
INSIDE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[4] x, bool c) => (float[4] y) {
    kept = Relu(x)
    other = Neg(kept)
    y = If (c) <then_branch = one () => (float[4] a) { a = Identity(kept) },
                else_branch = two () => (float[4] b) { b = Exp(other) }>
}"""


def index(text: str = TEXT) -> Any:
    return index_graph(onnx.parser.parse_model(text))


def test_makers_and_users_are_known_by_place() -> None:
    found = index()
    assert found.producer == {"seen": 0, "twice": 1, "y": 2, "unused": 3}
    assert found.users("twice") == [2, 3]
    assert found.users("seen") == [1]  # a node that reads it twice is one user
    assert found.users("nobody") == []
    assert (found.inputs, found.outputs) == ({"x"}, {"y", "seen"})


@pytest.mark.parametrize(("tensor", "user"), [("x", 0), ("twice", None), ("seen", None), ("nobody", None)])
def test_the_sole_user_is_one_of_a_tensor_that_stays_inside(tensor: str, user: int | None) -> None:
    assert index().sole_user(tensor) == user


@pytest.mark.parametrize(("tensor", "value"), [("one", 1.0), ("four", None), ("x", None)])
def test_a_scalar_is_a_constant_of_one_element(tensor: str, value: float | None) -> None:
    assert index().scalar(tensor) == value


def test_constants_have_values() -> None:
    found = index()
    assert found.is_constant("four")
    assert not found.is_constant("twice")
    np.testing.assert_array_equal(found.constant("four"), np.array([1, 2, 3, 4], np.float32))


def test_an_initializer_that_is_listed_as_an_input_is_none() -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.input.append(helper.make_tensor_value_info("one", TensorProto.FLOAT, [1]))
    assert index_graph(proto).inputs == {"x"}


def test_what_bodies_of_control_flow_use_has_no_sole_user() -> None:
    found = index(INSIDE)
    assert {"kept", "other"} <= found.inner
    assert found.users("kept") == [1]
    assert found.sole_user("kept") is None


def test_attributes_are_read_and_dropped() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=[1, 1])
    assert (attribute(node, "group"), attribute(node, "pads")) == (2, [1, 1])
    assert attribute(node, "dilations", [1]) == [1]
    drop_attribute(node, "group")
    drop_attribute(node, "group")
    assert [item.name for item in node.attribute] == ["pads"]


def test_a_damaged_initializer_is_named() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.raw_data = b"\0" * 7
    with pytest.raises(ModelError, match="the initializer 'w' cannot be read"):
        to_array(tensor)
