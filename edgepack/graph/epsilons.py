"""Writes the epsilon of a norm where ONNX Runtime looks for it: behind the variance that it is added to.

The fusions of layer norms (layer_norm_fusion.cc, ONNX Runtime 1.31.1 and older, from the level "basic" on) read the
epsilon from the second input of the Add alone. Of ``epsilon + variance`` they make a norm with 1e-5, whatever was said,
which answers otherwise where the variance is small. A sum is the same both ways round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    import onnx

_ROOTS = ("Sqrt", "Pow")


def put_epsilons_last(proto: onnx.ModelProto) -> int:
    """Exchange, in place, the inputs of each Add in front of a root whose first one is constant; return how many."""
    return sum(_put(graph) for graph in all_graphs(proto.graph))


def _put(graph: onnx.GraphProto) -> int:
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    rooted = {node.input[0] for node in graph.node if node.op_type in _ROOTS and node.input}
    count = 0
    for node in graph.node:
        if node.op_type != "Add" or len(node.input) != 2 or node.output[0] not in rooted:
            continue
        first, second = node.input
        if first in constants and second not in constants:
            node.input[0], node.input[1] = second, first
            count += 1
    return count
