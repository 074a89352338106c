"""Keeps int8 dense layers without a bias out of the kernel in which OpenVINO 2026.4 computes several at once.

For a fixed batch of few samples (up to 8 with one thread; 4, 6 and 8 with two) layers of two axes that follow each
other become one generated kernel, and the scale of a layer without a bias is lost in it: answers 10^9 times too large,
in fp32 and in layers with a bias none (32 small networks, a 2-core AMD EPYC VM with AVX-512 and VNNI). It is made of
layers of two axes alone: with a leading axis of 1 the layers are computed one by one, as they are for other batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    import onnx

# What the scale of a layer is carried through, up to the next layer.
_BETWEEN = frozenset({"Clip", "DequantizeLinear", "Identity", "Mul", "QuantizeLinear", "Relu"})
_AXES = "edgepack_leading_axis"
_RANK = 2


def part_sequences(proto: onnx.ModelProto) -> int:
    """Give int8 layers without a bias that another one follows a leading axis, up to the last; return how many do."""
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for graph in all_graphs(proto.graph)
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }
    return sum(_part(graph, ranks) for graph in all_graphs(proto.graph))


def _part(graph: onnx.GraphProto, ranks: dict[str, int]) -> int:
    import numpy as np
    from onnx import numpy_helper

    parted = 0
    done: set[str] = set()
    while (layers := _next_sequence(_Reader(graph, ranks), done)) is not None:
        done |= {layer.output[0] for layer in layers}
        names = [layer.output[0] for layer in layers]
        for name in names:
            _write_as_product(graph, name)
        _put_between_axes(graph, names[0], names[-1])
        parted += len(layers)
    if parted:
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), _AXES))
        del graph.value_info[:]  # their shapes are those of before
    return parted


class _Reader:
    """What makes and what reads each tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto, ranks: dict[str, int]) -> None:
        self.graph, self._ranks = graph, ranks
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._users.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Return whether a node multiplies what has two axes, or an unknown number, by dequantized weights."""
        weights = self._producers.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        numbers = {a.name: a.f if a.name in ("alpha", "beta") else a.i for a in node.attribute}
        plain = numbers.get("alpha", 1) == numbers.get("beta", 1) == 1 and not numbers.get("transA")
        two = self._rank(node.input[0]) == _RANK
        return weights is not None and weights.op_type == "DequantizeLinear" and plain and two

    def _rank(self, name: str) -> int:
        """Return how many axes a tensor has, by what it was made of where nothing says it; two where nothing does."""
        while name not in self._ranks and name in self._producers and self._producers[name].input:
            name = self._producers[name].input[0]
        return self._ranks.get(name, _RANK)

    def next_layer(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the layer that alone reads what a layer without a bias makes, through what hands its scale on."""
        if node.op_type == "Gemm" and len(node.input) > _RANK and node.input[2]:
            return None
        name = node.output[0]
        while name not in self._outputs and len(users := self._users.get(name, [])) == 1:
            user = users[0]
            if self.is_layer(user):
                return user if user.input[0] == name else None
            if user.op_type not in _BETWEEN or user.input[0] != name:
                return None
            name = user.output[0]
        return None


def _next_sequence(reader: _Reader, done: set[str]) -> list[onnx.NodeProto] | None:
    """Return the layers from a first one without a bias to the last that follows such a one."""
    for node in reader.graph.node:
        if node.output[0] in done or not reader.is_layer(node):
            continue
        layers = [node]
        while (follower := reader.next_layer(layers[-1])) is not None:
            layers.append(follower)
        if len(layers) > 1:
            return layers
    return None


def _place(graph: onnx.GraphProto, name: str) -> int:
    return next(place for place, node in enumerate(graph.node) if node.output[0] == name)


def _put_between_axes(graph: onnx.GraphProto, first: str, last: str) -> None:
    """Give the layer that makes ``first`` a leading axis to read, and take it from what makes ``last``."""
    from onnx import helper

    layer, name = graph.node[_place(graph, first)], f"{first}_with_axis"
    source, layer.input[0] = layer.input[0], name
    graph.node.insert(_place(graph, first), helper.make_node("Unsqueeze", [source, _AXES], [name], name=name))
    place, name = _place(graph, last), f"{last}_with_axis_still"
    graph.node[place].output[0] = name
    graph.node.insert(place + 1, helper.make_node("Squeeze", [name, _AXES], [last], name=f"{last}_without_axis"))


def _write_as_product(graph: onnx.GraphProto, result: str) -> None:
    """Write a Gemm as a MatMul and an Add, which take any number of axes."""
    from onnx import helper

    place = _place(graph, result)
    node = graph.node[place]
    if node.op_type != "Gemm":
        return
    weights, bias = node.input[1], node.input[2] if len(node.input) > _RANK else ""
    made = []
    if any(a.name == "transB" and a.i for a in node.attribute):
        made.append(
            helper.make_node("Transpose", [weights], [f"{result}_turned"], perm=[1, 0], name=f"{result}_turned")
        )
        weights = f"{result}_turned"
    product = f"{result}_product" if bias else result
    made.append(helper.make_node("MatMul", [node.input[0], weights], [product], name=node.name))
    if bias:
        made.append(helper.make_node("Add", [product, bias], [result], name=f"{result}_biased"))
    del graph.node[place]
    for offset, one in enumerate(made):
        graph.node.insert(place + offset, one)
