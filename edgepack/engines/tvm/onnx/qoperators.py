"""Writes QLinearConv and its like as dequantize, compute, quantize: the form that TVM reads.

Operators are those of ONNX and of ONNX Runtime's domain com.microsoft (docs/ContribOperators.md there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.onnx.edit import Rewriter, attributes_of, optional

if TYPE_CHECKING:
    import onnx

_PAIRS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
# One quantized input, then the output's scale and zero point.
_SINGLE = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearSoftmax": "Softmax",
}
EXPANDED = frozenset({*_PAIRS, *_SINGLE, "QLinearConv", "QLinearMatMul", "QLinearConcat", "QGemm"})
# Attributes that only the quantized form has.
_DROPPED = ("channels_last", "opset")


def expand_qoperators(proto: onnx.ModelProto) -> bool:
    """Replace the QOperator forms of the main graph; say whether there were any."""
    if not any(node.op_type in EXPANDED for node in proto.graph.node):
        return False
    rewriter = Rewriter(proto.graph)
    for node in proto.graph.node:
        if node.op_type not in EXPANDED or attributes_of(node).get("channels_last"):
            rewriter.keep(node)
        else:
            _expand(rewriter, node)
    rewriter.finish()
    return True


def _expand(rewriter: Rewriter, node: onnx.NodeProto) -> None:
    kind, inputs = node.op_type, list(node.input)
    attributes = {key: value for key, value in attributes_of(node).items() if key not in _DROPPED}
    if kind == "QLinearConv":
        x = _dequantize(rewriter, inputs[:3])
        w = _dequantize(rewriter, inputs[3:6], axis=0)
        bias = [_bias(rewriter, inputs[8], inputs[1], inputs[4])] if optional(node, 8) else []
        _quantized(rewriter, node, "Conv", [x, w, *bias], attributes, inputs[6], inputs[7])
    elif kind == "QLinearMatMul":
        a, b = _dequantize(rewriter, inputs[:3], axis=0), _dequantize(rewriter, inputs[3:6], axis=-1)
        _quantized(rewriter, node, "MatMul", [a, b], attributes, inputs[6], inputs[7])
    elif kind == "QGemm":
        axis = 0 if attributes.get("transB") else 1
        a, b = _dequantize(rewriter, inputs[:3]), _dequantize(rewriter, inputs[3:6], axis=axis)
        bias = [_bias(rewriter, inputs[6], inputs[1], inputs[4])] if optional(node, 6) else []
        _quantized(rewriter, node, "Gemm", [a, b, *bias], attributes, optional(node, 7), optional(node, 8))
    elif kind == "QLinearConcat":
        parts = [_dequantize(rewriter, inputs[i : i + 3]) for i in range(2, len(inputs), 3)]
        _quantized(rewriter, node, "Concat", parts, attributes, inputs[0], inputs[1])
    elif kind in _PAIRS:
        a, b = _dequantize(rewriter, inputs[:3]), _dequantize(rewriter, inputs[3:6])
        _quantized(rewriter, node, _PAIRS[kind], [a, b], attributes, inputs[6], optional(node, 7))
    else:
        x = _dequantize(rewriter, inputs[:3])
        _quantized(rewriter, node, _SINGLE[kind], [x], attributes, inputs[3], optional(node, 4))


def _dequantize(rewriter: Rewriter, inputs: list[str], axis: int | None = None) -> str:
    """Add a DequantizeLinear of (tensor, scale, zero point); ``axis`` counts only for a scale with several values."""
    name, scale, zero = (*inputs, "")[:3]
    value = rewriter.value(scale)
    per_channel = axis is not None and value is not None and value.size > 1
    given = [name, scale, zero] if zero else [name, scale]
    return rewriter.add("DequantizeLinear", given, f"{name}.float", {"axis": axis if per_channel else None})


def _bias(rewriter: Rewriter, bias: str, x_scale: str, w_scale: str) -> str:
    """Return the bias as float; its scale is by definition the product of those of input and weights."""
    x, w = rewriter.value(x_scale), rewriter.value(w_scale)
    if x is None or w is None:
        scale = rewriter.add("Mul", [x_scale, w_scale], f"{bias}.scale")
        number = rewriter.add("Cast", [bias], f"{bias}.number", {"to": 1})
        return rewriter.add("Mul", [number, scale], f"{bias}.float")
    product = np.asarray(x.reshape(-1)[0] * w, np.float32)
    scale = rewriter.constant(product if product.size > 1 else product.reshape(()), f"{bias}.scale")
    return _dequantize(rewriter, [bias, scale], axis=0)


def _quantized(
    rewriter: Rewriter,
    node: onnx.NodeProto,
    operator: str,
    inputs: list[str],
    attributes: dict[str, Any],
    scale: str,
    zero: str,
) -> None:
    """Add the float operator under the node's name, and quantize its result; without a scale the result is float."""
    outputs = [str(node.output[0])] if not scale else f"{node.output[0]}.float"
    result = rewriter.add(operator, inputs, outputs, attributes)
    rewriter.nodes[-1].name = node.name
    if scale:
        rewriter.add("QuantizeLinear", [result, scale, zero] if zero else [result, scale], [str(node.output[0])])
