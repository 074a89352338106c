"""Counts the multiply-adds of one operator from the shapes of its inputs and output.

The definitions of the operators are https://onnx.ai/onnx/operators; biases and activations are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import onnx

Shape: TypeAlias = tuple[int, ...]


def count_macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the multiply-adds of ``node``; None for an operator without any, or when a shape is not known."""
    if node.op_type not in _COUNTERS:
        return None
    counter, positions = _COUNTERS[node.op_type]
    names = [node.input[p] if p < len(node.input) else "" for p in positions]
    out = shapes.get(node.output[0]) if node.output else None
    inputs = [shapes[name] for name in names if name in shapes]
    if len(inputs) < len(names) or (out is None and counter is not _recurrent):
        return None
    try:
        return counter(node, inputs, out or ())
    except (IndexError, ValueError):  # the shapes do not fit the operator
        return None


def multiplies(operator: str) -> bool:
    """Say whether an operator's work is multiply-adds."""
    return operator in _COUNTERS


def _conv(_node: onnx.NodeProto, inputs: Sequence[Shape], out: Shape) -> int:
    """Every output is a sum over the kernel and the input channels of its group: weight [M, C/group, k...]."""
    return math.prod(out) * math.prod(inputs[0][1:])


def _conv_transpose(_node: onnx.NodeProto, inputs: Sequence[Shape], _out: Shape) -> int:
    """Every input is multiplied by the kernel of every output channel of its group: weight [C, M/group, k...]."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _gemm(node: onnx.NodeProto, inputs: Sequence[Shape], out: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * inputs[0][0 if transposed else 1]


def _matmul(_node: onnx.NodeProto, inputs: Sequence[Shape], out: Shape) -> int:
    return math.prod(out) * inputs[0][-1]


def _recurrent(_node: onnx.NodeProto, inputs: Sequence[Shape], _out: Shape) -> int:
    """X [steps, batch, in] (or batch first: the product is the same), W [dirs, gates*hidden, in], R [..., hidden]."""
    data, weight, recurrence = inputs
    return data[0] * data[1] * (math.prod(weight) + math.prod(recurrence))


_Counter: TypeAlias = Callable[["onnx.NodeProto", Sequence[Shape], Shape], int]
# Operator: how to count, and where its data and weights are among the inputs.
_COUNTERS: Mapping[str, tuple[_Counter, tuple[int, ...]]] = {
    "Conv": (_conv, (1,)),
    "FusedConv": (_conv, (1,)),
    "ConvInteger": (_conv, (1,)),
    "QLinearConv": (_conv, (3,)),
    "ConvTranspose": (_conv_transpose, (0, 1)),
    "Gemm": (_gemm, (0, 1)),
    "QGemm": (_gemm, (0, 3)),
    "MatMul": (_matmul, (0, 1)),
    "MatMulInteger": (_matmul, (0, 1)),
    "MatMulIntegerToFloat": (_matmul, (0, 1)),
    "DynamicQuantizeMatMul": (_matmul, (0, 1)),
    "QLinearMatMul": (_matmul, (0, 3)),
    "LSTM": (_recurrent, (0, 1, 2)),
    "GRU": (_recurrent, (0, 1, 2)),
    "RNN": (_recurrent, (0, 1, 2)),
}
