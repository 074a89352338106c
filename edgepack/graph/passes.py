"""Small passes over a model's protobuf message: each changes it in place and does one thing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgepack.errors import ModelError
from edgepack.graph.check import check_graph, is_name, propagate_shapes
from edgepack.graph.external import tensor_bytes
from edgepack.graph.operators import opsets
from edgepack.graph.save import without_weights
from edgepack.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

# Operators that mark a model as quantized; DequantizeLinear alone only means compressed weights. ONNX Runtime's own
# begin so: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
_QUANTIZED = frozenset({"QuantizeLinear", "QGemm", "QAttention", "QEmbedLayerNormalization", "ConvInteger"})
_QUANTIZED_PREFIXES = ("DynamicQuantize", "QLinear", "MatMulInteger")
_FOLDED_TYPES = (2, 3, 6)  # uint8, int8, int32 of onnx.TensorProto.DataType
_FOLD_LIMIT_BYTES = 1 << 30
_OLDEST_IR = 8  # ONNX 1.10: the oldest with everything that edgepack writes; read by every engine of targets/


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Say whether the model computes with quantized activations."""
    return any(marks_quantized(node) for node in all_nodes(proto))


def marks_quantized(node: onnx.NodeProto) -> bool:
    """Say whether an operator computes with quantized activations."""
    return node.op_type in _QUANTIZED or node.op_type.startswith(_QUANTIZED_PREFIXES)


def freeze_initializers(proto: onnx.ModelProto) -> None:
    """Remove initializers from the inputs, where they stand for "a default that may be overridden", so they fold."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    _keep(proto.graph.input, [value for value in proto.graph.input if value.name not in stored])


def refuse_training(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` where a node was left in training mode: its output depends on the batch, or on chance."""
    import onnx

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in all_nodes(proto):
        trains = node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            flag = constants.get(node.input[2])
            trains = flag is None or bool(onnx.numpy_helper.to_array(flag))
        if trains:
            raise ModelError(
                f"the node {node.name or node.output[0]!r} is a {node.op_type} in training mode",
                hint="export the model for inference: model.eval() in torch, training=False in Keras",
            )


def fold_dequantized_weights(proto: onnx.ModelProto) -> int:
    """Turn 8-bit weights behind a DequantizeLinear into float ones, and return how many.

    Such a model is compressed, not quantized: its activations are float, and the quantizer wants float weights.
    Nothing is done above 1 GiB of float weights. The formula is onnx's reference implementation of the operator.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    folded = [node for node in proto.graph.node if _is_foldable(node, constants)]
    floats = sum(4 * _elements(constants[node.input[0]]) for node in folded)
    outputs = {value.name for value in proto.graph.output}
    if floats > _FOLD_LIMIT_BYTES or any(node.output[0] in outputs for node in folded):
        return 0
    version = max(opsets(proto).get("", 1), 21)  # the reference begins at 19; 21 means the same for older models
    for node in folded:
        inputs = [name for name in node.input if name]
        feeds = {name: onnx.numpy_helper.to_array(constants[name]) for name in inputs}
        values = [onnx.helper.make_tensor_value_info(n, constants[n].data_type, constants[n].dims) for n in inputs]
        result = [onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)]
        graph = onnx.helper.make_graph([node], "fold", values, result)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
        (array,) = ReferenceEvaluator(model).run(None, feeds)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    if not folded:
        return 0
    names = {node.output[0] for node in folded}
    _keep(proto.graph.node, [node for node in proto.graph.node if node.output[0] not in names])
    drop_unused_initializers(proto)
    return len(folded)


def drop_unused_initializers(proto: onnx.ModelProto) -> None:
    """Remove the main graph's initializers that nothing reads."""
    used = {name for node in all_nodes(proto) for name in node.input} | {value.name for value in proto.graph.output}
    initializers = proto.graph.initializer
    for index in reversed([i for i, tensor in enumerate(initializers) if tensor.name not in used]):
        del initializers[index]


def infer_shapes(proto: onnx.ModelProto) -> None:
    """Write the types and shapes of all tensors into ``proto``. Raises ``ModelError`` when it is not valid."""
    inferred = propagate_shapes(check_graph(without_weights(proto)))
    values = {value.name: value for value in inferred.graph.value_info}
    _keep(proto.graph.value_info, [values[name] for name in sorted(values)])
    _keep(proto.graph.output, list(inferred.graph.output))


def raise_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return the model at a higher opset. The converter holds it several times over, so it sees no large weights."""
    import onnx

    light = without_weights(proto)
    converted: onnx.ModelProto = onnx.version_converter.convert_version(light, opset)
    inside = {tensor.name for tensor in light.graph.initializer}
    large = [tensor for tensor in proto.graph.initializer if tensor.name not in inside]
    names = {tensor.name for tensor in large}
    _keep(converted.graph.input, [value for value in converted.graph.input if value.name not in names])
    converted.graph.initializer.extend(large)
    return converted


def constants_to_initializers(proto: onnx.ModelProto) -> None:
    """Turn the main graph's Constant nodes with a tensor or numbers into initializers."""
    import onnx

    kept = []
    for node in proto.graph.node:
        tensor = _constant_value(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
            continue
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = node.output[0]
        proto.graph.initializer.append(copy)
    _keep(proto.graph.node, kept)


def drop_notes(proto: onnx.ModelProto) -> None:
    """Remove doc strings and the notes on nodes and values: exporters write stack traces with paths into them."""
    proto.ClearField("doc_string")
    for graph in all_graphs(proto.graph):
        for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            item.ClearField("doc_string")
            item.ClearField("metadata_props")


def forget_unnamed(proto: onnx.ModelProto) -> None:
    """Clear what stands for a free dimension and is not a name: engines would take it for one size that all share."""
    for graph in all_graphs(proto.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param") and not is_name(dim.dim_param):
                    dim.ClearField("dim_param")


def name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: rules and reports speak of nodes by name."""
    for graph in all_graphs(proto.graph):
        taken = Counter(node.name for node in graph.node)
        for index, node in enumerate(graph.node):
            if not node.name or taken[node.name] > 1:
                taken[node.name] -= 1
                node.name = _free_name(f"{node.op_type}_{index}", taken)
                taken[node.name] += 1


def set_versions(proto: onnx.ModelProto) -> None:
    """Import only the operator sets in use, and state the oldest IR version that they allow."""
    import onnx

    used = {"" if node.domain == "ai.onnx" else node.domain for node in all_nodes(proto)} | {""}
    versions = opsets(proto)
    kept = [onnx.helper.make_opsetid(domain, versions.get(domain, 1)) for domain in sorted(used)]
    _keep(proto.opset_import, kept)
    standard = [o for o in kept if o.domain in ("", "ai.onnx.ml")]
    proto.ir_version = max(_OLDEST_IR, onnx.helper.find_min_ir_version_for(standard, ignore_unknown=True))


def set_metadata(proto: onnx.ModelProto, key: str, value: str) -> None:
    """Set one entry of the model's own metadata, keeping the others."""
    _keep(proto.metadata_props, [entry for entry in proto.metadata_props if entry.key != key])
    proto.metadata_props.add(key=key, value=value)


def _is_foldable(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and node.domain in ("", "ai.onnx")
        and all(name in constants for name in node.input if name)
        and constants[node.input[0]].data_type in _FOLDED_TYPES
        and constants[node.input[1]].data_type == 1
    )


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    import numpy as np
    import onnx

    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return value
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    kind = kinds.get(attribute.name)
    return None if kind is None else onnx.numpy_helper.from_array(np.array(value, kind))


def _elements(tensor: onnx.TensorProto) -> int:
    return tensor_bytes(tensor) // (4 if tensor.data_type == 6 else 1)


def _free_name(name: str, taken: Counter[str]) -> str:
    while taken[name]:
        name += "_"
    return name


def _keep(field: Iterable[object], items: list[object]) -> None:
    """Replace the contents of a repeated field."""
    del field[:]  # type: ignore[attr-defined]
    field.extend(items)  # type: ignore[attr-defined]
