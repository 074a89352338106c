"""How large a model's whole numbers can become: the range of every integer, followed from node to node.

What an input is of which nothing is known, ``most`` says: an engine's own measure, or all that its type holds (None).
Sizes, positions and what is computed of them alone address memory: they fit in 32 bits, whatever is multiplied.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from edgepack.graph.input_ranges import InputRange

LOWEST, HIGHEST = -(2**31), 2**31 - 1
UNSIGNED = ("uint32", "uint64")
WIDE = ("int64", *UNSIGNED)
COMPARES = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf")
_SIZE = 2**10  # that a size, position or free axis is taken for where it is multiplied with a number of which no more
# is known than what it is taken for
# TensorProto.DataType of onnx.proto
INTEGERS = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 12: "uint32", 13: "uint64",
}  # fmt: skip
_LONG = ("int64", "uint64")
# Operators that hand values on, and of which inputs.
_MOVES = {
    "Compress": 1, "DepthToSpace": 1, "Expand": 1, "Flatten": 1, "Gather": 1, "GatherElements": 1, "GatherND": 1,
    "Identity": 1, "Reshape": 1, "Slice": 1, "SpaceToDepth": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "Transpose": 1,
    "Unsqueeze": 1, "Concat": None, "ReduceMax": 1, "ReduceMin": 1, "ReduceMean": 1, "TopK": 1,
}  # fmt: skip
_SIZES = ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size")
_SUMS = ("CumSum", "ReduceL1", "ReduceSum")


@dataclasses.dataclass(frozen=True)
class IntegerRange:
    """Integers of a type from ``low`` to ``high``; ``size`` where they are sizes or positions, which fit anyway."""

    kind: str
    low: int
    high: int
    size: bool = False

    @property
    def fits(self) -> bool:
        """Say whether 32 signed bits hold them."""
        return self.size or (self.low >= LOWEST and self.high <= HIGHEST)

    @property
    def most(self) -> int:
        """Return the largest absolute value."""
        return max(abs(self.low), abs(self.high))


def all_of_type(kind: str) -> IntegerRange:
    """Return all that a type holds."""
    if kind == "bool":
        return IntegerRange(kind, 0, 1)
    bits = int(kind.lstrip("uint"))
    low, high = (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return IntegerRange(kind, low, high)


def wrapped(found: IntegerRange) -> IntegerRange:
    """Return what comes of a result: one that leaves its type wraps, and may be anything."""
    full = all_of_type(found.kind)
    return found if found.size or (found.low >= full.low and found.high <= full.high) else full


class IntegerRanges:
    """The ranges of a model's integers by name. Nodes are entered in their order; what is not known has none."""

    def __init__(self, proto: onnx.ModelProto, meanings: Mapping[str, InputRange], most: int | None) -> None:
        self._most = most
        self._size = HIGHEST if most is None else _SIZE
        graphs = list(all_graphs(proto.graph))
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for graph in graphs
            for value in (*graph.input, *graph.value_info)
        }
        self._less: dict[str, list[str]] = {}
        self._ranges: dict[str, IntegerRange] = {}
        self._enter_inputs(proto, meanings)

    def enter_stored(self, graph: onnx.GraphProto) -> None:
        """Put down the ranges of a graph's stored tensors."""
        self._ranges.update({t.name: found for t in graph.initializer if (found := stored_range(t)) is not None})

    def of(self, name: str) -> IntegerRange | None:
        """Return the range of a tensor; None where it is not known."""
        return self._ranges.get(name)

    def enter(self, node: onnx.NodeProto, found: IntegerRange | None) -> None:
        """Put down what a node makes, as ``result`` found it or as it is held."""
        for name in node.output:
            self._ranges.pop(name, None)  # two branches may use one name
        if found is not None:
            places = node.output if node.op_type in ("Split", *_SIZES) else node.output[:1]
            self._ranges.update(dict.fromkeys(places, found))
        if node.op_type == "Less":
            self._less[node.output[0]] = [*node.input]
        if node.op_type == "TopK" and len(node.output) > 1:
            self._ranges[node.output[1]] = self._positions()

    def result(self, node: onnx.NodeProto) -> IntegerRange | None:
        """Return the range of a node's first result, which may leave its type; None where it is no integer, or nothing
        is known.
        """
        given = [self._ranges.get(name) for name in node.input]
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type in _SIZES:
            return self._positions()
        if node.op_type in COMPARES:
            return IntegerRange("bool", 0, 1)
        if node.op_type in ("Constant", "ConstantOfShape") and "value" in attributes:
            return stored_range(attributes["value"].t)
        if node.op_type == "Cast":
            return self._cast(given[0], INTEGERS.get(attributes["to"].i))
        return self._computed(node, given)

    def _enter_inputs(self, proto: onnx.ModelProto, meanings: Mapping[str, InputRange]) -> None:
        stored = {tensor.name for tensor in proto.graph.initializer}
        for value in proto.graph.input:
            kind = INTEGERS.get(value.type.tensor_type.elem_type)
            if kind is not None and value.name not in stored:
                self._ranges[value.name] = self._input(kind, meanings.get(value.name))

    def _input(self, kind: str, meant: InputRange | None) -> IntegerRange:
        if meant is not None and meant.meaning == "size":
            return dataclasses.replace(self._positions(), kind=kind)
        if meant is not None and meant.meaning == "mask" and self._most is not None:  # a name, which proves nothing
            return IntegerRange(kind, 0, 1)
        if meant is not None and meant.meaning == "index" and meant.high:
            return IntegerRange(kind, 0 if kind in UNSIGNED else -meant.high - 1, meant.high)
        return self._of_type(kind)

    def _of_type(self, kind: str) -> IntegerRange:
        """Return what an integer is of which its type alone is known."""
        if kind in ("int32", *WIDE) and self._most is not None:
            return IntegerRange(kind, 0 if kind in UNSIGNED else -self._most, self._most)
        return all_of_type(kind)

    def _positions(self) -> IntegerRange:
        return IntegerRange("int64", 0, self._size, size=True)

    def _computed(self, node: onnx.NodeProto, given: Sequence[IntegerRange | None]) -> IntegerRange | None:
        if node.op_type == "Clip":
            return _clipped(node, given)
        parts = given[1:] if node.op_type == "Where" else given[: _MOVES.get(node.op_type)]
        if node.op_type in _SUMS:
            parts = given[:1]
        known = [one for one in parts if one is not None]
        if not known or None in parts:
            return None
        if node.op_type == "Where" and (extreme := self._extreme(node)):
            return self._by_rule(extreme, known)
        if node.op_type == "Where" or node.op_type in _MOVES:
            return _joined(known)
        if node.op_type in _SUMS:
            return self._summed(known[0], self._count(node), l1=node.op_type == "ReduceL1")
        found = self._by_rule(node.op_type, known)
        if found is not None and node.op_type == "MatMul":
            sizes = self._shapes.get(node.input[0], ())
            count = sizes[-1] if sizes and sizes[-1] else self._size
            low, high = min(found.low, found.low * count), max(found.high, found.high * count)
            return dataclasses.replace(found, low=low, high=high)
        return found

    def _extreme(self, node: onnx.NodeProto) -> str | None:
        """Return whether a Where takes the lesser or the greater of what its Less compares."""
        compared = self._less.get(node.input[0], [])
        if compared == [*node.input[1:]]:
            return "Min"
        return "Max" if compared and compared == [*node.input[:0:-1]] else None

    def _by_rule(self, operator: str, known: Sequence[IntegerRange]) -> IntegerRange | None:
        rule = _RULES.get(operator)
        if rule is None:
            return None
        if any(one.size for one in known) and all(one.size or (one.low == one.high and one.fits) for one in known):
            low = -self._size if operator in ("Sub", "Neg") else 0
            return dataclasses.replace(known[0], low=low, high=self._size, size=True)
        low, high = rule(*known)
        return IntegerRange(known[0].kind, low, high)

    def _cast(self, one: IntegerRange | None, kind: str | None) -> IntegerRange | None:
        if kind is None:
            return None
        full = self._of_type(kind)
        if one is None:
            return full
        if kind in _LONG or (full.low <= one.low and one.high <= full.high):
            return dataclasses.replace(one, kind=kind)
        return dataclasses.replace(full, size=one.size)

    def _summed(self, one: IntegerRange, count: int, *, l1: bool) -> IntegerRange:
        low, high = (0, one.most) if l1 else (one.low, one.high)
        low, high = low * count, high * count
        if self._most is not None:
            low, high = max(low, min(one.low, -self._most)), min(high, max(one.high, self._most))
        return dataclasses.replace(one, low=min(low, one.low), high=max(high, one.high))

    def _count(self, node: onnx.NodeProto) -> int:
        """Return how many values are summed, at most; a free axis has what a size is taken for."""
        sizes = self._shapes.get(node.input[0], ())
        if self._most is None:
            return math.prod(sizes) or self._size if sizes else self._size
        known = [size for size in sizes if size]
        return max(1, min(math.prod(known), self._size)) if known else self._size


def stored_range(tensor: onnx.TensorProto) -> IntegerRange | None:
    """Return the range of a stored tensor of integers; None for other tensors and those in files of their own."""
    from onnx import numpy_helper

    from edgepack.graph.walk import is_external

    kind = INTEGERS.get(tensor.data_type)
    if kind is None or is_external(tensor) or not math.prod(tensor.dims):
        return None
    values = numpy_helper.to_array(tensor)
    return IntegerRange(kind, int(values.min()), int(values.max()))


def _joined(parts: Sequence[IntegerRange]) -> IntegerRange:
    wide = [one for one in parts if not one.size] or parts
    low, high = min(one.low for one in parts), max(one.high for one in parts)
    return IntegerRange(
        wide[0].kind, low, high, all(one.size or one.fits for one in parts) and any(one.size for one in parts)
    )


def _clipped(node: onnx.NodeProto, given: Sequence[IntegerRange | None]) -> IntegerRange | None:
    found = given[0]
    for name, end, choose in zip(node.input[1:], given[1:], (max, min), strict=False):
        if name and found is not None:
            found = (
                None
                if end is None
                else IntegerRange(found.kind, choose(found.low, end.low), choose(found.high, end.high))
            )
    return found


def _products(one: IntegerRange, other: IntegerRange) -> tuple[int, int]:
    ends = [a * b for a in (one.low, one.high) for b in (other.low, other.high)]
    return min(ends), max(ends)


def _quotients(one: IntegerRange, other: IntegerRange) -> tuple[int, int]:
    return (0 if one.low >= 0 and other.low >= 0 else -one.most), one.most


def _remainders(one: IntegerRange, other: IntegerRange) -> tuple[int, int]:
    most = other.most - 1
    if one.low >= 0 and other.low >= 0:
        return 0, min(one.high, max(most, 0))
    return -max(most, 0), max(most, 0)  # by fmod it has the sign of what is divided


def _powers(one: IntegerRange, other: IntegerRange) -> tuple[int, int]:
    most = one.most ** min(max(other.high, 0), 64)
    return (0 if one.low >= 0 else -most), max(most, 1)


def _magnitudes(one: IntegerRange) -> tuple[int, int]:
    return 0, one.most


_RULES: Mapping[str, Callable[..., tuple[int, int]]] = {
    "Abs": _magnitudes,
    "Add": lambda one, other: (one.low + other.low, one.high + other.high),
    "Div": _quotients,
    "MatMul": _products,
    "Max": lambda *all_: (max(one.low for one in all_), max(one.high for one in all_)),
    "Min": lambda *all_: (min(one.low for one in all_), min(one.high for one in all_)),
    "Mod": _remainders,
    "Mul": _products,
    "Neg": lambda one: (-one.high, -one.low),
    "Pow": _powers,
    "Range": lambda start, limit, _step: (min(start.low, limit.low), max(start.high, limit.high)),
    "Sub": lambda one, other: (one.low - other.high, one.high - other.low),
}
