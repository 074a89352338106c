"""Checks a model's structure, names and types, and reads its inputs and outputs."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from edgepack.errors import ModelError
from edgepack.graph.external import tensor_bytes
from edgepack.graph.operators import opsets
from edgepack.graph.walk import is_external
from edgepack.specs.model import UNNAMED, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx
    from google.protobuf.message import Message  # type: ignore[import-untyped]

_STRING = 8  # onnx.TensorProto.STRING
_VALUES = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_LONGEST_VECTOR = 10_000
UNKNOWN_RANK = "..."
_NO_NAMES = ("", UNNAMED, "*", "-1", "None")
_HINT = "export the model again; if it comes from another tool, report it there"


def check_structure(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` when ``proto`` has no graph, inputs, outputs or nodes, or names something twice."""
    _check_text(proto)
    if not proto.HasField("graph") or proto.ir_version == 0:
        raise ModelError(
            "the file holds no ONNX graph", hint="give a model exported to ONNX, not another protobuf file"
        )
    if not proto.opset_import:
        raise ModelError("the model does not say which opset it uses", hint=_HINT)
    twice = _twice(o.domain for o in proto.opset_import)
    if len(opsets(proto)) != len(proto.opset_import):
        raise ModelError(f"the model imports an operator set twice: {twice or 'ai.onnx'!r}", hint=_HINT)
    graph = proto.graph
    if not graph.node:
        raise ModelError("the model has no nodes", hint=_HINT)
    if not graph.output:
        raise ModelError("the model has no outputs", hint="name the outputs when exporting")
    if not _fed(graph):
        raise ModelError("the model has no inputs: its outputs are constants", hint="export it with its inputs")
    _check_names(graph)


def check_graph(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Run onnx's checker and type inference on ``proto``, which must need no other file; return it with its shapes.

    Raises ``ModelError`` with the first line of what they say.
    """
    import onnx

    try:
        onnx.checker.check_model(_with_ranks(proto))
        # Not strict: many exporters' shapes are imprecise and run nevertheless; a wrong type never runs.
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(proto, check_type=True)
    except Exception as error:  # C++ exceptions of many kinds reach Python here
        raise ModelError(f"the ONNX model is not valid: {first_line(error)}", hint=_HINT) from error
    return inferred


def propagate_shapes(inferred: onnx.ModelProto) -> onnx.ModelProto:
    """Return what ``check_graph`` returned with more shapes: those that follow from shapes computed in the graph.

    onnx writes down a symbol for every element of a vector of whole numbers there, so this is not done for a model with
    long ones: a hostile file would fill the memory.
    """
    import onnx

    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]
    shapes += [list(tensor.dims) for tensor in inferred.graph.initializer]
    if any(len(shape) == 1 and shape[0] > _LONGEST_VECTOR for shape in shapes):
        return inferred
    try:
        result: onnx.ModelProto = onnx.shape_inference.infer_shapes(inferred, check_type=True, data_prop=True)
    except Exception:  # what it cannot follow is only not known
        return inferred
    return result


def check_sizes(tensors: Iterable[onnx.TensorProto]) -> None:
    """Raise ``ModelError`` where a tensor inside the file has not the number of values that its shape needs."""
    for tensor in tensors:
        if is_external(tensor) or tensor.data_type == _STRING:
            continue
        needed = tensor_bytes(tensor)
        if tensor.HasField("raw_data"):
            stored, unit = len(tensor.raw_data), "bytes"
        else:
            needed, unit = math.prod(tensor.dims), "values"
            lengths = [len(getattr(tensor, name)) for name in _VALUES]
            # Complex numbers are stored as two values, numbers of 4 bits two in one.
            allowed = {needed, 2 * needed, (needed + 1) // 2}
            stored = needed if allowed & set(lengths) else max(lengths)
        if stored != needed:
            raise ModelError(
                f"the tensor {tensor.name!r} needs {needed} {unit} for its shape and type, but {stored} are stored",
                hint=_HINT,
            )


def _with_ranks(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto`` with a shape, if only an empty one, wherever the checker insists on one; engines do not."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    for value in (*result.graph.input, *result.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return result


def input_specs(proto: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the inputs that must be fed: those that are not initializers with a default."""
    return tuple(_spec(value, "input") for value in _fed(proto.graph))


def output_specs(proto: onnx.ModelProto, inferred: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the outputs, with the type and shape that ``inferred`` found where the model does not state them."""
    found = {value.name: value for value in inferred.graph.output}
    specs = []
    for value in proto.graph.output:
        known = value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
        specs.append(_spec(value if known else found.get(value.name, value), "output"))
    return tuple(specs)


def _spec(value: onnx.ValueInfoProto, what: str) -> TensorSpec:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type" or not value.type.tensor_type.elem_type:
        stated = "no type" if kind in (None, "tensor_type") else f"the type {kind.removesuffix('_type')}"
        raise ModelError(
            f"the {what} {value.name!r} has {stated}; only tensors can be fed and compared",
            hint="export the model with tensor inputs and outputs (for scikit-learn: options={'zipmap': False})",
        )
    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        raise ModelError(
            f"the {what} {value.name!r} has the unknown data type {tensor.elem_type}", hint=_HINT
        ) from None
    shape = tuple(_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else (UNKNOWN_RANK,)
    return TensorSpec(value.name, dtype, shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else UNNAMED  # -1 is how some exporters say "unknown"
    return str(dim.dim_param) if is_name(dim.dim_param) else UNNAMED


def is_name(text: str) -> bool:
    """Say whether what stands for a free dimension is a name; Paddle writes "?" for every one that it does not know."""
    return text.strip() not in _NO_NAMES


def _fed(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in stored]


def _check_text(message: Message) -> None:
    """Raise ``ModelError`` where a text is not UTF-8: protobuf hands it over as bytes, which are not a name."""
    for descriptor, content in message.ListFields():
        items = content if _is_repeated(content) else (content,)
        if descriptor.type == descriptor.TYPE_STRING:
            if wrong := [item for item in items if not isinstance(item, str)]:
                raise ModelError(f"the {descriptor.name} {wrong[0][:40]!r} in the model is not text", hint=_HINT)
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            for item in items:
                _check_text(item)


def _is_repeated(content: object) -> bool:
    return hasattr(content, "__len__") and not isinstance(content, str | bytes)


def _check_names(graph: onnx.GraphProto) -> None:
    groups = {
        "inputs": [value.name for value in graph.input],
        "outputs": [value.name for value in graph.output],
        "initializers": [tensor.name for tensor in graph.initializer],
    }
    for what, names in groups.items():
        if "" in names:
            raise ModelError(f"the model has {what} without a name", hint=_HINT)
        if twice := _twice(names):
            raise ModelError(f"the model has two {what} named {twice!r}", hint=_HINT)
    made = [name for node in graph.node for name in node.output if name]
    if twice := _twice(made):
        raise ModelError(f"two nodes make the tensor {twice!r}", hint=_HINT)
    known = {*made, *groups["inputs"], *groups["initializers"], *(s.values.name for s in graph.sparse_initializer)}
    if missing := [name for name in groups["outputs"] if name not in known]:
        raise ModelError(f"no node makes the output {missing[0]!r}", hint=_HINT)


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def first_line(error: Exception) -> str:
    """Return the first line of an engine's words, to show to a user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:500] if lines else type(error).__name__
