"""Integers that OpenVINO 2026.4 computes in 32 bits though ONNX says 64, or in float32: found by ranges.

Sums, differences, products and what hands values on are computed in 32 signed bits, everything else in float32, which
holds whole numbers up to 2^24 (``float32_inputs.py``). The runner refuses inputs beyond. What a model makes of them is
bounded here, from what its inputs mean: rows of a table, masks, sizes; of a number that nothing is known of, or that is
cast from floats, 2^20 is taken for the most (ids, code points). Sums over axes are not taken to leave that, so those of
positions and masks pass; products of two such numbers, large constants and hashes are named. Sizes, positions and what
is computed of them alone address memory: they fit, and pass. Unsigned sums and products wrap and are right, but
what compares or divides such a result is not.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, TypeAlias

from edgepack.engines.openvino.range32 import EXACT, HIGHEST, LOWEST
from edgepack.graph.input_ranges import input_ranges
from edgepack.graph.walk import all_graphs, describe_node, has_bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx

    from edgepack.specs.model import OnnxModel


_NUMBER = 2**20  # the most that a number is taken to be of which nothing is known
_SIZE = 2**10  # that a size, position or free axis is taken for where it is multiplied with such a number
# TensorProto.DataType of onnx.proto
_INTEGERS = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 12: "uint32", 13: "uint64",
}  # fmt: skip
_UNSIGNED = ("uint32", "uint64")
_LONG = ("int64", "uint64")
_WIDE = ("int64", *_UNSIGNED)
# Operators that hand values on, and of which inputs.
_MOVES = {
    "Compress": 1, "DepthToSpace": 1, "Expand": 1, "Flatten": 1, "Gather": 1, "GatherElements": 1, "GatherND": 1,
    "Identity": 1, "Reshape": 1, "Slice": 1, "SpaceToDepth": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "Transpose": 1,
    "Unsqueeze": 1, "Concat": None, "ReduceMax": 1, "ReduceMin": 1, "ReduceMean": 1, "TopK": 1,
}  # fmt: skip
_SIZES = ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size")
_COMPARES = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf")
_SUMS = ("CumSum", "ReduceL1", "ReduceSum")
# What is wrong of unsigned numbers that do not fit in 31 bits, as they are read as signed ones.
_ORDER = frozenset(
    {
        "ArgMax", "ArgMin", "Clip", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod",
        "ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "TopK",
    }
)  # fmt: skip
_HINT = "use a target with another engine, or compute it in float32 in the model"
# Operators computed in float32. Of the first, what they are given counts; of comparisons, the smaller side: beside a
# number that float32 holds, a rounded one beyond is still on its side.
_IN_FLOAT = ("Clip", "Div", "Mod", "Pow", "ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu")
_ORDERS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_LATER = (
    "Constant",
    "ConstantOfShape",
    "Concat",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
# What such numbers may stand in: as ends, divisors and sides of comparisons they do no harm.
_HOLDING = (*_LATER, *_COMPARES, "Cast", "Clip", "Div", "Max", "Min")


@dataclasses.dataclass(frozen=True)
class _Range:
    """Integers of a type from ``low`` to ``high``; ``size`` where they are sizes or positions, which fit anyway."""

    kind: str
    low: int
    high: int
    size: bool = False

    @property
    def fits(self) -> bool:
        return self.size or (self.low >= LOWEST and self.high <= HIGHEST)


_Wrong: TypeAlias = tuple[str, str, str]


def wide_integers(proto: onnx.ModelProto, model: OnnxModel) -> Iterator[_Wrong]:
    """Yield what is wrong with operators whose integers 32 bits do not hold, the node's name, and what to do."""
    graphs = list(all_graphs(proto.graph))
    kinds = {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    kinds |= {tensor.data_type for graph in graphs for tensor in graph.initializer}
    casts = {a.i for graph in graphs for node in graph.node if node.op_type == "Cast" for a in node.attribute}
    if not any(_INTEGERS.get(kind) in ("int32", *_WIDE) for kind in kinds | casts):
        return
    ranges = _inputs(proto, model)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for graph in graphs
        for value in (*graph.input, *graph.value_info)
    }
    results = {value.name for value in proto.graph.output}
    for graph in graphs:
        ranges.update({t.name: found for t in graph.initializer if (found := _stored(t)) is not None})
        for node in graph.node:
            if node.domain in ("", "ai.onnx") and (wrong := _enter(node, ranges, shapes, results)):
                yield f"OpenVINO computes {node.op_type} of {wrong}", describe_node(node), _HINT


def _enter(
    node: onnx.NodeProto, ranges: dict[str, _Range], shapes: Mapping[str, Sequence[int]], results: set[str]
) -> str | None:
    """Put down the ranges of what a node makes; return what is wrong with it."""
    given = [ranges.get(name) for name in node.input]
    found = _result(node, given, shapes)
    wrong = _wrong_words(node, given, found, results)
    for name in node.output:
        ranges.pop(name, None)  # two branches may use one name
    if found is not None:
        places = node.output if node.op_type in ("Split", *_SIZES) else node.output[:1]
        ranges.update(dict.fromkeys(places, _held(found, named=bool(wrong))))
    if node.op_type == "TopK" and len(node.output) > 1:
        ranges[node.output[1]] = _sizes()
    return wrong


def _held(found: _Range, *, named: bool) -> _Range:
    """Return what comes of a result: it wraps beyond its type, and what was named is not named again behind it."""
    if found.size:
        return found
    full = _all_of_type(found.kind)
    if named and not (found.kind in _UNSIGNED and found.low < 0):
        return dataclasses.replace(found, low=max(found.low, -_NUMBER), high=min(max(found.high, 0), _NUMBER))
    return found if found.low >= full.low and found.high <= full.high else full


def _wrong_words(
    node: onnx.NodeProto, given: Sequence[_Range | None], found: _Range | None, results: set[str]
) -> str | None:
    if kind := _wrong_kind(node, given, found, results):
        return f"{kind} in 32 bits: what is beyond 2^31 is cut off"
    known = [one for one in given if one is not None]
    if len(known) < len(given) or not known or any(one.size for one in known):
        return None
    most = [max(abs(one.low), abs(one.high)) for one in known]
    if node.op_type in _ORDERS:
        rounded = min(most) > EXACT
    elif node.op_type == "MatMul":
        rounded = found is not None and max(abs(found.low), abs(found.high)) > EXACT
    else:
        rounded = node.op_type in _IN_FLOAT and most[0] > EXACT
    return f"{known[0].kind} in float32: what is beyond 2^24 is rounded" if rounded else None


def _wrong_kind(
    node: onnx.NodeProto, given: Sequence[_Range | None], found: _Range | None, results: set[str]
) -> str | None:
    """Return the type that a node computes beyond 32 bits."""
    for one in given:
        if one is None or one.kind not in _UNSIGNED or one.high <= HIGHEST or one.size:
            continue
        wider = node.op_type == "Cast" and found is not None and found.kind in _LONG
        if node.op_type in _ORDER or wider:
            return one.kind
    if found is None or found.fits or found.kind not in _LONG:
        return _cut_constant(node, given, found)
    if found.kind == "uint64" and node.op_type in ("Sub", "Neg") and found.high <= HIGHEST:
        return None  # the sign of what is below zero is extended: right, as a result
    if node.op_type in _LATER and not results & {*node.output}:
        return None  # the sizes of a Slice are often "to the end", which is right
    return found.kind


def _cut_constant(node: onnx.NodeProto, given: Sequence[_Range | None], found: _Range | None) -> str | None:
    """Return the type of a number beyond 32 bits that is cut off where it is read: of uint32, or of 64 bits beside
    numbers of which nothing is known.
    """
    if found is None and (node.op_type in _HOLDING or has_bodies(node)):
        return None
    for one in given:
        if one is None or one.size or (found is not None and (one.kind, found.kind) != ("uint32", "uint32")):
            continue
        if one.kind in _WIDE and (one.low > HIGHEST or (one.kind == "int64" and not one.fits)):
            return one.kind
    return None


def _inputs(proto: onnx.ModelProto, model: OnnxModel) -> dict[str, _Range]:
    found: dict[str, _Range] = {}
    meanings = input_ranges(model)
    stored = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        kind = _INTEGERS.get(value.type.tensor_type.elem_type)
        if kind is None or value.name in stored:
            continue
        meant = meanings.get(value.name)
        if meant is not None and meant.meaning == "size":
            found[value.name] = dataclasses.replace(_sizes(), kind=kind)
        elif meant is not None and meant.meaning == "mask":
            found[value.name] = _Range(kind, 0, 1)
        elif meant is not None and meant.meaning == "index" and meant.high:
            found[value.name] = _Range(kind, 0 if kind in _UNSIGNED else -meant.high - 1, meant.high)
        else:
            found[value.name] = _of_type(kind)
    return found


def _of_type(kind: str) -> _Range:
    """Return what an integer is of which its type alone is known."""
    if kind in ("int32", *_WIDE):
        return _Range(kind, 0 if kind in _UNSIGNED else -_NUMBER, _NUMBER)
    return _all_of_type(kind)


def _all_of_type(kind: str) -> _Range:
    """Return all that a type holds."""
    if kind == "bool":
        return _Range(kind, 0, 1)
    bits = int(kind.lstrip("uint"))
    return (
        _Range(kind, 0, 2**bits - 1) if kind.startswith("u") else _Range(kind, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )


def _sizes() -> _Range:
    return _Range("int64", 0, _SIZE, size=True)


def _stored(tensor: onnx.TensorProto) -> _Range | None:
    """Return the range of a stored tensor of integers; None for other tensors and those in files of their own."""
    from onnx import numpy_helper

    from edgepack.graph.walk import is_external

    kind = _INTEGERS.get(tensor.data_type)
    if kind is None or is_external(tensor) or not math.prod(tensor.dims):
        return None
    values = numpy_helper.to_array(tensor)
    return _Range(kind, int(values.min()), int(values.max()))


def _result(node: onnx.NodeProto, given: Sequence[_Range | None], shapes: Mapping[str, Sequence[int]]) -> _Range | None:
    """Return the range of a node's first result, or None where nothing is known or it is no integer."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type in _SIZES:
        return _sizes()
    if node.op_type in _COMPARES:
        return _Range("bool", 0, 1)
    if node.op_type in ("Constant", "ConstantOfShape") and "value" in attributes:
        return _stored(attributes["value"].t)
    if node.op_type == "Cast":
        return _cast(given[0], _INTEGERS.get(attributes["to"].i))
    return _computed(node, given, shapes)


def _computed(
    node: onnx.NodeProto, given: Sequence[_Range | None], shapes: Mapping[str, Sequence[int]]
) -> _Range | None:
    if node.op_type == "Clip":
        return _clipped(node, given)
    parts = given[1:] if node.op_type == "Where" else given[: _MOVES.get(node.op_type)]
    if node.op_type in _SUMS:
        parts = given[:1]
    known = [one for one in parts if one is not None]
    if not known or None in parts:
        return None
    if node.op_type == "Where" or node.op_type in _MOVES:
        return _joined(known)
    if node.op_type in _SUMS:
        return _summed(known[0], _count(node, shapes), l1=node.op_type == "ReduceL1")
    return _by_rule(node, known, shapes)


def _by_rule(node: onnx.NodeProto, known: Sequence[_Range], shapes: Mapping[str, Sequence[int]]) -> _Range | None:
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    if any(one.size for one in known) and all(one.size or (one.low == one.high and one.fits) for one in known):
        low = -_SIZE if node.op_type in ("Sub", "Neg") else 0
        return dataclasses.replace(known[0], low=low, high=_SIZE, size=True)
    low, high = rule(*known)
    if node.op_type == "MatMul":
        count = _last(node.input[0], shapes)
        low, high = low * count, high * count
    return _Range(known[0].kind, low, high)


def _cast(one: _Range | None, kind: str | None) -> _Range | None:
    if kind is None:
        return None
    full = _of_type(kind)
    if one is None:
        return full
    if kind in _LONG or (full.low <= one.low and one.high <= full.high):
        return dataclasses.replace(one, kind=kind)
    return dataclasses.replace(full, size=one.size)


def _joined(parts: Sequence[_Range]) -> _Range:
    wide = [one for one in parts if not one.size] or parts
    low, high = min(one.low for one in parts), max(one.high for one in parts)
    return _Range(
        wide[0].kind, low, high, all(one.size or one.fits for one in parts) and any(one.size for one in parts)
    )


def _clipped(node: onnx.NodeProto, given: Sequence[_Range | None]) -> _Range | None:
    found = given[0]
    for name, end, choose in zip(node.input[1:], given[1:], (max, min), strict=False):
        if name and found is not None:
            found = (
                None if end is None else _Range(found.kind, choose(found.low, end.low), choose(found.high, end.high))
            )
    return found


def _summed(one: _Range, count: int, *, l1: bool) -> _Range:
    low, high = (0, max(abs(one.low), abs(one.high))) if l1 else (one.low, one.high)
    low, high = max(low * count, min(low, -_NUMBER)), min(high * count, max(high, _NUMBER))
    return dataclasses.replace(one, low=min(low, one.low), high=max(high, one.high))


def _count(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many values are summed, at most; a free axis has what a sum is taken to be of."""
    sizes = [size for size in shapes.get(node.input[0], ()) if size]
    return max(1, min(math.prod(sizes), _SIZE)) if sizes else _SIZE


def _last(name: str, shapes: Mapping[str, Sequence[int]]) -> int:
    sizes = shapes.get(name, ())
    return sizes[-1] if sizes and sizes[-1] else _SIZE


def _products(one: _Range, other: _Range) -> tuple[int, int]:
    ends = [a * b for a in (one.low, one.high) for b in (other.low, other.high)]
    return min(ends), max(ends)


def _quotients(one: _Range, other: _Range) -> tuple[int, int]:
    most = max(abs(one.low), abs(one.high))
    return (0 if one.low >= 0 and other.low >= 0 else -most), most


def _remainders(one: _Range, other: _Range) -> tuple[int, int]:
    most = max(abs(other.low), abs(other.high)) - 1
    if one.low >= 0 and other.low >= 0:
        return 0, min(one.high, max(most, 0))
    return (-most if other.low < 0 else 0), max(most, 0)


def _powers(one: _Range, other: _Range) -> tuple[int, int]:
    most = max(abs(one.low), abs(one.high)) ** min(max(other.high, 0), 64)
    return (0 if one.low >= 0 else -most), max(most, 1)


def _magnitudes(one: _Range) -> tuple[int, int]:
    return 0, max(abs(one.low), abs(one.high))


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
