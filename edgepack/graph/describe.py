"""Describes a model for ``inspect``: inputs, operators, weights, and its layers with precision and multiply-adds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.graph.check import check_graph, propagate_shapes
from edgepack.graph.external import tensor_bytes
from edgepack.graph.fold import optimize_basic
from edgepack.graph.load import light_proto, read_proto
from edgepack.graph.macs import Shape, count_macs, multiplies
from edgepack.graph.passes import is_quantized
from edgepack.graph.walk import all_graphs, all_nodes, describe_node
from edgepack.specs.model import UNNAMED, OnnxModel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
# Operators that only change how a value is stored, so that a layer's weights are found behind them.
_STORAGE = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice"}
)
# Operators that are layers for the weights they hold, though they do not multiply and add.
_WEIGHTED = frozenset(
    {
        *("Gather", "BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "PRelu"),
        *("RMSNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "MatMulNBits", "Attention"),
    }
)
_INTEGER = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm", "MatMulIntegerToFloat"),
        *("DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
    }
)
_STRING = 8  # onnx.TensorProto.STRING
_OPTIMIZED_BYTES = 256 << 20


@dataclass(frozen=True)
class LayerDescription:
    """A node that multiplies and adds, or holds weights.

    ``precision`` is what the file states: fp32, fp16, bf16 or int8 ("fp32, int8 weights" when only its weights are
    quantized), whatever an engine makes of it. ``macs`` is for a batch of 1; None where a shape is not known.
    """

    name: str
    op: str
    precision: str
    weight_bytes: int
    macs: int | None


@dataclass(frozen=True)
class ModelDescription:
    """What is in an ONNX model. ``macs`` sums the layers; None when one's shape is not known.

    ``parameters`` counts the elements of all stored tensors but whole numbers of 64 bits (shapes, axes, indices) and
    the scales and zero points of Q/DQ nodes. ``weight_bytes`` has all stored tensors, by numpy dtype name.
    """

    sha256: str
    size_bytes: int
    opset: int
    ir_version: int
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int
    weight_bytes: Mapping[str, int]
    macs: int | None
    quantized: bool
    layers: tuple[LayerDescription, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


def describe(model: OnnxModel) -> ModelDescription:
    """Return what ``model`` consists of. Its large weights are not read. Raises ``ModelError`` when it is damaged."""
    proto = read_proto(model, weights=False)
    layers = _layers(proto, model)
    counts = [layer.macs for layer in layers if multiplies(layer.op)]
    known = [count for count in counts if count is not None]
    return ModelDescription(
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        opset=model.opset,
        ir_version=proto.ir_version,
        producer=" ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        inputs=model.inputs,
        outputs=model.outputs,
        operators=dict(Counter(_operator(node) for node in all_nodes(proto))),
        parameters=_parameters(proto),
        weight_bytes=_bytes_by_dtype(_stored(proto)),
        macs=sum(known) if len(known) == len(counts) else None,
        quantized=is_quantized(proto),
        layers=layers,
        metadata={entry.key: entry.value for entry in proto.metadata_props},
    )


def _layers(proto: onnx.ModelProto, model: OnnxModel, *, shapes: bool = True) -> tuple[LayerDescription, ...]:
    """Return the layers; with ``shapes``, ONNX Runtime is asked for those that do not follow from the file."""
    facts = _Facts(proto, model, shapes)
    counted: set[str] = set()
    return tuple(
        facts.describe(node, counted)
        for node in all_nodes(proto)
        if multiplies(node.op_type) or (node.op_type in _WEIGHTED and facts.weights(node))
    )


class _Facts:
    """Looks up what stands behind a tensor's name: shape, dtype, stored tensor, producing node."""

    def __init__(self, proto: onnx.ModelProto, model: OnnxModel, shapes: bool) -> None:
        self.stored = {t.name: t for graph in all_graphs(proto.graph) for t in graph.initializer}
        self.stored.update(
            {node.output[0]: tensor for node in all_nodes(proto) if (tensor := _constant(node)) is not None}
        )
        self.producers = {name: node for node in all_nodes(proto) for name in node.output if name}
        self.shapes, self.dtypes = _infer(proto, model.path)
        multiplied = [node.output[0] for node in proto.graph.node if multiplies(node.op_type)]
        if shapes and model.size_bytes <= _OPTIMIZED_BYTES and not all(name in self.shapes for name in multiplied):
            self.shapes = _optimized_shapes(model) | self.shapes

    def describe(self, node: onnx.NodeProto, counted: set[str]) -> LayerDescription:
        """Return a layer; a tensor that several share is counted for the first, which ``counted`` remembers."""
        own = {name: tensor for name, tensor in self.weights(node).items() if name not in counted}
        counted.update(own)
        weights = sum(tensor_bytes(tensor) for tensor in own.values())
        return LayerDescription(
            describe_node(node), node.op_type, self._precision(node), weights, count_macs(node, self.shapes)
        )

    def weights(self, node: onnx.NodeProto) -> dict[str, onnx.TensorProto]:
        """Return the float and quantized tensors that the node's inputs are stored as, by their names."""
        found = {name: tensor for given in node.input for name, tensor in self._behind(given, 8)}
        return {name: tensor for name, tensor in found.items() if _is_parameter(tensor) and tensor.dims}

    def _behind(self, name: str, depth: int) -> Iterator[tuple[str, onnx.TensorProto]]:
        """Yield the stored tensors that ``name`` is, also behind a DequantizeLinear or Cast, or a Concat of them."""
        if name in self.stored:
            yield name, self.stored[name]
            return
        node = self.producers.get(name)
        if node is None or not depth:
            return
        if node.op_type in _STORAGE:
            yield from self._behind(node.input[0], depth - 1)
        elif node.op_type == "Concat":  # the gates of a recurrent layer, as exporters put them together
            parts = [tuple(self._behind(given, depth - 1)) for given in node.input]
            yield from (part for found in parts for part in found if all(parts))

    def _precision(self, node: onnx.NodeProto) -> str:
        if node.op_type in _INTEGER:
            return "int8"
        behind = [self.producers[name].op_type if name in self.producers else None for name in node.input[:2]]
        dtype = _NAMES.get(self.dtypes.get(node.output[0], ""), self.dtypes.get(node.output[0], "unknown"))
        quantized = [operator == "DequantizeLinear" for operator in behind]
        if quantized and all(quantized):
            return "int8"
        return f"{dtype}, int8 weights" if any(quantized[1:]) else dtype


def _infer(proto: onnx.ModelProto, path: Path) -> tuple[dict[str, Shape], dict[str, str]]:
    """Return the known shapes, for a batch of 1, and the dtypes of all tensors by name."""
    light = light_proto(proto, path)
    for value in light.graph.input:
        for dim in value.type.tensor_type.shape.dim[:1]:
            if not dim.HasField("dim_value"):
                dim.dim_value = 1
    del light.graph.value_info[:]  # they were made for a free batch
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = propagate_shapes(check_graph(light))
    shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in inferred.graph.initializer}
    dtypes = {t.name: _dtype(t.data_type) for t in inferred.graph.initializer}
    for graph in all_graphs(inferred.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            dtypes[value.name] = _dtype(value.type.tensor_type.elem_type)
            if (shape := _shape(value)) is not None:
                shapes[value.name] = shape
    return shapes, dtypes


def _optimized_shapes(model: OnnxModel) -> dict[str, Shape]:
    """Return the shapes in the graph that ONNX Runtime optimized for a batch of 1: what is computed there is folded.

    This is for models as exporters leave them, with paddings and sizes as computations. Empty when it does not load it.
    """
    first = {spec.shape[0] for spec in model.inputs if spec.shape and isinstance(spec.shape[0], str)}
    batch = dict.fromkeys(first - {UNNAMED}, 1)
    try:
        with scratch_folder() as folder:
            optimized = optimize_basic(model, Path(folder), batch)
            proto = light_proto(read_proto(optimized, weights=False), optimized.path)
        graph = propagate_shapes(check_graph(proto)).graph
    except Exception:  # ONNX Runtime's own; the shapes are then not known
        return {}
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: shape for value in values if (shape := _shape(value)) is not None}


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """Return a tensor's shape when all of it is known."""
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return tuple(dims) if tensor.HasField("shape") and all(dim >= 0 for dim in dims) else None


def _parameters(proto: onnx.ModelProto) -> int:
    scales = {
        name
        for node in all_nodes(proto)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    return sum(_elements(t) for t in _stored(proto) if _is_parameter(t) and t.name not in scales)


def _stored(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return all stored tensors: initializers, and the values of Constant nodes."""
    tensors = [tensor for graph in all_graphs(proto.graph) for tensor in graph.initializer]
    return tensors + [tensor for node in all_nodes(proto) if (tensor := _constant(node)) is not None]


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant":
        return None
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def _bytes_by_dtype(tensors: Iterable[onnx.TensorProto]) -> dict[str, int]:
    result: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.data_type != _STRING:
            result[_dtype(tensor.data_type)] += tensor_bytes(tensor)
    return dict(result)


def _is_parameter(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type not in (7, 8, 9, 13)  # int64, string, bool, uint64


def _elements(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _dtype(kind: int) -> str:
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind).name)
    except KeyError:
        return "unknown"
