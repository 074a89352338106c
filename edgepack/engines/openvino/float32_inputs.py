"""Inputs of whole numbers that OpenVINO 2026.4 computes in float32 somewhere, which holds them up to 2^24.

Comparisons, quotients, remainders, extremes and sums over axes, and clips of integers are computed so, of int32 as of
int64. Sums, differences and products of two tensors are not, nor what hands values on. An input whose values reach the
former has a second name in the IR, by which runners, those of libedgepack too, know the limit; so has an unsigned one
whose values are ordered or cast, which is done as if they were signed, and one that is cast to float64, which is
computed in float32 (seconds since 1970).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.walk import all_nodes, has_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

SUFFIX = "/whole numbers up to 2^24"
_INTEGERS = (6, 7, 12, 13)  # TensorProto.INT32, INT64, UINT32 and UINT64 of onnx.proto
_FLOATS = (1, 9, 10, 16)  # FLOAT, BOOL, FLOAT16 and BFLOAT16: casts to these round as ONNX says
_DOUBLE = 11
# Measured with numbers beyond 2^24, beside ONNX's reference.
_EXACT = frozenset(
    {
        "Abs", "Add", "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Concat",
        "CumSum", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Max", "Min", "Mul", "Neg",
        "Range", "Reshape", "Sign", "Slice", "Split", "Squeeze", "Sub", "Sum", "Tile", "TopK", "Transpose", "Unsqueeze",
        "Where",
    }
)  # fmt: skip
# What reads unsigned numbers as signed ones, which are others from 2^31 on.
_SIGNED = ("ArgMax", "ArgMin", "Cast", "Max", "Min", "TopK")
_UNSIGNED = (12, 13)
_INDICES = ("Gather", "GatherElements", "GatherND")
_ENDS = ("ArgMax", "ArgMin", "Shape", "Size")  # what these return are no values of their inputs


def float32_inputs(proto: onnx.ModelProto) -> Iterator[str]:
    """Yield the names of the inputs whose whole numbers are computed in float32."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in all_nodes(proto):
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))
    stored = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        kind = value.type.tensor_type.elem_type
        exact = _EXACT.difference(_SIGNED if kind in _UNSIGNED else ())
        if kind in _INTEGERS and value.name not in stored and _reaches_other(value.name, readers, exact):
            yield value.name


def _reaches_other(name: str, readers: dict[str, list[tuple[onnx.NodeProto, int]]], exact: frozenset[str]) -> bool:
    waiting, seen = [name], {name}
    while waiting:
        for node, place in readers.get(waiting.pop(), ()):
            if _ends(node, place) and node.op_type in (*exact, "Shape", "Size"):
                continue
            if node.op_type not in exact or has_bodies(node) or _casts_to(node, (_DOUBLE,)):
                return True
            new = [output for output in node.output if output not in seen]
            seen.update(new)
            waiting += new
    return False


def _ends(node: onnx.NodeProto, place: int) -> bool:
    return _casts_to(node, _FLOATS) or node.op_type in _ENDS or (node.op_type in _INDICES and place == 1)


def _casts_to(node: onnx.NodeProto, kinds: tuple[int, ...]) -> bool:
    return node.op_type == "Cast" and any(one.name == "to" and one.i in kinds for one in node.attribute)
