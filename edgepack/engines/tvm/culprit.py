"""Finds the node for which TVM refuses a graph: its own words seldom name one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgepack.graph.walk import describe_node, has_bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

_MOST_S = 60.0


def find_culprit(
    proto: onnx.ModelProto,
    types: Mapping[str, int],
    shapes: Mapping[str, tuple[int | str, ...]],
    attempt: Callable[[onnx.ModelProto], object],
    most_s: float = _MOST_S,
) -> tuple[str, str, Exception] | None:
    """Return the first node that ``attempt`` refuses alone, with its operator and the error; None where there is none.

    Each kind of node is tried once, with the types and shapes that it has here, for ``most_s`` seconds in all.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    tried: set[bytes] = set()
    end = time.monotonic() + most_s
    for node in proto.graph.node:
        kind = _kind(node, types, shapes, stored)
        if kind in tried or time.monotonic() > end:
            continue
        tried.add(kind)
        alone = _alone(proto, node, types, shapes, stored)
        if alone is None:
            continue
        try:
            attempt(alone)
        except Exception as error:  # whatever it raises is what is asked for
            return describe_node(node), node.op_type, error
    return None


def _kind(
    node: onnx.NodeProto,
    types: Mapping[str, int],
    shapes: Mapping[str, tuple[int | str, ...]],
    stored: Mapping[str, onnx.TensorProto],
) -> bytes:
    import onnx

    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.ClearField("name")
    del bare.input[:], bare.output[:]
    facts = [(types.get(n), shapes.get(n), n in stored) if n else None for n in node.input]
    text: bytes = bare.SerializeToString(deterministic=True)
    return text + repr((facts, len(node.output))).encode()


def _alone(
    proto: onnx.ModelProto,
    node: onnx.NodeProto,
    types: Mapping[str, int],
    shapes: Mapping[str, tuple[int | str, ...]],
    stored: Mapping[str, onnx.TensorProto],
) -> onnx.ModelProto | None:
    """Return a model of one node; None where an input's type or shape is not known, or it holds graphs."""
    import onnx

    names = dict.fromkeys(name for name in node.input if name)
    fed = [name for name in names if name not in stored]
    if has_bodies(node):
        return None
    if any(name not in types or name not in shapes for name in fed):
        return None
    inputs = [onnx.helper.make_tensor_value_info(name, types[name], shapes[name]) for name in fed]
    outputs = [
        onnx.helper.make_tensor_value_info(name, types[name], shapes.get(name)) for name in node.output if name in types
    ]
    if not outputs:
        return None
    weights = [stored[name] for name in names if name in stored]
    graph = onnx.helper.make_graph([node], "alone", inputs, outputs, weights)
    return onnx.helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=proto.ir_version)
