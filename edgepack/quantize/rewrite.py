"""Rewrites what an engine would otherwise take out of int8: the same computation in a form that it recognises."""

from __future__ import annotations

from typing import Any

from edgepack.quantize.index import GraphIndex, index_graph


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
    values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    return {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}
