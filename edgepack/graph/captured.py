"""Keeps ONNX Runtime's optimizer from ending the process at int8 graphs whose tensors branches and loops capture.

ONNX Runtime 1.31.1 moves a DequantizeLinear past nodes that only move data. Where the graph of an If, Loop or Scan
reads what such a node makes, it looks for that reader among the inputs that nodes list, finds none, and indexes out of
bounds: the process is aborted (measured: 232 of 768 graphs made of Reshape, Transpose, MaxPool, Slice and Unsqueeze
behind a DequantizeLinear, and of If and Loop; none where a Sum of the one tensor stands between).

Graphs that edgepack writes get that Sum, for those who load them by themselves. Where edgepack loads a graph, which may
be anybody's, the optimizer is left out (measured: 30 of 50 graphs end the process in ONNX Runtime 1.20.1, 1.22.1,
1.24.1 and 1.31.1, at each level of optimization, and none without it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.graph.walk import all_graphs, bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.graph.wire import Named

BRANCHES = ("If", "Loop", "Scan")
DEQUANTIZE = "DequantizeLinear"
# onnxruntime_session_options_config_keys.h: optimizers by name, with a semicolon between them.
LEFT_OUT = ("optimization.disable_specified_optimizers", "QDQPropagationTransformer")
# Nodes that only move data: Q/DQ are moved past them (qdq_propagation.cc).
MOVES = frozenset(
    {
        "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_KEPT = "_captured"


def leave_out(options: Any, named: Named) -> None:
    """Leave the optimizer out of a session's options for a graph that has both dequantized tensors and branches."""
    if DEQUANTIZE in named.operators and not named.operators.isdisjoint(BRANCHES):
        options.add_session_config_entry(*LEFT_OUT)


def keep_captured(proto: onnx.ModelProto) -> int:
    """Put a Sum of one before each tensor that an inner graph captures from nodes that move a dequantized one.

    The model is changed in place, and computes the same; returns how many tensors were found. Names of tensors that the
    model's outputs have stay.
    """
    return sum(_keep(graph) for graph in tuple(all_graphs(proto.graph)))


def _keep(graph: onnx.GraphProto) -> int:
    """Rewrite what the inner graphs of one graph capture from it."""
    producers = {name: node for node in graph.node for name in node.output if name}
    inner = [one for node in graph.node for one in bodies(node)]
    used = dict.fromkeys(name for one in inner for name in _captured(one))
    found = [name for name in used if name in producers and _is_moved(name, producers)]
    taken = {name for one in all_graphs(graph) for node in one.node for name in (*node.input, *node.output)}
    names = {name: _fresh(name, taken) for name in found}
    for one in inner:
        _rename(one, names)
    for name, kept in names.items():
        _insert(graph, producers[name], name, kept)
    return len(names)


def _is_moved(name: str, producers: dict[str, onnx.NodeProto]) -> bool:
    """Return whether a tensor was moved, by one node or several, since it was dequantized."""
    node = producers[name]
    if node.op_type not in MOVES or not node.input:
        return False
    before = producers.get(node.input[0])
    return before is not None and (before.op_type == DEQUANTIZE or _is_moved(node.input[0], producers))


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that a graph and those inside it read and do not make."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in node.input if name and name not in own)
        for one in bodies(node):
            yield from (name for name in _captured(one) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Read other tensors of the outer graph, here and further inside; what a graph calls by such a name is its own."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    names = {name: kept for name, kept in names.items() if name not in own}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for one in bodies(node):
            _rename(one, names)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _insert(graph: onnx.GraphProto, producer: onnx.NodeProto, name: str, kept: str) -> None:
    from onnx import helper

    place = next(place for place, node in enumerate(graph.node) if producer.output[0] in node.output)
    graph.node.insert(place + 1, helper.make_node("Sum", [name], [kept], name=kept))


def _fresh(name: str, taken: set[str]) -> str:
    kept = name + _KEPT
    while kept in taken:
        kept += "_"
    taken.add(kept)
    return kept
