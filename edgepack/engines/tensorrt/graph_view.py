"""A model's nodes, types and constants as the checks for TensorRT need them. Needs onnx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.engines.common.weights import read_message
from edgepack.errors import CompileError
from edgepack.graph.walk import all_graphs, describe_node, is_external

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

_LARGE_BYTES = 4096  # of a weight; scales and zero points are smaller, and larger ones are read from the file


@dataclass(frozen=True)
class GraphView:
    """``nodes`` are of all graphs, inner ones too; ``types`` element types by tensor; ``functions`` local functions.

    ``shapes`` are the extents of a tensor whose rank is known, None for a free one.

    ``proto`` lacks its large weights; ``model`` is the file they are in. ``inferred`` is ``proto`` with the shapes and
    types that onnx infers.
    """

    model: OnnxModel
    proto: onnx.ModelProto
    inferred: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    types: Mapping[str, int]
    ranks: Mapping[str, int]
    shapes: Mapping[str, tuple[int | None, ...]]
    constants: Mapping[str, onnx.TensorProto]
    functions: frozenset[tuple[str, str]]

    def is_constant(self, name: str) -> bool:
        """Say whether a tensor is stored in the model."""
        return name in self.constants

    def values(self, name: str) -> Array | None:
        """Return a constant's values; None for what is not a constant or is one of strings."""
        import onnx

        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type == onnx.TensorProto.STRING:
            return None
        if _is_stripped(tensor):
            whole = read_message(self.model.path)
            tensor = next(t for graph in all_graphs(whole.graph) for t in graph.initializer if t.name == name)
            if is_external(tensor):
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(self.model.path.parent))
        values: Array = onnx.numpy_helper.to_array(tensor)
        return values

    def first_user(self, name: str) -> onnx.NodeProto | None:
        """Return the first node that reads a tensor."""
        return next((node for node in self.nodes if name in node.input), None)

    def type_name(self, kind: int) -> str:
        """Return an element type as ONNX writes it, in small letters."""
        import onnx

        return str(onnx.TensorProto.DataType.Name(kind)).lower()


def read_view(model: OnnxModel) -> GraphView:
    """Read a model, let go of its large weights, infer its types, name nodes by their first output where need be.

    Raises ``CompileError`` for a damaged file.
    """
    try:
        proto = read_message(model.path)
    except (OSError, ValueError) as error:
        raise CompileError(f"cannot read {model.path.name}: {error}", hint="export the model again") from None
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}
    for graph in all_graphs(proto.graph):
        for tensor in graph.initializer:
            if len(tensor.raw_data) > _LARGE_BYTES:
                tensor.ClearField("raw_data")  # else inferring types would copy them, twice
            constants[tensor.name] = tensor
        for node in graph.node:
            node.name = describe_node(node)
            nodes.append(node)
            if node.op_type == "Constant":
                constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    inferred = infer(proto)
    types, shapes = _types_and_shapes(inferred)
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
    ranks = {name: len(shape) for name, shape in shapes.items()}
    functions = frozenset((function.domain, function.name) for function in proto.functions)
    return GraphView(model, proto, inferred, tuple(nodes), types, ranks, shapes, constants, functions)


def infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto`` with shapes and types where onnx can infer them."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # its errors have no common base; then only what is stated is known
        return proto


def _is_stripped(tensor: onnx.TensorProto) -> bool:

    if is_external(tensor):
        return True
    fields = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    return 0 not in tensor.dims and not any(len(getattr(tensor, name)) for name in fields)


def _types_and_shapes(proto: onnx.ModelProto) -> tuple[dict[str, int], dict[str, tuple[int | None, ...]]]:
    """Return element types and shapes by tensor, as far as they are stated or were inferred."""
    types: dict[str, int] = {}
    shapes: dict[str, tuple[int | None, ...]] = {}
    for graph in all_graphs(proto.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.HasField("tensor_type"):
                types[value.name] = value.type.tensor_type.elem_type
                if value.type.tensor_type.HasField("shape"):
                    dims = value.type.tensor_type.shape.dim
                    shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    return types, shapes


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return an attribute of a node; bytes as text."""
    import onnx

    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default
