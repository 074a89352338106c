"""What TensorRT's parser takes of Q/DQ only in part.

Its refusals as tensorrt-rtx 1.7.1 words them: "Non-zero zero point is not supported", "input has type Int32 but must
have type FP8, FP4, Int4, Int8, or UInt8", "Found unsupported input type of UINT8".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.tensorrt.graph_view import attribute
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.engines.tensorrt.graph_view import GraphView

_INT8, _INT32, _UINT8 = 3, 6, 2  # of onnx.proto
_LINEAR = ("QuantizeLinear", "DequantizeLinear")
_SYMMETRIC = "quantize symmetrically to int8: give edgepack the fp32 model, it follows TensorRT's rules"


def check_quantization(view: GraphView) -> Iterator[Diagnostic]:
    """Yield what explicit quantization does not take: uint8, int32 biases, zero points, scales per channel of data."""
    for node in view.nodes:
        if node.op_type not in _LINEAR or node.domain not in ("", "ai.onnx"):
            continue
        kind = _quantized_type(view, node)
        if kind == _INT32:
            yield Diagnostic(
                "error",
                f"the DequantizeLinear of {node.input[0]!r} reads int32; TensorRT takes biases in float only",
                node.name,
                "quantize without biases (quantize_bias = false in the profile's [quantization])",
            )
        elif kind == _UINT8:
            yield Diagnostic("error", f"{node.input[0]!r} is quantized to uint8", node.name, _SYMMETRIC)
        elif kind not in (None, _INT8):
            yield Diagnostic(
                "error", f"{node.input[0]!r} is quantized to {view.type_name(kind or 0)}", node.name, _SYMMETRIC
            )
        yield from _check_zero_point(view, node)
        if len(node.input) > 1 and not view.is_constant(node.input[1]):
            yield Diagnostic(
                "error", f"the scale {node.input[1]!r} is computed in the graph", node.name, "quantize statically"
            )
        weights = view.is_constant(node.input[0])
        if len(node.input) > 1 and not weights and view.ranks.get(node.input[1], 0) > 0 and _elements(view, node) > 1:
            made = next((n for n in view.nodes if node.input[0] in n.output), None)
            if node.op_type == "QuantizeLinear" or made is None or made.op_type != "QuantizeLinear":
                yield Diagnostic(
                    "error",
                    f"{node.input[0]!r} is an activation with a scale for each channel",
                    node.name,
                    "give activations one scale: per channel is for weights",
                )


def _elements(view: GraphView, node: onnx.NodeProto) -> int:
    tensor = view.constants.get(node.input[1])
    size = 1
    for dim in tensor.dims if tensor is not None else ():
        size *= dim
    return size


def _quantized_type(view: GraphView, node: onnx.NodeProto) -> int | None:
    if len(node.input) > 2 and node.input[2]:
        return view.types.get(node.input[2])
    if node.op_type == "DequantizeLinear":
        return view.types.get(node.input[0])
    return attribute(node, "output_dtype", 0) or _UINT8  # what ONNX says where nothing is stated


def _check_zero_point(view: GraphView, node: onnx.NodeProto) -> Iterator[Diagnostic]:
    if len(node.input) < 3 or not node.input[2]:
        return
    values = view.values(node.input[2])
    if values is None:
        yield Diagnostic("error", f"the zero point of {node.input[0]!r} is computed", node.name, "quantize statically")
    elif values.size and values.any():
        yield Diagnostic(
            "error", f"{node.input[0]!r} has a zero point that is not zero: {values.ravel()[0]}", node.name, _SYMMETRIC
        )
