"""Multiplications by a constant for each channel around activations, through which channels change their scale.

No scale of a channel passes SiLU, hard-swish or GELU. Two multiplications make it free: one behind the activation
brings in a scale that the layers reading it take out again, one in front takes out the scale that the layer before it
brought in. The first is SmoothQuant's "activation smoothing" (Xiao et al. 2022, section 4), here for convolutions too:
a depthwise one takes out any scale at no cost. They begin as ones; what is not worth its time is removed again.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.int8 import COMPUTES, WEIGHTED
from edgepack.quantize.correct.channel_groups import Gates, find_channels
from edgepack.quantize.graph.activations import Activation, find_activations
from edgepack.quantize.graph.index import GraphIndex, index_graph
from edgepack.quantize.graph.names import Names
from edgepack.quantize.graph.rewrite import shapes_of

if TYPE_CHECKING:
    from edgepack.quantize.plan import Plan


def open_gates(proto: Any, plan: Plan) -> Gates:
    """Put multiplications by one around the activations of ``proto``, a copy of ``plan``'s graph, in place."""
    index = index_graph(proto)
    free = find_channels(index, shapes_of(proto)).numbers
    activations = find_activations(index)
    exits = _exit_places(index, plan, free.keys())
    entries = _entry_places(index, plan, tuple(a for a in activations if a.source not in free))
    writer = _Writer(proto, index)
    made = {tensor: (writer.put(tensor, users), axis) for tensor, (axis, users) in exits.items()}
    passed = frozenset(writer.put(tensor, users).name for tensor, users in entries.items())
    writer.finish()
    return Gates(
        {node.name: axis for node, axis in made.values()},
        passed,
        {tensor: node.output[0] for tensor, (node, _) in made.items()},
    )


def close_gates(proto: Any, names: set[str]) -> None:
    """Remove the multiplications ``names`` of ``proto`` again, in place."""
    graph = proto.graph
    closed = [node for node in graph.node if node.name in names]
    replaced = {node.output[0]: node.input[0] for node in closed}
    constants = {node.input[1] for node in closed}
    kept = [node for node in graph.node if node.name not in names]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = replaced.get(name, name)
    remaining = [tensor for tensor in graph.initializer if tensor.name not in constants]
    values = [value for value in graph.value_info if value.name not in replaced]
    for items, new in ((graph.node, kept), (graph.initializer, remaining), (graph.value_info, values)):
        del items[:]
        items.extend(new)


def _exit_places(index: GraphIndex, plan: Plan, free: Set[str]) -> dict[str, tuple[int, list[int]]]:
    """Return the tensors that may be scaled where they are quantized: axis of the channels, and who reads them in int8.

    They are made in float, or by operators that can as well be computed in float: behind an operator that the engine
    runs in int8 only with its output quantized, they would be quantized twice.
    """
    shapes = shapes_of(plan.proto)
    places: dict[str, tuple[int, list[int]]] = {}
    for tensor in plan.placement.scales:
        number = index.producer.get(tensor)
        if tensor in free or number is None or tensor in index.inner or tensor in index.outputs:
            continue
        made_float = tensor in plan.placement.kept_float or index.nodes[number].op_type in COMPUTES
        shape = shapes.get(tensor, [])
        users = [user for user in index.users(tensor) if user in plan.placement.nodes]
        if not made_float or len(shape) < 2 or not users:
            continue
        axis = 1 if _feeds_convolution(index, tensor) else len(shape) - 1
        if shape[axis] > 0:
            places[tensor] = axis, users
    return places


def _feeds_convolution(index: GraphIndex, tensor: str) -> bool:
    """Say whether the nearest operator with weights that reads what is made of ``tensor`` is a convolution."""
    front, seen = [tensor], {tensor}
    while front:
        users = [user for name in front for user in index.users(name)]
        kinds = {index.nodes[user].op_type for user in users} & WEIGHTED
        if kinds:
            return bool(kinds & {"Conv", "ConvTranspose"})
        front = [name for user in users for name in index.nodes[user].output if name not in seen]
        seen.update(front)
    return False


def _entry_places(index: GraphIndex, plan: Plan, activations: tuple[Activation, ...]) -> dict[str, list[int]]:
    """Return the quantized results of layers that activations read, with the activations' nodes that read them."""
    places: dict[str, list[int]] = {}
    for activation in activations:
        number = index.producer.get(activation.source)
        made = number is not None and index.nodes[number].op_type in WEIGHTED and number in plan.placement.nodes
        if made and activation.source in plan.placement.scales:
            places[activation.source] = [u for u in index.users(activation.source) if u in activation.nodes]
    return places


class _Writer:
    """Collects new nodes and puts each in front of the first that reads it."""

    def __init__(self, proto: Any, index: GraphIndex) -> None:
        self._graph, self._index = proto.graph, index
        self._ranks = {name: len(shape) for name, shape in shapes_of(proto).items()}
        self._names = Names(proto.graph)
        self._before: dict[int, list[Any]] = {}

    def put(self, tensor: str, users: list[int]) -> Any:
        """Let ``users`` read ``tensor`` times a constant of ones; return the multiplication."""
        from onnx import helper, numpy_helper

        constant, result = self._names.new(f"{tensor}_channel_scale"), self._names.new(f"{tensor}_scaled")
        ones = np.ones([1] * self._ranks.get(tensor, 1), np.float32)
        self._graph.initializer.append(numpy_helper.from_array(ones, constant))
        node = helper.make_node("Mul", [tensor, constant], [result], name=self._names.new(f"{tensor}_Scale"))
        for user in users:
            read = self._index.nodes[user].input
            for i, name in enumerate(read):
                read[i] = result if name == tensor else name
        self._before.setdefault(min(users), []).append(node)
        known = next((v for v in [*self._graph.value_info, *self._graph.input] if v.name == tensor), None)
        if known is not None:
            info = self._graph.value_info.add()
            info.CopyFrom(known)
            info.name = result
        return node

    def finish(self) -> None:
        """Write the new nodes into the graph."""
        nodes = [part for n, node in enumerate(self._graph.node) for part in (*self._before.get(n, ()), node)]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
