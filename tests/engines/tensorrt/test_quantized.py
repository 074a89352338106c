"""What TensorRT does not take of Q/DQ is named at the node that has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from violations import make

from edgepack.engines.tensorrt.graph_view import read_view
from edgepack.engines.tensorrt.quantized import check_quantization

Save = Any
SCALE = np.float32(0.1)


def pair(zero: Any, scale: Any = SCALE, **attributes: int) -> Any:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize", **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantize", **attributes),
    ]
    return make(nodes, {"s": np.asarray(scale, np.float32), "z": zero})


def found(model: Any) -> list[tuple[str | None, str]]:
    diagnostics = list(check_quantization(read_view(model)))
    assert {d.severity for d in diagnostics} <= {"error"}
    assert all(d.hint for d in diagnostics)
    return [(d.node, d.message) for d in diagnostics]


def test_symmetric_int8_is_taken(save: Save) -> None:
    assert found(save(pair(np.int8(0)))) == []


def test_uint8_is_refused_at_both_nodes(save: Save) -> None:
    assert found(save(pair(np.uint8(0)))) == [
        ("quantize", "'x' is quantized to uint8"),
        ("dequantize", "'q' is quantized to uint8"),
    ]


def test_no_zero_point_means_uint8(save: Save) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "quantize")
    model = make([node], {"s": SCALE}, outputs=[("q", TensorProto.UINT8, (1, 3, 8, 8))])
    assert found(save(model)) == [("quantize", "'x' is quantized to uint8")]


def test_a_zero_point_that_is_not_zero_is_said(save: Save) -> None:
    (first, second) = found(save(pair(np.int8(-3))))
    assert first == ("quantize", "'x' has a zero point that is not zero: -3")
    assert second[0] == "dequantize"


def test_a_bias_of_int32_is_refused(save: Save) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "s"], ["bias"], "dequantize"),
        helper.make_node("Add", ["x", "bias"], ["y"]),
    ]
    ((node, message),) = found(save(make(nodes, {"b": np.array([1], np.int32), "s": SCALE})))
    assert node == "dequantize"
    assert "reads int32" in message


@pytest.mark.parametrize(("count", "said"), [(3, 1), (1, 0)])
def test_a_scale_for_each_channel_of_an_activation_is_said_once(save: Save, count: int, said: int) -> None:
    model = save(pair(np.zeros(count, np.int8), np.full(count, 0.1), axis=1))
    assert [node for node, message in found(model) if "a scale for each channel" in message] == ["quantize"] * said


def test_weights_may_have_one(save: Save) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], axis=0),
        helper.make_node("Mul", ["x", "v"], ["y"]),
    ]
    constants = {"w": np.ones((3, 1, 1), np.int8), "s": np.full(3, 0.1, np.float32), "z": np.zeros(3, np.int8)}
    assert found(save(make(nodes, constants))) == []


def test_what_is_computed_in_the_graph_is_refused(save: Save) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["z"], to=TensorProto.INT8),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], "quantize"),
    ]
    model = make(nodes, {}, outputs=[("y", TensorProto.INT8, (1, 3, 8, 8))])
    assert [message for _, message in found(save(model))] == [
        "the zero point of 'x' is computed",
        "the scale 's' is computed in the graph",
    ]


def test_nodes_of_another_domain_are_not_these(save: Save) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], domain="com.microsoft")
    model = make([node], {"s": SCALE}, domains=("com.microsoft",))
    assert found(save(model)) == []
