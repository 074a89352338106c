"""Means in one operator: jax writes a sum and a division by how many values it is of, tf2onnx pools in layer norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgepack.graph.clean.cones import make_node
from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

_AXES_ARE_INPUTS = 18  # since this operator set ReduceMean has its axes as an input; ReduceSum since 13
_OF_NORMS = ("Add", "Mul", "Neg", "Sub")  # what reads a layer norm's mean and variance
_NEAR = 1e-6  # relative: a reciprocal is written in float32


def mean_from_sum(view: View) -> bool:
    """Write one sum that is divided by the number of its values as a mean."""
    for total in view.nodes("ReduceSum"):
        end = view.only_user(total.output[0])
        axes = _axes(view, total)
        if end is None or axes is None or end.op_type not in ("Div", "Mul") or end.input[0] != total.output[0]:
            continue
        count, number = _count(view, total.input[0], axes), view.floats(end.input[1])
        if count is None or number is None or number.size != 1 or number.ndim > _rank_after(view, total, axes):
            continue
        wanted = count if end.op_type == "Div" else 1 / count
        if abs(float(number.reshape(())) - wanted) > _NEAR * wanted:
            continue
        view.insert_after(end, _mean(view, total, end.output[0], axes))
        view.forget(total.output[0])
        view.remove(end)
        view.remove(total)
        return True
    return False


def mean_from_pool(view: View) -> bool:
    """Write one GlobalAveragePool over the last of three axes as a mean, where that is subtracted: in a layer norm."""
    import numpy as np

    for node in view.nodes("GlobalAveragePool"):
        users = view.users.get(node.output[0], [])
        if view.rank(node.input[0]) != 3 or not any(user.op_type in _OF_NORMS for user in users):
            continue
        node.op_type = "ReduceMean"
        set_attribute(node, "keepdims", 1)
        if view.opset < _AXES_ARE_INPUTS:
            set_attribute(node, "axes", [-1])
        else:
            node.input.append(view.add_constant(np.array([-1], np.int64), node.output[0]))
        return True
    return False


def _axes(view: View, node: onnx.NodeProto) -> list[int] | None:
    found = view.value(node.input[1]) if len(node.input) > 1 and node.input[1] else attribute(node, "axes")
    return None if found is None else [int(axis) for axis in found]


def _count(view: View, name: str, axes: list[int]) -> int | None:
    """Return how many values of a tensor one sum is of; None where a size is free."""
    kind = view.types.get(name)
    dims = kind.shape.dim if kind is not None and kind.HasField("shape") else []
    sizes = [dims[axis].dim_value if -len(dims) <= axis < len(dims) else 0 for axis in axes]
    return math.prod(sizes) if sizes and all(sizes) else None


def _rank_after(view: View, node: onnx.NodeProto, axes: list[int]) -> int:
    rank = view.rank(node.input[0]) or 0
    return rank if attribute(node, "keepdims", 1) else rank - len(axes)


def _mean(view: View, total: onnx.NodeProto, result: str, axes: list[int]) -> onnx.NodeProto:
    import numpy as np

    kept = attribute(total, "keepdims", 1)
    if view.opset < _AXES_ARE_INPUTS:
        return make_node(view, "ReduceMean", [total.input[0]], result, keepdims=kept, axes=axes)
    listed = view.add_constant(np.asarray(axes, np.int64), result)
    return make_node(view, "ReduceMean", [total.input[0], listed], result, keepdims=kept)
