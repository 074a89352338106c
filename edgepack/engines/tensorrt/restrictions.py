"""What TensorRT's parser takes of an operator only in part: quantization, and the restrictions of single operators.

Sources: onnx-tensorrt, docs/operators.md of 8.5 and 10.15, column "Restrictions"; the refusals of quantization as
tensorrt-rtx 1.7.1 words them: "Non-zero zero point is not supported", "input has type Int32 but must have type FP8,
FP4, Int4, Int8, or UInt8", "Found unsupported input type of UINT8".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.base.versions import parse_version
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


# Attributes with other values than these are refused: operator, attribute, what ONNX says where it is absent, what is
# taken, and the hint.
_ATTRIBUTES: tuple[tuple[str, str, Any, tuple[Any, ...], str], ...] = (
    ("Resize", "mode", "nearest", ("nearest", "linear", "cubic"), "use nearest or linear"),
    (
        "Resize",
        "coordinate_transformation_mode",
        "half_pixel",
        ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
        "export with half_pixel, asymmetric or align_corners",
    ),
    ("Resize", "antialias", 0, (0,), "export with antialias=False"),
    ("Resize", "keep_aspect_ratio_policy", "stretch", ("stretch",), "state the sizes themselves"),
    ("LSTM", "layout", 0, (0,), "put the sequence axis first"),
    ("GRU", "layout", 0, (0,), "put the sequence axis first"),
    ("RNN", "layout", 0, (0,), "put the sequence axis first"),
    ("LSTM", "input_forget", 0, (0,), "use separate gates"),
    ("ScatterND", "reduction", "none", ("none",), "use ScatterElements, which has one since TensorRT 10"),
    ("BatchNormalization", "training_mode", 0, (0,), "call model.eval() before exporting"),
)
# Inputs that must be constants: operator, which input, what it is, and since which version it need not be one.
_CONSTANTS: tuple[tuple[str, int, str, str | None], ...] = (
    ("TopK", 1, "K", "8.6"),
    ("Squeeze", 1, "axes", None),
    ("Unsqueeze", 1, "axes", None),
    ("CumSum", 1, "axis", None),
    ("OneHot", 1, "depth", None),
    *((f"Reduce{name}", 1, "axes", None) for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod",
                                                      "Sum", "SumSquare")),
)  # fmt: skip


def check_nodes(view: GraphView, version: str) -> Iterator[Diagnostic]:
    """Yield what single operators are not taken with."""
    for node in view.nodes:
        if node.domain in ("", "ai.onnx"):
            problems = (*_attributes(node), *_constants(view, node, version), *_others(view, node))
            for message, hint in problems:
                yield Diagnostic("error", f"{node.op_type}: {message}", node.name, hint)
            if node.op_type == "Resize" and attribute(node, "mode", "nearest") == "cubic":
                yield Diagnostic(
                    "warning",
                    "Resize: mode = cubic is not among those that TensorRT's parser documents",
                    node.name,
                    "tensorrt-rtx 1.7.1 builds it; use linear to be sure",
                )


def _attributes(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    for operator, name, default, taken, hint in _ATTRIBUTES:
        if node.op_type == operator and (value := attribute(node, name, default)) not in taken:
            yield f"{name} = {value} is not supported", hint


def _constants(view: GraphView, node: onnx.NodeProto, version: str) -> Iterator[tuple[str, str]]:
    for operator, index, what, since in _CONSTANTS:
        if node.op_type != operator or len(node.input) <= index or not node.input[index]:
            continue
        free = since is not None and parse_version(version) >= parse_version(since)
        if not free and not view.is_constant(node.input[index]):
            yield f"its {what} must be constant", f"export with fixed {what}"


def _others(view: GraphView, node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    if node.op_type == "MaxPool" and len([name for name in node.output if name]) > 1:
        yield "its output of indices is not supported", "compute without the indices"
    if node.op_type == "Dropout" and len(node.input) > 2:
        training = view.values(node.input[2])
        if training is not None and training.any():
            yield "it is in training mode", "call model.eval() before exporting"
