"""Writes what puts int64 in order so that ONNX Runtime compares whole numbers, not halves of them.

On x86, Min, Max, Clip, Sign, ReduceMax and ReduceMin of int64 (ONNX Runtime 1.31.1, all levels of optimization) compare
the upper 32 bits, and where these are equal the lower ones as if they had a sign: the least of 1 and 2^31 is 2^31
there, and the sign of 2^31 is -1. Less, Where and TopK are right, and so are all other types. What fits in 32 bits is
right everywhere, and so are ends such as the largest int64 beside it: these nodes stay as they are.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from edgepack.graph.check import check_graph, input_specs, propagate_shapes
from edgepack.graph.input_ranges import ranges_in
from edgepack.graph.integer_ranges import IntegerRange, IntegerRanges, all_of_type, stored_range, wrapped
from edgepack.graph.save import without_weights
from edgepack.graph.walk import all_graphs, has_bodies, is_external

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

_INT64, _BOOL = 7, 9  # TensorProto.DataType of onnx.proto
ORDERS = frozenset({"Clip", "Max", "Min", "ReduceMax", "ReduceMin", "Sign"})
_ZERO, _ONE = "edgepack_zero_int64", "edgepack_one_int64"
# TopK takes how many as an input, and Squeeze its axes, from here on.
LOWEST_OPSET = 13
_LEAST, _MOST = IntegerRange("int64", -(2**63), -(2**63)), IntegerRange("int64", 2**63 - 1, 2**63 - 1)


def order_int64(proto: onnx.ModelProto) -> int:
    """Write, in place, such nodes whose numbers could be taken for others by comparisons; return how many they are.

    A ReduceMax or ReduceMin stays whose axes are computed, or whose opset is below 13.
    """
    count = 0
    for node, graph, rank in list(_misordered(proto)):
        written = _write(node, rank, proto)
        if written is None:
            continue
        count += 1
        place = next(place for place, other in enumerate(graph.node) if other.output[0] == node.output[0])
        del graph.node[place]
        for offset, made in enumerate(written):
            graph.node.insert(place + offset, made)
    return count


def misordered(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield such nodes."""
    yield from (node for node, _, _ in _misordered(proto))


def _misordered(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, onnx.GraphProto, int | None]]:
    """Yield each node whose numbers could be taken for others, the graph that it stands in, and its input's rank."""
    if not _may_be_wide(proto):
        return
    types = _types(proto)
    ranges = IntegerRanges(proto, ranges_in(proto, input_specs(proto)), None)
    for graph in all_graphs(proto.graph):
        ranges.enter_stored(graph)
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                ranges.enter(node, None)
                continue
            if node.op_type in ORDERS and _is_int64(node, types, ranges) and _is_confused(node, ranges):
                kind = types.get(node.input[0])
                yield node, graph, len(kind.shape.dim) if kind is not None and kind.HasField("shape") else None
            result = ranges.result(node)
            ranges.enter(node, None if result is None else wrapped(result))


def _may_be_wide(proto: onnx.ModelProto) -> bool:
    """Say whether a graph may hold int64 that are neither sizes nor fit in 32 bits, before its types are inferred."""
    graphs = list(all_graphs(proto.graph))
    nodes = [node for graph in graphs for node in graph.node]
    if not any(node.op_type in ORDERS for node in nodes):
        return False
    if any(value.type.tensor_type.elem_type == _INT64 for value in proto.graph.input) or any(map(has_bodies, nodes)):
        return True
    stored = [tensor for graph in graphs for tensor in graph.initializer]
    stored += [a.t for node in nodes if node.op_type in ("Constant", "ConstantOfShape") for a in node.attribute]
    casts = any(node.op_type in ("Cast", "CastLike") and _casts_to_int64(node) for node in nodes)
    return casts or any(t.data_type == _INT64 and not _fits(t) for t in stored)


def _casts_to_int64(node: onnx.NodeProto) -> bool:
    return node.op_type == "CastLike" or any(a.name == "to" and a.i == _INT64 for a in node.attribute)


def _fits(tensor: onnx.TensorProto) -> bool:
    found = stored_range(tensor)
    return found.fits if found is not None else not is_external(tensor)


def _types(proto: onnx.ModelProto) -> Mapping[str, onnx.TypeProto.Tensor]:
    inferred = propagate_shapes(check_graph(without_weights(proto)))
    return {
        value.name: value.type.tensor_type
        for graph in all_graphs(inferred.graph)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _is_int64(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto.Tensor], ranges: IntegerRanges) -> bool:
    kinds = [types[name].elem_type for name in (node.output[0], node.input[0]) if name in types]
    known = ranges.of(node.input[0])
    return kinds[0] == _INT64 if kinds else known is not None and known.kind == "int64"


def _is_confused(node: onnx.NodeProto, ranges: IntegerRanges) -> bool:
    given = [ranges.of(name) or all_of_type("int64") for name in node.input if name]
    if node.op_type == "Sign":
        return _may_confuse(given[0], IntegerRange("int64", 0, 0))
    if node.op_type in ("ReduceMax", "ReduceMin"):
        first = _LEAST if node.op_type == "ReduceMax" else _MOST
        return _may_confuse(given[0], given[0]) or _may_confuse(given[0], first)
    return any(itertools.starmap(_may_confuse, itertools.combinations(given, 2)))


def _may_confuse(one: IntegerRange, other: IntegerRange) -> bool:
    """Say whether numbers of two ranges can have equal upper halves and lower ones of different highest bits."""
    first, last = max(one.low >> 32, other.low >> 32), min(one.high >> 32, other.high >> 32)
    if last - first > 1:
        return True
    for upper in range(first, last + 1):
        (low, high), (low_of_other, high_of_other) = (_bits(found, upper) for found in (one, other))
        if (low and high_of_other) or (high and low_of_other):
            return True
    return False


def _bits(found: IntegerRange, upper: int) -> tuple[bool, bool]:
    """Say whether a range has numbers of an upper half whose lower half's highest bit is 0, and is 1."""
    start = upper << 32
    middle, end = start + 2**31, start + 2**32
    return found.low < middle and found.high >= start, found.low < end and found.high >= middle


def _write(node: onnx.NodeProto, rank: int | None, proto: onnx.ModelProto) -> list[onnx.NodeProto] | None:
    """Return what stands for a node; None where it stays. An end at the type's own end is left out."""
    writer = _Writer(node, proto)
    if node.op_type in ("Max", "Min"):
        last = node.input[0]
        for name in node.input[1:]:
            last = writer.extreme(last, name, least=node.op_type == "Min")
    elif node.op_type == "Clip":
        last = node.input[0]
        for name, least in zip(node.input[1:], (False, True), strict=False):
            last = writer.extreme(last, name, least=least) if name else last
    elif node.op_type == "Sign":
        last = node.input[0]
        zero = _constant(proto, _ZERO, [0], ())
        above, below = (writer.add("Less", names) for names in ((zero, last), (last, zero)))
        writer.add("Sub", [writer.add("Cast", [name], to=_INT64) for name in (above, below)])
    else:
        axes = _axes(node, rank, proto)
        if axes is None:
            return None
        last = node.input[0]
        one = _constant(proto, _ONE, [1], (1,))
        for axis in axes:
            last = writer.add("TopK", [last, one], axis=axis, largest=int(node.op_type == "ReduceMax"))
            writer.nodes[-1].output.append(f"{last}_places")
        if axes and not _number(node, "keepdims", 1):
            writer.add("Squeeze", [last, _constant(proto, f"{node.output[0]}_axes", list(axes), (len(axes),))])
    if not writer.nodes:
        writer.add("Identity", [last])
    writer.nodes[-1].output[0] = node.output[0]
    return writer.nodes


class _Writer:
    """Collects the nodes that stand for one."""

    def __init__(self, node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
        self._node, self._proto = node, proto
        self.nodes: list[onnx.NodeProto] = []

    def extreme(self, one: str, other: str, *, least: bool) -> str:
        """Return the lesser or greater of two tensors, which may be of other sizes, as Min and Max take them."""
        end = _MOST if least else _LEAST
        for name, left in ((other, one), (one, other)):
            tensor = _find_stored(self._proto, name)
            if tensor is not None and not tensor.dims and stored_range(tensor) == end:
                return left
        less = self.add("Less", [other, one] if least else [one, other])
        return self.add("Where", [less, other, one])

    def add(self, operator: str, inputs: Sequence[str], **attributes: object) -> str:
        from onnx import helper

        made = f"{self._node.output[0]}_whole_{len(self.nodes)}"
        name = f"{self._node.name or self._node.output[0]}_whole_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [made], name, **attributes))
        return made


def _axes(node: onnx.NodeProto, rank: int | None, proto: onnx.ModelProto) -> Sequence[int] | None:
    """Return the axes that a ReduceMax or ReduceMin goes over; None where they, or what they need, are not known."""
    from onnx import numpy_helper

    if next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")) < LOWEST_OPSET:
        return None
    named = [list(a.ints) for a in node.attribute if a.name == "axes"]
    if len(node.input) > 1 and node.input[1]:
        tensor = _find_stored(proto, node.input[1])
        if tensor is None:
            return None
        named = [[int(axis) for axis in numpy_helper.to_array(tensor).reshape(-1)]]
    if named and named[0]:
        return sorted(named[0])
    if _number(node, "noop_with_empty_axes", 0):
        return ()
    return None if rank is None else range(rank)


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _find_stored(proto: onnx.ModelProto, name: str) -> onnx.TensorProto | None:
    graphs = list(all_graphs(proto.graph))
    for tensor in (tensor for graph in graphs for tensor in graph.initializer):
        if tensor.name == name:
            return tensor
    made = (node for graph in graphs for node in graph.node if node.op_type == "Constant" and name in node.output)
    return next((a.t for node in made for a in node.attribute if a.name == "value"), None)


def _constant(proto: onnx.ModelProto, name: str, values: list[int], shape: tuple[int, ...]) -> str:
    """Return the name of a stored tensor of int64, of which one is enough."""
    import numpy as np
    from onnx import numpy_helper

    if all(tensor.name != name for tensor in proto.graph.initializer):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64).reshape(shape), name))
    return name
