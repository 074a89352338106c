"""Replaces sizes that a graph asks for at run time by those that are known: paddings computed of the input's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph import passes
from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array


def fold_sizes(proto: onnx.ModelProto) -> int:
    """Replace, in place, each Gather or Slice of a Shape that picks known sizes only, and each rank; return a count."""
    passes.constants_to_initializers(proto)
    passes.infer_shapes(proto)
    view = View(proto)
    folded = 0
    for node in list(view.nodes("Gather", "Slice", "Shape", "Size")):
        picked = _picked(view, node)
        if picked is None or not view.is_free(node.output[0]):
            continue
        view.replace(node.output[0], view.add_constant(picked, node.output[0]))
        view.remove(node)
        folded += 1
    return folded


def _picked(view: View, node: onnx.NodeProto) -> Array | None:
    """Return the sizes that a node picks of a shape; None where one is not known."""
    import numpy as np

    if node.op_type == "Shape":
        sizes = _sizes(view, node)
        return (
            None if sizes is None or None in sizes or not view.users.get(node.output[0]) else np.array(sizes, np.int64)
        )
    shape = view.producers.get(node.input[0])
    if node.op_type == "Size":  # of a Shape: the rank, of which no size need be known
        sizes = _sizes(view, shape) if shape is not None and shape.op_type == "Shape" else None
        return None if sizes is None else np.array(len(sizes), np.int64)
    sizes = _sizes(view, shape) if shape is not None and shape.op_type == "Shape" else None
    if sizes is None:
        return None
    if node.op_type == "Gather":
        indices = view.value(node.input[1])
        if indices is None or attribute(node, "axis", 0) != 0:
            return None
        chosen = [sizes[int(index)] for index in indices.reshape(-1)]
        return None if None in chosen else np.array(chosen, np.int64).reshape(indices.shape)
    bounds = [view.value(name) for name in node.input[1:] if name]
    if len(node.input) < 3 or any(b is None or b.size != 1 for b in bounds) or not all(node.input):
        return None
    start, end = (int(b.reshape(())) for b in bounds[:2])  # type: ignore[union-attr]
    step = int(bounds[3].reshape(())) if len(bounds) > 3 else 1  # type: ignore[union-attr]
    chosen = sizes[start:end:step]
    return None if None in chosen else np.array(chosen, np.int64)


def _sizes(view: View, shape: onnx.NodeProto) -> list[int | None] | None:
    """Return the sizes that a Shape node gives, None for those that are free; None where the rank is not known."""
    kind = view.types.get(shape.input[0])
    if kind is None or not kind.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    return sizes[attribute(shape, "start", 0) : attribute(shape, "end", len(sizes))]
