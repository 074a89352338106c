"""Writes a model's protobuf message piece by piece, so that its weights are not held a second time."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from edgepack.graph import wire
from edgepack.graph.external import tensor_bytes
from edgepack.graph.walk import is_external

if TYPE_CHECKING:
    import onnx

_ALIGNMENT_BYTES = 4096  # a page, so that ONNX Runtime can map a tensor (onnx docs/ExternalData.md)
_STRING = 8  # onnx.TensorProto.STRING


def write_model(proto: onnx.ModelProto, file: IO[bytes]) -> None:
    """Write ``proto``; the same message gives the same bytes."""
    rest = without_initializers(proto)
    graph = rest.graph.SerializeToString(deterministic=True)
    rest.ClearField("graph")
    tensors = proto.graph.initializer
    file.write(rest.SerializeToString(deterministic=True))
    file.write(wire.graph_header(len(graph), [tensor.ByteSize() for tensor in tensors]))
    file.write(graph)
    for tensor in tensors:
        file.write(wire.initializer(tensor.SerializeToString(deterministic=True)))


def move_weights(proto: onnx.ModelProto, location: str, file: IO[bytes]) -> onnx.ModelProto:
    """Write the large initializers of the main graph to ``file`` and return a message that refers to ``location``."""
    result = without_initializers(proto)
    for tensor in proto.graph.initializer:
        result.graph.initializer.append(_moved(tensor, location, file))
    return result


def without_initializers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``proto`` but for the main graph's initializers."""
    import onnx

    result = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name != "graph":
            _set(result, field.name, value)
    result.graph.SetInParent()
    for field, value in proto.graph.ListFields():
        if field.name != "initializer":
            _set(result.graph, field.name, value)
    return result


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``proto`` whose large initializers are inputs of the same type and shape.

    Such a model passes through onnx's C++ tools cheaply, and a skeleton (``wire.py``) needs no file any more.
    """
    import onnx

    result = without_initializers(proto)
    known = {value.name for value in result.graph.input}
    for tensor in proto.graph.initializer:
        if not is_external(tensor) and (tensor.data_type == _STRING or tensor_bytes(tensor) <= wire.INLINE_BYTES):
            result.graph.initializer.append(tensor)
        elif tensor.name not in known:
            result.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return result


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Return the bytes of the main graph's initializers, strings not counted."""
    return sum(tensor_bytes(tensor) for tensor in proto.graph.initializer if tensor.data_type != _STRING)


def _moved(tensor: onnx.TensorProto, location: str, file: IO[bytes]) -> onnx.TensorProto:
    """Return ``tensor`` with its bytes written to the end of ``file``; a small one, or one of strings, as it is."""
    import onnx

    if tensor.data_type == _STRING or tensor_bytes(tensor) <= wire.INLINE_BYTES:
        return tensor
    data = tensor.raw_data or onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data
    file.seek(-(-file.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
    place = {"location": location, "offset": file.tell(), "length": len(data)}
    file.write(data)
    result = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    result.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        result.external_data.add(key=key, value=str(value))
    return result


def _set(message: object, name: str, value: object) -> None:
    """Set one field of a protobuf message, whatever its kind, to a copy of ``value``."""
    if isinstance(value, str | bytes | int | float):
        setattr(message, name, value)
    elif hasattr(value, "ListFields"):
        getattr(message, name).CopyFrom(value)
    else:
        getattr(message, name).extend(value)
