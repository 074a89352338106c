"""Counts the multiply-adds of the operators of an OpenVINO IR, by the shapes that OpenVINO infers for a batch of 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.engines.openvino.ir import original_name
from edgepack.errors import CompileError

Shape = Sequence[int]


def ir_macs(path: Path) -> dict[str, int | None]:
    """Return the multiply-adds of each operator that has any, by the name of the node that it stands for.

    A free first dimension counts as 1; None where another one is free. Raises ``CompileError``.
    """
    import openvino

    try:
        model = openvino.Core().read_model(str(path))
        for port in model.inputs:
            shape = port.get_partial_shape()
            if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
                shape[0] = 1
                model.reshape({port: shape})
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {path.name}: {str(error)[:500]}") from error
    found: dict[str, int | None] = {}
    for operation in model.get_ordered_ops():
        count = _COUNTERS.get(operation.get_type_name())
        if count is not None:
            found[original_name(operation.get_friendly_name())] = _count(count, operation)
    return found


def _count(count: Callable[[Any, Shape, Shape, Shape], int], operation: Any) -> int | None:
    ports = (*operation.inputs()[:2], *operation.outputs()[:1])
    shapes = [port.get_partial_shape() for port in ports]
    if len(shapes) < 3 or any(shape.is_dynamic for shape in shapes):
        return None
    return count(operation, *([len_.get_length() for len_ in shape] for shape in shapes))


def _forward(groups: int) -> Callable[[Any, Shape, Shape, Shape], int]:
    """Every output is a sum over the kernel and its group's channels: weights [M, C, k...], behind the groups."""
    return lambda _operation, _data, weights, out: math.prod(out) * math.prod(weights[1 + groups :])


def _backward(groups: int) -> Callable[[Any, Shape, Shape, Shape], int]:
    """Every input is multiplied by its group's kernels: weights [groups?, C, M, k...]."""
    return lambda _operation, data, weights, _out: math.prod(data) * math.prod(weights[1 + groups :])


def _matmul(operation: Any, data: Shape, _weights: Shape, out: Shape) -> int:
    transposed = bool(operation.get_attributes().get("transpose_a"))
    inner = data[-1] if len(data) == 1 or not transposed else data[-2]
    return math.prod(out) * inner


# OpenVINO operation set: docs.openvino.ai, "Operation Specifications"; the layouts of weights are those there.
_COUNTERS: Mapping[str, Callable[[Any, Shape, Shape, Shape], int]] = {
    "Convolution": _forward(0),
    "GroupConvolution": _forward(1),
    "ConvolutionBackpropData": _backward(0),
    "GroupConvolutionBackpropData": _backward(1),
    "MatMul": _matmul,
}
