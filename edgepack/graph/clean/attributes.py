"""Attributes in one spelling: paddings in numbers, the last axis from behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx


def spell_attributes(view: View) -> bool:
    """Write the attributes of one node as the other exporters do."""
    pads = any(_spell_pads(view, node) for node in view.nodes("Conv"))
    return pads or any(_spell_axis(view, node) for node in view.nodes("Softmax"))


def _spell_pads(view: View, node: onnx.NodeProto) -> bool:
    """Write SAME_UPPER and SAME_LOWER as numbers, where the picture's size is known (onnx's Conv, ``auto_pad``)."""
    how = attribute(node, "auto_pad", b"NOTSET")
    weight = view.constants.get(node.input[1])
    kernel = [int(size) for size in weight.dims[2:]] if weight is not None else attribute(node, "kernel_shape")
    kind = view.types.get(node.input[0])
    if how not in (b"SAME_UPPER", b"SAME_LOWER") or kernel is None or kind is None or not kind.HasField("shape"):
        return False
    sizes = [dim.dim_value for dim in kind.shape.dim[2:]]
    if len(sizes) != len(kernel) or not all(sizes):
        return False
    strides = attribute(node, "strides", [1] * len(sizes))
    dilations = attribute(node, "dilations", [1] * len(sizes))
    first, second = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        first.append(less if how == b"SAME_UPPER" else more)
        second.append(more if how == b"SAME_UPPER" else less)
    set_attribute(node, "auto_pad", "NOTSET")
    set_attribute(node, "pads", [*first, *second])
    return True


def _spell_axis(view: View, node: onnx.NodeProto) -> bool:
    rank = view.rank(node.input[0])
    # before opset 13 all axes from this one on are one
    if rank is None or view.opset < 13 or attribute(node, "axis", -1) != rank - 1:
        return False
    set_attribute(node, "axis", -1)
    return True
