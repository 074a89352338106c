"""Counts the memory that a model needs while it runs: its weights, and the tensors that are alive at one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


@dataclass(frozen=True)
class Need:
    """Bytes, and the node at which most tensors are alive. A floor: padding and scratch memory come on top."""

    weights_bytes: int
    tensors_bytes: int
    node: str


def memory_need(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int | str, ...]], types: Mapping[str, int]) -> Need:
    """Return what running needs at least when nodes run in the graph's order and each tensor is freed after its use."""
    sizes = {name: _bytes(shape, types.get(name)) for name, shape in shapes.items()}
    weights = sum(_bytes(tuple(t.dims), t.data_type) for t in proto.graph.initializer)
    last = {name: index for index, node in enumerate(proto.graph.node) for name in node.input}
    outputs = {value.name for value in proto.graph.output}
    alive = {value.name: sizes.get(value.name, 0) for value in proto.graph.input}
    most, where = sum(alive.values()), ""
    for index, node in enumerate(proto.graph.node):
        alive.update({name: sizes.get(name, 0) for name in node.output if name})
        if (now := sum(alive.values())) > most:
            most, where = now, node.name or node.op_type
        for name in [n for n in (*node.input, *node.output) if n in alive and last.get(n, -1) <= index]:
            if name not in outputs:
                del alive[name]
    return Need(weights, most, where)


def _bytes(shape: tuple[int | str, ...], kind: int | None) -> int:
    """Return the size of a tensor; 0 where it is not known."""
    import onnx

    if kind is None or any(isinstance(extent, str) for extent in shape):
        return 0
    if kind == onnx.TensorProto.STRING:
        return 0
    bits = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}.get(kind)
    if bits is None:
        bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    return int(np.prod([int(e) for e in shape], dtype=np.int64)) * bits // 8
