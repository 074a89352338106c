"""A Max with -infinity, which changes no value: engines end or begin their int8 arithmetic there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_LOWEST = "edgepack_lowest"


def make_max(source: str, result: str, name: str) -> onnx.NodeProto:
    """Return the Max of a float32 tensor and -infinity; ``store_lowest`` goes with it."""
    from onnx import helper

    return helper.make_node("Max", [source, _LOWEST], [result], name=name)


def is_max(node: onnx.NodeProto) -> bool:
    """Say whether a node is one of ``make_max``."""
    return node.op_type == "Max" and _LOWEST in node.input


def store_lowest(graph: onnx.GraphProto) -> None:
    """Store -infinity in a graph, once."""
    import numpy as np
    from onnx import numpy_helper

    if all(tensor.name != _LOWEST for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(-np.inf, np.float32), _LOWEST))
