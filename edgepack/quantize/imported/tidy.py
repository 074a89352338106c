"""Brings Q/DQ graphs of every tool into the form that engines fuse.

Constants are stored as integers, and an operator that moves values has a pair on both sides. No value changes by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.engines.int8 import MOVES
from edgepack.graph.clean.view import View, attribute
from edgepack.quantize.imported.clips import clip_bounds, scalar, zero_point

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_MOST = 20_000  # rewrites of one kind: no graph needs as many
_CHOSEN = frozenset({"Concat", "Gather"})  # they read several tensors, or choose by one: left where they are


def store_constants(proto: onnx.ModelProto) -> int:
    """Compute QuantizeLinear and Clip of constants, so that weights are stored in 8 bits; return how many were."""
    count = 0
    while count < _MOST and _store_one(View(proto)):
        count += 1
    return count


def _store_one(view: View) -> bool:
    for node in view.nodes("QuantizeLinear", "Clip"):
        value = view.value(node.input[0])
        if value is None or not view.is_free(node.output[0]):
            continue
        made = _quantized(view, node, value) if node.op_type == "QuantizeLinear" else _clipped(view, node, value)
        if made is not None:
            view.replace(node.output[0], view.add_constant(made, node.output[0]))
            view.remove(node)
            return True
    return False


def _quantized(view: View, node: onnx.NodeProto, value: Array) -> Array | None:
    """Return what QuantizeLinear makes: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html."""
    scale, zero = view.floats(node.input[1]), zero_point(view, node)
    if value.dtype != np.float32 or scale is None or zero is None or zero.dtype.name not in ("int8", "uint8"):
        return None
    axis = attribute(node, "axis", 1)
    rounded = np.rint(value / _along(scale, axis, value.ndim)) + _along(zero, axis, value.ndim).astype(np.float32)
    limits = np.iinfo(zero.dtype)
    return np.asarray(np.clip(rounded, limits.min, limits.max), zero.dtype)


def _along(values: Array, axis: int, rank: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = values.size
    return values.reshape(shape)


def _clipped(view: View, node: onnx.NodeProto, value: Array) -> Array | None:
    bounds = clip_bounds(view, node)
    return None if bounds is None or value.dtype.kind not in "iu" else np.clip(value, *bounds).astype(value.dtype)


# --- operators that move values ---------------------------------------------------------------------------------------


def wrap_moves(proto: onnx.ModelProto) -> int:
    """Give operators that move integers a pair on each side, so that they move what the pairs stand for; say how many.

    Engines know such an operator between a DequantizeLinear and a QuantizeLinear of one scale.
    """
    count = 0
    while count < _MOST and _wrap_one(View(proto)):
        count += 1
    return count


def _wrap_one(view: View) -> bool:
    for node in view.nodes(*(MOVES - _CHOSEN)):
        result = node.output[0]
        readers = view.users.get(result, [])
        if len([name for name in node.output if name]) != 1 or not view.is_free(result) or not readers:
            continue
        if not all(r.op_type == "DequantizeLinear" and r.input[0] == result for r in readers):
            continue
        parameters = {tuple(r.input[1:]) for r in readers}
        if len(parameters) == 1 and _is_whole(view, readers[0]) and _fills_alike(view, node, readers[0]):
            _wrap(view, node, list(next(iter(parameters))))
            return True
    return False


def _is_whole(view: View, node: onnx.NodeProto) -> bool:
    """Say whether one scale holds for all of a tensor."""
    scale = view.value(node.input[1])
    return scale is not None and scale.size == 1


def _fills_alike(view: View, node: onnx.NodeProto, reader: onnx.NodeProto) -> bool:
    """Say whether what an operator fills in stands for zero, before and behind: a Pad with the zero point itself."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") == b"nearest")
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return True
    zero, filled = zero_point(view, reader), scalar(view, node.input[2] if len(node.input) > 2 else "")
    return zero is not None and (0 if filled is None else filled) == int(zero.reshape(-1)[0])


def _wrap(view: View, node: onnx.NodeProto, parameters: list[str]) -> None:
    """Dequantize in front of a node and quantize behind it. A Pad's own value then is zero, which is its default."""
    import onnx

    source, result = node.input[0], node.output[0]
    real, moved = view.new_name(f"{source}_real"), view.new_name(f"{result}_real")
    before = onnx.helper.make_node("DequantizeLinear", [source, *parameters], [real], name=real)
    position = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.graph.node.insert(position, before)
    node.input[0], node.output[0] = real, moved
    if node.op_type == "Pad" and len(node.input) > 2:
        node.input[2] = ""
    view.forget(result)
    view.insert_after(node, onnx.helper.make_node("QuantizeLinear", [moved, *parameters], [result], name=moved))
