"""Products of whole numbers that OpenVINO 2026.4 computes in 32 bits though ONNX says 64, and so cuts off soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.walk import all_graphs, describe_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

_PRODUCTS = ("ReduceProd", "ReduceSumSquare")
_WIDE = {7: "int64", 13: "uint64"}  # TensorProto.INT64 and UINT64 of onnx.proto
# Where a search for data ends: what these make are sizes of tensors, or does not depend on any input.
_SIZES = ("Shape", "Size", "Constant")


def wide_products(proto: onnx.ModelProto) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with products over axes of 64-bit numbers that are data, the node's name, and what to do.

    Products of sizes are left alone, which stay far below 2^31, and tensors whose type the graph does not say.
    """
    graphs = list(all_graphs(proto.graph))
    made = {name: node for graph in graphs for node in graph.node for name in node.output}
    types = {
        value.name: value.type.tensor_type.elem_type
        for graph in graphs
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    given = {value.name for graph in graphs for value in graph.input}
    given -= {tensor.name for graph in graphs for tensor in graph.initializer}
    for node in (node for graph in graphs for node in graph.node if node.op_type in _PRODUCTS):
        kind = types.get(node.input[0], types.get(node.output[0]))
        if kind in _WIDE and _is_data(node.input[0], made, given):
            message = f"OpenVINO computes {node.op_type} of {_WIDE[kind]} in 32 bits: what is beyond 2^31 is cut off"
            yield message, describe_node(node), "use a target with another engine"


def _is_data(name: str, made: Mapping[str, onnx.NodeProto], given: set[str]) -> bool:
    """Say whether a value depends on what the model or a graph inside it is given, other than on its shape."""
    waiting, seen = [name], {name}
    while waiting:
        one = waiting.pop()
        if one in given:
            return True
        node = made.get(one)
        if node is None or node.op_type in _SIZES:
            continue
        more = [other for other in node.input if other and other not in seen]
        seen.update(more)
        waiting += more
    return False
