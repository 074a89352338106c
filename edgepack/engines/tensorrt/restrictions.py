"""What TensorRT's parser and builder take of an operator only in part, each with what to do about it.

Sources: onnx-tensorrt, docs/operators.md of 8.5, 10.1 and 10.15 (columns "Supported Types" and "Restrictions"),
onnxOpCheckers.cpp and onnxOpImporters.cpp of 10.1; and what tensorrt-rtx 1.7.1 refused of some 900 models of one
operator each, with every type and rank and other attributes (``tests/engines/tensorrt/test_proxy.py`` has the kinds).
Where a document takes less than tensorrt-rtx does, the document counts: devices have older parsers.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from edgepack.base.versions import parse_version
from edgepack.engines.tensorrt.graph_view import attribute
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

    from edgepack.engines.tensorrt.graph_view import GraphView

Problem = tuple[str, str]

_MOST_AXES = 8  # nvinfer1::Dims::MAX_DIMS
_MOST_K = 3840
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
    ("LpPool", "p", 2, (1, 2), "use the 1-norm or the 2-norm"),
    ("LpNormalization", "p", 2, (1, 2), "use the 1-norm or the 2-norm"),
    ("ScatterND", "reduction", "none", ("none",), "scatter without adding up: add to what was gathered before"),
    (
        "ScatterElements",
        "reduction",
        "none",
        ("none",),
        "write it without: it needs TensorRT's plugin library, which an engine is not built with",
    ),
    ("BatchNormalization", "training_mode", 0, (0,), "call model.eval() before exporting"),
)
# Inputs that must be constants: operator, which input, what it is, and since which version it need not be one.
_CONSTANTS: tuple[tuple[str, int, str, str | None], ...] = (
    ("TopK", 1, "K", "8.6"),
    ("Squeeze", 1, "axes", None),
    ("Unsqueeze", 1, "axes", None),
    ("Slice", 3, "axes", None),
    ("Pad", 3, "axes", None),
    ("CumSum", 1, "axis", None),
    ("OneHot", 1, "depth", None),
    ("Dropout", 2, "training_mode", None),
    *((f"Reduce{name}", 1, "axes", None) for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod",
                                                      "Sum", "SumSquare")),
)  # fmt: skip
# Ranks of the first input that are taken, batch and channels included.
_RANKS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool"), (3, 4, 5)),
    "LpPool": (4, 5),
    "LRN": (4, 5, 6, 7, 8),
    "GridSample": (4,),
    "DepthToSpace": (4,),
    "SpaceToDepth": (4,),
    "EyeLike": (2,),
}
_POOLING = ("MaxPool", "AveragePool", "LpPool")
_RECURRENT = {"LSTM": 3, "GRU": 2, "RNN": 1}  # activations of one direction
_ACTIVATIONS = (
    *("Relu", "Tanh", "Sigmoid", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign"),
    "Softplus",
)
# What is run by TensorRT's plugin library, and since which version by the engine itself.
_PLUGINS: dict[str, str | None] = {"RoiAlign": None, "DeformConv": None, "InstanceNormalization": "10.0"}

# Element types by their numbers in onnx.proto that an operator's inputs must not have.
_UINT8, _INT32, _INT64, _BOOL = 2, 6, 7, 9
_WHOLE = (_INT32, _INT64)
_REFUSED_TYPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("MatMul", "Gemm", "Einsum", "PRelu"), _WHOLE),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), (_BOOL,)),
}
_FIRST_INPUT_REFUSED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"), _WHOLE),
    **dict.fromkeys(("Resize", "Upsample"), (*_WHOLE, _BOOL)),
}
# What tensorrt-rtx 1.7.1 does otherwise than onnx-tensorrt's docs/operators.md says: what each does, and what is said
# of it here. ``tests/engines/tensorrt/test_proxy.py`` asks the real one again.
#   Relu of int32       the document takes it, tensorrt-rtx refuses it ("unsupported input type of INT32"): a warning,
#                       since a device's parser is another build, and a Cast makes it sure
#   Equal of uint8      the document has uint8 for inputs and outputs of models only, tensorrt-rtx builds it: refused,
#                       since parsers before 10 do refuse it
#   GridSample, 5 axes  the document takes 4, tensorrt-rtx builds it: refused, by the document
_DISPUTED: dict[str, tuple[int, str]] = {
    "Relu": (_INT32, "TensorRT's parser documents it, and tensorrt-rtx 1.7.1 refuses it"),
}
_NO_UINT8 = "use int32 or float32 there: TensorRT has uint8 as input and output of the whole model only"
_TAKE_UINT8 = ("Cast", "CastLike", "Identity", "Shape", "Size", "QuantizeLinear", "DequantizeLinear")


def check_nodes(view: GraphView, version: str) -> Iterator[Diagnostic]:
    """Yield what single operators are not taken with."""
    for node in view.nodes:
        if node.domain in ("", "ai.onnx"):
            for message, hint in _problems(view, node, version):
                yield Diagnostic("error", f"{node.op_type}: {message}", node.name, hint)
            if node.op_type in _DISPUTED and view.types.get(node.input[0]) == _DISPUTED[node.op_type][0]:
                yield Diagnostic(
                    "warning",
                    f"{node.op_type} of int32: {_DISPUTED[node.op_type][1]}",
                    node.name,
                    "cast its input to float32 to be sure",
                )
            if node.op_type == "Resize" and attribute(node, "mode", "nearest") == "cubic":
                yield Diagnostic(
                    "warning",
                    "Resize: mode = cubic is not among those that TensorRT's parser documents",
                    node.name,
                    "tensorrt-rtx 1.7.1 builds it; use linear to be sure",
                )


def _problems(view: GraphView, node: onnx.NodeProto, version: str) -> Iterator[Problem]:
    yield from _attributes(node)
    yield from _constants(view, node, version)
    yield from _ranks(view, node)
    yield from _types(view, node)
    yield from _plugins(node, version)
    for operators, look in _OTHERS:
        if node.op_type in operators:
            yield from look(view, node, version)


def _attributes(node: onnx.NodeProto) -> Iterator[Problem]:
    for operator, name, default, taken, hint in _ATTRIBUTES:
        if node.op_type == operator and (value := attribute(node, name, default)) not in taken:
            yield f"{name} = {value} is not supported", hint


def _constants(view: GraphView, node: onnx.NodeProto, version: str) -> Iterator[Problem]:
    for operator, index, what, since in _CONSTANTS:
        if node.op_type != operator or len(node.input) <= index or not node.input[index]:
            continue
        free = since is not None and parse_version(version) >= parse_version(since)
        if not free and not view.is_constant(node.input[index]):
            yield f"its {what} must be constant", f"export with fixed {what}"


def _ranks(view: GraphView, node: onnx.NodeProto) -> Iterator[Problem]:
    taken = _RANKS.get(node.op_type)
    rank = view.ranks.get(node.input[0]) if node.input else None
    if taken is not None and rank is not None and rank not in taken:
        shown = f"{taken[0]}" if len(taken) == 1 else f"{taken[0]} to {taken[-1]}"
        hint = "bring it to that number of axes by Reshape, or compute this step outside the model"
        yield f"its input has {rank} axes, and {shown} are taken", hint
    for name in node.output:
        if view.ranks.get(name, 0) > _MOST_AXES:
            hint = "merge axes by Reshape before it"
            yield f"{name!r} has {view.ranks[name]} axes, and TensorRT has at most {_MOST_AXES}", hint


def _types(view: GraphView, node: onnx.NodeProto) -> Iterator[Problem]:
    kinds = [view.types.get(name) for name in node.input]
    refused = [k for k in kinds if k in _REFUSED_TYPES.get(node.op_type, ())]
    refused += [k for k in kinds[:1] if k in _FIRST_INPUT_REFUSED.get(node.op_type, ())]
    if refused:
        name = view.type_name(refused[0] or 0)
        yield f"its inputs of type {name} are not taken", "cast them to float32 before it, and back after it"
    if _UINT8 in kinds and node.op_type not in _TAKE_UINT8:
        yield "its inputs of type uint8 are not taken", _NO_UINT8
    inside = [name for name in node.output if view.types.get(name) == _UINT8 and not _is_output(view, name)]
    if node.op_type == "ConstantOfShape" and _UINT8 in (view.types.get(name) for name in node.output):
        yield "its value of type uint8 is not taken", _NO_UINT8
    elif inside and node.op_type != "QuantizeLinear":  # of which its quantization is refused
        yield f"it makes {inside[0]!r} of type uint8 within the model", _NO_UINT8


def _is_output(view: GraphView, name: str) -> bool:
    return any(value.name == name for value in view.proto.graph.output)


def _plugins(node: onnx.NodeProto, version: str) -> Iterator[Problem]:
    if node.op_type not in _PLUGINS:
        return
    since = _PLUGINS[node.op_type]
    if since is None or parse_version(version) < parse_version(since):
        newer = f"use a profile with TensorRT {since} or newer, or " if since else ""
        yield (
            "it needs TensorRT's plugin library",
            f"{newer}write it with simpler operators, or run it outside the model",
        )


def _max_pool(_view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    if len([name for name in node.output if name]) > 1:
        yield "its output of indices is not supported", "compute without the indices"


def _pooling(_view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    if any(size != 1 for size in attribute(node, "dilations", ())):
        yield "its dilations must be 1", "pool without dilations, or take every n-th element by Slice before"
    kernel, pads = attribute(node, "kernel_shape", ()), attribute(node, "pads", ())
    excluded = node.op_type == "AveragePool" and not attribute(node, "count_include_pad", 0)
    if excluded and any(pad >= size for pad, size in zip(pads, itertools.cycle(kernel or (1,)), strict=False)):
        yield "its padding is as large as its kernel", "pad by the operator Pad before, and less here"


def _layer_norm(_view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    if len([name for name in node.output if name]) > 1:
        yield "its outputs of mean and deviation are not supported", "compute these by ReduceMean"


def _dropout(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    training = view.values(node.input[2]) if len(node.input) > 2 else None
    if training is not None and training.any():
        yield "it is in training mode", "call model.eval() before exporting"


def _top_k(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    values = view.values(node.input[1]) if len(node.input) > 1 else None
    k = attribute(node, "k", 0) if values is None or not values.size else int(values.ravel()[0])
    if k > _MOST_K:
        yield f"K = {k} is above TensorRT's {_MOST_K}", f"keep at most {_MOST_K}, as of the best of several parts"


def _deconvolution(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    strides, dilations = attribute(node, "strides", ()), attribute(node, "dilations", ())
    if any(s > 1 for s in strides) and any(d > 1 for d in dilations):
        yield (
            f"strides {list(strides)} together with dilations {list(dilations)} are not implemented",
            "use one of them: a dilated kernel can be written as a larger one with zeros in it",
        )
    if _is_cut_below(view, node, strides, dilations):
        yield "its output_shape needs negative padding", "leave output_shape out, and pad the result instead"


def _is_cut_below(view: GraphView, node: onnx.NodeProto, strides: Any, dilations: Any) -> bool:
    """Say whether ``output_shape`` is larger than what the kernel reaches (ONNX, ConvTranspose: total_padding)."""
    wanted = attribute(node, "output_shape", ())
    extents, kernel = view.shapes.get(node.input[0], ())[2:], view.shapes.get(node.input[1], ())[2:]
    if not wanted or len(extents) != len(wanted) or len(kernel) != len(wanted) or None in (*extents, *kernel):
        return False
    ones = (1,) * len(wanted)
    more = attribute(node, "output_padding", (0,) * len(wanted))
    sizes = zip(wanted, extents, kernel, strides or ones, dilations or ones, more, strict=True)
    return any(s * ((e or 0) - 1) + o + ((k or 0) - 1) * d + 1 < size for size, e, k, s, d, o in sizes)


def _einsum(_view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    equation = attribute(node, "equation", "")
    if any(letter.isupper() for letter in equation):
        yield f"its equation {equation!r} has capital letters", "write it with small letters"


def _recurrent(_view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    names = [name.decode(errors="replace") for name in attribute(node, "activations", ())]
    if unknown := [name for name in names if name not in _ACTIVATIONS]:
        yield f"its activation {unknown[0]} is not known", f"use one of {', '.join(_ACTIVATIONS)}"
    half = _RECURRENT[node.op_type]
    if attribute(node, "direction", "forward") == "bidirectional" and names[:half] != names[half:]:
        yield "its directions have different activations", "use the same in both, or two operators of one direction"


def _slice(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    rank = view.ranks.get(node.input[0])
    starts = view.shapes.get(node.input[1]) if len(node.input) > 1 else None
    has_axes = len(node.input) > 3 and node.input[3]
    if not has_axes and rank is not None and starts and starts[0] is not None and starts[0] != rank:
        yield f"it has no axes, and starts for {starts[0]} of {rank}", "state its axes"


def _resize(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    scales = node.input[2] if len(node.input) > 2 else ""
    if scales and scales in {value.name for value in view.proto.graph.input} and not view.is_constant(scales):
        yield f"its scales are the model's input {scales!r}", "give sizes, whole numbers, or fix the scales"
    mode = attribute(node, "mode", "nearest")
    last = {"linear": 3, "cubic": 2}.get(mode)
    before, after = view.shapes.get(node.input[0]), view.shapes.get(node.output[0])
    if last is None or before is None or after is None or len(before) != len(after):
        return
    if any(a != b for a, b in zip(before[:-last], after[:-last], strict=True) if a is not None and b is not None):
        yield f"mode = {mode} changes more than the last {last} axes", "resize the others by another Resize"


def _if(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    branches = [item.g for item in node.attribute if item.name in ("then_branch", "else_branch")]
    if len(branches) != 2 or view.is_constant(node.input[0]):
        return
    for one, other in zip(branches[0].output, branches[1].output, strict=False):
        ranks = view.ranks.get(one.name), view.ranks.get(other.name)
        if None not in ranks and ranks[0] != ranks[1]:
            yield (
                f"its branches give {one.name!r} with {ranks[0]} axes and {other.name!r} with {ranks[1]}",
                "give both results the same number of axes by Unsqueeze",
            )


def _mod(view: GraphView, node: onnx.NodeProto, _version: str) -> Iterator[Problem]:
    if view.types.get(node.input[0]) not in (None, *_WHOLE) and not attribute(node, "fmod", 0):
        yield "fmod = 0 takes whole numbers only", "set fmod = 1, as torch.fmod does"


def _pad(_view: GraphView, node: onnx.NodeProto, version: str) -> Iterator[Problem]:
    if attribute(node, "mode", "constant") == "wrap" and parse_version(version) < (10,):
        yield "mode = wrap is not supported", "use a profile with TensorRT 10 or newer, or another mode"


_OTHERS: tuple[tuple[tuple[str, ...], Callable[[GraphView, Any, str], Iterator[Problem]]], ...] = (
    (("MaxPool",), _max_pool),
    (_POOLING, _pooling),
    (("LayerNormalization",), _layer_norm),
    (("Dropout",), _dropout),
    (("TopK",), _top_k),
    (("ConvTranspose",), _deconvolution),
    (("Einsum",), _einsum),
    (tuple(_RECURRENT), _recurrent),
    (("Slice",), _slice),
    (("Resize",), _resize),
    (("If",), _if),
    (("Mod",), _mod),
    (("Pad",), _pad),
)
