"""Rewrites what an engine would otherwise take out of int8: the same computation in a form that it recognises."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.quantize.graph.index import GraphIndex, attribute, drop_attribute, index_graph, to_array
from edgepack.quantize.graph.names import Names


def join_biases(proto: Any) -> None:
    """Turn a matrix product of 2-D activations and the addition of its bias into one Gemm, in place.

    ONNX Runtime makes the same Gemm for itself when it loads a model, but then its bias is float and the Gemm is not
    run in int8 (seen in the optimized graph of 1.31).
    """
    index = index_graph(proto)
    ranks = _ranks(proto)
    dropped: list[int] = []
    for node in index.nodes:
        user = index.sole_user(node.output[0]) if node.op_type == "MatMul" else None
        if user is None or index.nodes[user].op_type != "Add" or ranks.get(node.input[0]) != 2:
            continue
        added = [name for name in index.nodes[user].input if name != node.output[0]]
        if len(added) == 1 and _is_bias(index, node, added[0]):
            node.op_type = "Gemm"
            node.input.append(added[0])
            node.output[0] = index.nodes[user].output[0]
            dropped.append(user)
    for user in sorted(dropped, reverse=True):
        del proto.graph.node[user]


def widen_vectors(proto: Any) -> None:
    """Turn a matrix product with a constant vector into one with a matrix of one column, in place.

    torch writes ``scores = hidden @ v`` like this; quantization knows matrices.
    """
    from onnx import helper, numpy_helper

    index = index_graph(proto)
    names = Names(proto.graph)
    nodes = []
    for node in index.nodes:
        nodes.append(node)
        vector = index.constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if vector is None or len(vector.dims) != 1:
            continue
        column = numpy_helper.from_array(to_array(vector)[:, None].copy(), names.new(f"{vector.name}_column"))
        axis = numpy_helper.from_array(np.array([-1]), names.new(f"{vector.name}_axis"))
        proto.graph.initializer.extend([column, axis])
        result = node.output[0]
        node.input[1], node.output[0] = column.name, names.new(f"{result}_column")
        nodes.append(
            helper.make_node("Squeeze", [node.output[0], axis.name], [result], name=names.new(f"{result}_Squeeze"))
        )
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def replace_averages(proto: Any, numbers: frozenset[int]) -> bool:
    """Turn the AveragePool nodes among ``numbers`` into what engines run fast in int8; say whether there were any.

    Over the whole picture: GlobalAveragePool. Else a depthwise convolution with equal weights, which int8 stores
    exactly. ONNX Runtime 1.31 takes 20 times as long for an int8 AveragePool as for a float one (48 x 46 x 46, 3 x 3).
    """
    shapes = shapes_of(proto)
    changed = False
    for number in sorted(numbers):
        node = proto.graph.node[number]
        if node.op_type == "AveragePool" and (shape := shapes.get(node.input[0])) is not None:
            changed |= _to_global(node, shape) or _to_convolution(proto.graph, node, shape)
    return changed


def _to_global(node: Any, shape: list[int]) -> bool:
    kernel, pads = attribute(node, "kernel_shape"), attribute(node, "pads", [0])
    if list(kernel) != shape[2:] or any(pads) or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    node.op_type = "GlobalAveragePool"
    del node.attribute[:]
    return True


def _to_convolution(graph: Any, node: Any, shape: list[int]) -> bool:
    from onnx import helper, numpy_helper

    channels, kernel = shape[1], attribute(node, "kernel_shape")
    inside = not any(attribute(node, "pads", [0])) and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    if channels < 1 or attribute(node, "ceil_mode", 0) or not (inside or attribute(node, "count_include_pad", 0)):
        return False
    weight = np.full((channels, 1, *kernel), 1 / np.prod(kernel), np.float32)
    name = f"{node.output[0]}_average"
    graph.initializer.append(numpy_helper.from_array(weight, name))
    node.op_type = "Conv"
    drop_attribute(node, "ceil_mode")
    drop_attribute(node, "count_include_pad")
    node.attribute.append(helper.make_attribute("group", channels))
    node.input.append(name)
    return True


def _is_bias(index: GraphIndex, node: Any, name: str) -> bool:
    """Say whether ``name`` is a constant with one number for each column of the weights of ``node``."""
    if not index.is_constant(name) or not index.is_constant(node.input[1]):
        return False
    weight, bias = index.constants[node.input[1]], index.constants[name]
    if len(weight.dims) != 2 or weight.data_type != bias.data_type:
        return False
    return list(bias.dims) in ([weight.dims[1]], [1, weight.dims[1]])


def _ranks(proto: Any) -> dict[str, int]:
    """Return the number of dimensions of the tensors for which the model says it."""
    return {name: len(shape) for name, shape in shapes_of(proto).items()}


def shapes_of(proto: Any) -> dict[str, list[int]]:
    """Return the shapes that the model states; a dimension that is not a number is 0."""
    values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    known = [v for v in values if v.type.tensor_type.HasField("shape")]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
