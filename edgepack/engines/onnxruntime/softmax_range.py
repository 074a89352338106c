"""Keeps a Softmax whose stored range ends below 1 from being computed in int8: ONNX Runtime makes 0 of what is beyond.

Measured with 1.31.1: between a DequantizeLinear and a QuantizeLinear it becomes QLinearSoftmax, whose bytes wrap around
instead of ending at 255. So does the 1 of a Softmax over a single value, whatever the range. Behind a Max with
-infinity, which changes no value, they are cut off as ONNX says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.engines.common.lowest import make_max, store_lowest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

# What is stored up to here does not wrap.
_ENOUGH = 0.99


def keep_saturating(proto: onnx.ModelProto) -> int:
    """Put a Max behind every Softmax of the main graph that would wrap around; return how many there were."""
    graph = proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    probabilities = {
        node.output[0]: place
        for place, node in enumerate(graph.node)
        if node.op_type == "Softmax" and node.input[0] in dequantized
    }
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    single = {name for name, place in probabilities.items() if _is_single(graph.node[place], shapes.get(name))}
    found = [
        node
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        and node.input[0] in probabilities
        and (node.input[0] in single or _end(node, stored) < _ENOUGH)
    ]
    made = {}
    for node in found:
        source = node.input[0]
        node.input[0] = f"{source}_whole"
        made[probabilities[source]] = make_max(source, node.input[0], node.input[0])
    for place in sorted(made, reverse=True):
        graph.node.insert(place + 1, made[place])
    if made:
        store_lowest(graph)
    return len(made)


def _is_single(softmax: onnx.NodeProto, shape: Sequence[onnx.TensorShapeProto.Dimension] | None) -> bool:
    """Say whether a Softmax is surely over one value."""
    axis = next((attribute.i for attribute in softmax.attribute if attribute.name == "axis"), -1)
    return shape is not None and len(shape) > 0 and shape[axis].dim_value == 1


def _end(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> float:
    """Return the largest value that a QuantizeLinear stores; 0 where it is not known."""
    from onnx import numpy_helper

    if any(name not in stored for name in node.input[1:]):
        return 0.0
    scale = numpy_helper.to_array(stored[node.input[1]])
    zero = numpy_helper.to_array(stored[node.input[2]]) if len(node.input) > 2 else np.zeros((), np.uint8)
    return (
        float(np.min(scale * (np.iinfo(zero.dtype).max - zero.astype(np.float64)))) if zero.dtype.kind in "iu" else 1.0
    )
