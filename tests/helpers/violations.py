"""Ten models that TensorRT refuses, each for one reason, and sound ones beside them; made in code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

FLOAT, UINT8, INT8, INT64, DOUBLE = (
    TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT64, TensorProto.DOUBLE,
)  # fmt: skip


def make(
    nodes: Sequence[Any],
    weights: Mapping[str, Any] | None = None,
    inputs: Sequence[tuple[str, int, Sequence[int | str]]] = (("x", FLOAT, (1, 3, 8, 8)),),
    outputs: Sequence[tuple[str, int, Sequence[int | str] | None]] = (("y", FLOAT, None),),
    opset: int = 17,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "violation",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def quantized(
    zero: int = 0, kind: type[np.integer[Any]] = np.int8, weight_kind: type[np.integer[Any]] = np.int8,
    bias: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """A convolution with Q/DQ as TensorRT wants it, unless told otherwise."""
    random = np.random.default_rng(0)
    weights = {
        "xs": np.float32(0.02),
        "xz": kind(zero),
        "w": random.integers(0, 100, (4, 3, 3, 3)).astype(weight_kind),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, weight_kind),
        "b": np.ones(4, np.int32),
        "bs": np.full(4, 0.0002, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quantize_x"),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dequantize_x"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "dequantize_w", axis=0),
        *([helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], "dequantize_b", axis=0)] if bias else []),
        helper.make_node("Conv", ["xd", "wd", *(["bd"] if bias else [])], ["y"], "conv"),
    ]
    if not bias:
        del weights["b"], weights["bs"]
    return make(nodes, weights)


def resize(**attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], "resize", **attributes)
    return make([node], {"s": np.float32([1, 1, 0.5, 0.5])}, opset=18)


def lstm(layout: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(1, 16, 8)).astype(np.float32),
        "r": random.normal(size=(1, 16, 4)).astype(np.float32),
    }
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], "lstm", hidden_size=4, layout=layout)
    return make([node], weights, inputs=[("x", FLOAT, (5, 2, 8))])


def pool_indices() -> onnx.ModelProto:
    pool = helper.make_node("MaxPool", ["x"], ["p", "i"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    cast = helper.make_node("Cast", ["i"], ["f"], "cast", to=FLOAT)
    return make([pool, cast, helper.make_node("Add", ["p", "f"], ["y"], "add")])


def loop_of_sequences() -> onnx.ModelProto:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], "split", axis=1),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], "concat", axis=1),
    ]
    return make(nodes)


# name -> (model, the node that is to blame, words of the message)
VIOLATIONS: Mapping[str, tuple[Any, str | None, str]] = {
    "unknown-operator": (
        lambda: make([helper.make_node("Det", ["x"], ["y"], "determinant")]), "determinant", "no Det",
    ),
    "custom-domain": (
        lambda: make(
            [helper.make_node("QuickGelu", ["x"], ["y"], "mine", domain="com.microsoft")], domains=["com.microsoft"]
        ),
        "mine", "not a standard operator",
    ),
    "zero-point": (lambda: quantized(zero=3), "quantize_x", "zero point that is not zero"),
    "uint8-activation": (lambda: quantized(zero=128, kind=np.uint8), "quantize_x", "uint8"),
    "uint8-weight": (lambda: quantized(weight_kind=np.uint8), "dequantize_w", "uint8"),
    "int32-bias": (lambda: quantized(bias=True), "dequantize_b", "int32"),
    "antialias": (lambda: resize(mode="linear", antialias=1), "resize", "antialias"),
    "pool-indices": (pool_indices, "pool", "indices"),
    "sequence": (loop_of_sequences, "split", "no SplitToSequence"),
    "int16": (
        lambda: make(
            [
                helper.make_node("Cast", ["x"], ["h"], "to_int16", to=TensorProto.INT16),
                helper.make_node("Cast", ["h"], ["y"], "back", to=FLOAT),
            ]
        ),
        "to_int16", "int16",
    ),
}  # fmt: skip
