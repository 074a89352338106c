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
from typing import TYPE_CHECKING, TypeAlias

from edgepack.engines.openvino.range32 import EXACT
from edgepack.graph.input_ranges import input_ranges
from edgepack.graph.integer_ranges import (
    COMPARES,
    HIGHEST,
    INTEGERS,
    LOWEST,
    UNSIGNED,
    WIDE,
    IntegerRange,
    IntegerRanges,
    wrapped,
)
from edgepack.graph.walk import all_graphs, describe_node, has_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

    from edgepack.specs.model import OnnxModel


_NUMBER = 2**20  # the most that a number is taken to be of which nothing is known
_LONG = ("int64", "uint64")
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
_HOLDING = (*_LATER, *COMPARES, "Cast", "Clip", "Div")


_Wrong: TypeAlias = tuple[str, str, str]


def wide_integers(proto: onnx.ModelProto, model: OnnxModel) -> Iterator[_Wrong]:
    """Yield what is wrong with operators whose integers 32 bits do not hold, the node's name, and what to do."""
    graphs = list(all_graphs(proto.graph))
    kinds = {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    kinds |= {tensor.data_type for graph in graphs for tensor in graph.initializer}
    casts = {a.i for graph in graphs for node in graph.node if node.op_type == "Cast" for a in node.attribute}
    if not any(INTEGERS.get(kind) in ("int32", *WIDE) for kind in kinds | casts):
        return
    ranges = IntegerRanges(proto, input_ranges(model), _NUMBER)
    results = {value.name for value in proto.graph.output}
    for graph in graphs:
        ranges.enter_stored(graph)
        for node in graph.node:
            if node.domain in ("", "ai.onnx") and (wrong := _enter(node, ranges, results)):
                yield f"OpenVINO computes {node.op_type} of {wrong}", describe_node(node), _HINT


def _enter(node: onnx.NodeProto, ranges: IntegerRanges, results: set[str]) -> str | None:
    """Put down the ranges of what a node makes; return what is wrong with it."""
    given = [ranges.of(name) for name in node.input]
    found = ranges.result(node)
    wrong = _wrong_words(node, given, found, results)
    ranges.enter(node, None if found is None else _held(found, named=bool(wrong)))
    return wrong


def _held(found: IntegerRange, *, named: bool) -> IntegerRange:
    """Return what comes of a result; what was named is not named again behind it."""
    if named and not found.size and not (found.kind in UNSIGNED and found.low < 0):
        return dataclasses.replace(found, low=max(found.low, -_NUMBER), high=min(max(found.high, 0), _NUMBER))
    return wrapped(found)


def _wrong_words(
    node: onnx.NodeProto, given: Sequence[IntegerRange | None], found: IntegerRange | None, results: set[str]
) -> str | None:
    if kind := _wrong_kind(node, given, found, results):
        return f"{kind} in 32 bits: what is beyond 2^31 is cut off"
    known = [one for one in given if one is not None]
    if len(known) < len(given) or not known or any(one.size for one in known):
        return None
    most = [one.most for one in known]
    if node.op_type in _ORDERS:
        rounded = min(most) > EXACT
    elif node.op_type == "MatMul":
        rounded = found is not None and found.most > EXACT
    else:
        rounded = node.op_type in _IN_FLOAT and most[0] > EXACT
    return f"{known[0].kind} in float32: what is beyond 2^24 is rounded" if rounded else None


def _wrong_kind(
    node: onnx.NodeProto, given: Sequence[IntegerRange | None], found: IntegerRange | None, results: set[str]
) -> str | None:
    """Return the type that a node computes beyond 32 bits."""
    for one in given:
        if one is None or one.kind not in UNSIGNED or one.high <= HIGHEST or one.size:
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


def _cut_constant(node: onnx.NodeProto, given: Sequence[IntegerRange | None], found: IntegerRange | None) -> str | None:
    """Return the type of a number beyond 32 bits that is cut off where it is read: of uint32, or of 64 bits beside
    numbers of which nothing is known.
    """
    if found is None and node.op_type in ("Max", "Min"):
        return _end_beyond(node, given)
    if found is None and (node.op_type in _HOLDING or has_bodies(node)):
        return None
    for one in given:
        if one is None or one.size or (found is not None and (one.kind, found.kind) != ("uint32", "uint32")):
            continue
        if one.kind in WIDE and (one.low > HIGHEST or (one.kind == "int64" and not one.fits)):
            return one.kind
    return None


def _end_beyond(node: onnx.NodeProto, given: Sequence[IntegerRange | None]) -> str | None:
    """Return the type of an end beyond 32 bits that a Max or Min gives whatever the unknown number beside it is."""
    for one in given:
        if one is not None and not one.size and one.kind in WIDE:
            cut = one.low > HIGHEST if node.op_type == "Max" else one.high < LOWEST
            if cut:
                return one.kind
    return None
