"""The node for which a graph is refused is found by trying each kind of node alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest

from edgepack.engines.tvm.culprit import find_culprit

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT = onnx.TensorProto.FLOAT
TYPES = dict.fromkeys("xabcy", FLOAT)
SHAPES: Mapping[str, tuple[int | str, ...]] = dict.fromkeys("xabcy", ("N", 2))


@pytest.fixture
def proto() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,2] x) => (float[N,2] y) <float[2] w = {1, 2}> {
            a = Relu(x)
            b = Relu(a)
            c = Mul(b, w)
            y = LeakyRelu<alpha = 0.5>(c)
        }"""
    )


def refuses(*operators: str) -> tuple[Callable[[onnx.ModelProto], object], list[onnx.ModelProto]]:
    """Return an attempt that refuses these operators, and the list of all that it is given."""
    given: list[onnx.ModelProto] = []

    def attempt(alone: onnx.ModelProto) -> None:
        given.append(alone)
        if alone.graph.node[0].op_type in operators:
            raise ValueError(f"no {alone.graph.node[0].op_type}")

    return attempt, given


def found(proto: onnx.ModelProto, attempt: Any, **changes: Any) -> Any:
    return find_culprit(proto, changes.pop("types", TYPES), changes.pop("shapes", SHAPES), attempt, **changes)


def test_the_first_node_that_is_refused_alone_is_named(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].name = "product"
    attempt, _ = refuses("Mul", "LeakyRelu")
    name, operator, error = found(proto, attempt)
    assert (operator, str(error)) == ("Mul", "no Mul")
    assert "product" in name


def test_none_is_named_where_each_node_is_taken(proto: onnx.ModelProto) -> None:
    attempt, given = refuses()
    assert found(proto, attempt) is None
    assert [alone.graph.node[0].op_type for alone in given] == ["Relu", "Mul", "LeakyRelu"]  # a kind once


def test_nodes_of_other_attributes_or_shapes_are_other_kinds(proto: onnx.ModelProto) -> None:
    attempt, given = refuses()
    found(proto, attempt, shapes={**SHAPES, "a": ("N", 2, 1)})
    assert [alone.graph.node[0].op_type for alone in given].count("Relu") == 2
    given.clear()
    proto.graph.node[1].CopyFrom(onnx.helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.25))
    found(proto, attempt)
    assert [alone.graph.node[0].op_type for alone in given].count("LeakyRelu") == 2


def test_what_is_tried_is_a_whole_model_with_its_weights(proto: onnx.ModelProto) -> None:
    attempt, given = refuses()
    found(proto, attempt)
    for alone in given:
        onnx.checker.check_model(alone, full_check=True)
    product = given[1].graph
    assert [item.name for item in product.input] == ["b"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(product.initializer[0]), [1, 2])


@pytest.mark.parametrize("unknown", ["types", "shapes"])
def test_a_node_of_unknown_inputs_is_passed_over(proto: onnx.ModelProto, unknown: str) -> None:
    attempt, _ = refuses("Mul", "LeakyRelu")
    known = {"types": TYPES, "shapes": SHAPES}[unknown]
    (_, operator, _) = found(proto, attempt, **{unknown: {name: known[name] for name in known if name != "b"}})
    assert operator == "LeakyRelu"


def test_nothing_is_tried_once_the_time_is_over(proto: onnx.ModelProto) -> None:
    attempt, given = refuses("Relu")
    assert found(proto, attempt, most_s=-1.0) is None
    assert given == []
