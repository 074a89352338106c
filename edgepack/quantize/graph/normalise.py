"""Brings a model into the form that quantization works on; refuses what is quantized already."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.errors import ModelError
from edgepack.graph.walk import names_read
from edgepack.quantize.graph.index import attribute, to_array

# Per-channel DequantizeLinear needs opset 13.
LOWEST_OPSET = 13
_QUANTIZED = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantizeMatMul"}
)


def normalise(proto: Any) -> Any:
    """Return ``proto`` (changed in place where it can be) with opset >= 13, named nodes and constants as initializers.

    A DequantizeLinear of constants (weights stored as integers) becomes the float weights it stands for. Raises
    ``ModelError`` when activations are quantized already, or when the opset cannot be raised.
    """
    _refuse_quantized(proto)
    _drop_constant_inputs(proto.graph)
    proto = _raise_opset(proto)
    _name_nodes(proto.graph)
    _store_constants(proto.graph)
    return proto


def _refuse_quantized(proto: Any) -> None:
    constants = {t.name for t in proto.graph.initializer}
    constants |= {n.output[0] for n in proto.graph.node if n.op_type == "Constant"}
    for node in proto.graph.node:
        dynamic = node.op_type == "DequantizeLinear" and not set(filter(None, node.input)) <= constants
        if dynamic or node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"the model is quantized already: the node {node.name or node.output[0]!r} is a {node.op_type}",
                hint="give the float model that it was made from, or keep this one as it is with --precision fp32",
            )


def _drop_constant_inputs(graph: Any) -> None:
    """Files of IR version 3 list initializers among the inputs as well; a quantized weight is not an input."""
    constants = {t.name for t in graph.initializer}
    kept = [value for value in graph.input if value.name not in constants]
    if len(kept) != len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def _raise_opset(proto: Any) -> Any:
    import onnx
    from onnx import version_converter

    standard = next((o for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    version = standard.version if standard is not None else 1
    if version >= LOWEST_OPSET:
        return proto
    weights, big = _take_weights(proto.graph)
    try:
        raised = version_converter.convert_version(proto, LOWEST_OPSET)
        onnx.checker.check_model(raised)
    except Exception as error:  # the converter raises RuntimeError, ValueError and its own ConvertError
        raise ModelError(
            f"the model has opset {version}, int8 needs {LOWEST_OPSET}, and it cannot be raised: {str(error)[:300]}",
            hint=f"export the model again with opset {LOWEST_OPSET} or higher",
        ) from error
    _return_weights(raised.graph, weights, big)
    return raised


# Weights of this many bytes or more are kept away from the converter, which cannot take messages of over 2 GB.
_BIG_BYTES = 1 << 20


def _take_weights(graph: Any) -> tuple[list[Any], set[str]]:
    """Replace large initializers by graph inputs of the same type; return them in order, and the names replaced."""
    from onnx import helper

    weights, big = [], set()
    kept = []
    for tensor in graph.initializer:
        if tensor.ByteSize() >= _BIG_BYTES:
            weights.append(tensor)
            big.add(tensor.name)
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            kept.append(tensor)
    if big:
        del graph.initializer[:]
        graph.initializer.extend(kept)
    return weights, big


def _return_weights(graph: Any, weights: list[Any], big: set[str]) -> None:
    kept = [value for value in graph.input if value.name not in big]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(weights)


def _name_nodes(graph: Any) -> None:
    """Give a unique name to every node that has none or one that was used before."""
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = _unused(node.name or f"{node.op_type}_{number}", seen)
        seen.add(node.name)


def _unused(name: str, seen: set[str]) -> str:
    if name not in seen:
        return name
    return next(f"{name}_{i}" for i in range(1, len(seen) + 2) if f"{name}_{i}" not in seen)


def _store_constants(graph: Any) -> None:
    """Turn Constant nodes, and Identity, Cast and DequantizeLinear of constants, into initializers."""
    constants = {t.name: t for t in graph.initializer}
    kept = []
    for node in graph.node:
        tensor = _constant_of(node, constants)
        if tensor is None or node.output[0] in {v.name for v in graph.output}:
            kept.append(node)
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        constants[tensor.name] = graph.initializer[-1]
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused(graph)


def _constant_of(node: Any, constants: dict[str, Any]) -> Any:
    """Return a TensorProto with the value of a node whose value is known, else None."""
    import onnx

    if node.op_type == "Constant":
        return _constant_value(node)
    names = [name for name in node.input if name]
    if not names or not all(name in constants for name in names):
        return None
    if node.op_type == "Identity":
        copy = onnx.TensorProto()
        copy.CopyFrom(constants[names[0]])
        return copy
    if node.op_type == "Cast" and node.domain in ("", "ai.onnx"):
        return _cast(node, constants[names[0]])
    return _dequantized(node, [to_array(constants[name]) for name in names]) if _is_dequantize(node) else None


def _cast(node: Any, tensor: Any) -> Any:
    """Return a constant in the type that a Cast makes of it; None for texts, and types that numpy does not have."""
    from onnx import helper, numpy_helper

    values, wanted = to_array(tensor), helper.tensor_dtype_to_np_dtype(attribute(node, "to"))
    if values.dtype.kind not in "biuf" or wanted.kind not in "biuf":
        return None
    return numpy_helper.from_array(values.astype(wanted))


def _is_dequantize(node: Any) -> bool:
    return bool(node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx"))


def _constant_value(node: Any) -> Any:
    """Return the TensorProto of a Constant node; None for the kinds that no weight has (strings, sparse)."""
    import onnx
    from onnx import numpy_helper

    value = attribute(node, "value")
    if isinstance(value, onnx.TensorProto):
        return value
    kinds = {"value_float": np.float32, "value_int": np.int64, "value_floats": np.float32, "value_ints": np.int64}
    for name, kind in kinds.items():
        found = attribute(node, name)
        if found is not None:
            return numpy_helper.from_array(np.asarray(found, kind))
    return None


def _dequantized(node: Any, values: list[Any]) -> Any:
    from onnx import numpy_helper

    data, scale = values[0], values[1]
    if attribute(node, "block_size", 0) or data.dtype.itemsize > 4 or data.dtype.kind not in "iu":
        return None
    shape = [1] * data.ndim
    if scale.ndim == 1 and scale.size > 1:
        shape[attribute(node, "axis", 1)] = scale.size
    zero = values[2].astype(np.int64).reshape(shape if values[2].size > 1 else ()) if len(values) > 2 else np.int64(0)
    scale = scale.reshape(shape if scale.size > 1 else ())
    return numpy_helper.from_array(((data.astype(np.int64) - zero) * scale).astype(np.float32))


def drop_unused(graph: Any) -> None:
    """Remove initializers that nothing uses, control flow bodies included."""
    used = {value.name for value in graph.output}
    used.update(name for node in graph.node for name in names_read(node))
    for number in reversed(range(len(graph.initializer))):  # one by one, since a copy of the kept ones may be GBs
        if graph.initializer[number].name not in used:
            del graph.initializer[number]
