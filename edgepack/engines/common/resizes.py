"""Says of a Resize what engines that leave its filter out compute otherwise than ONNX does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

NO_ANTIALIAS = "export the model without antialias, or use a target with another engine"


def shrinks_with_antialias(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], shapes: Mapping[str, Sequence[int | str]]
) -> bool:
    """Return whether a node is a Resize with antialias that makes an axis smaller, or may where that is not known.

    ``shapes`` has sizes that are free as text or 0. Enlarging, the filter changes nothing (ONNX's operators, Resize).
    """
    from onnx import numpy_helper

    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type != "Resize" or "antialias" not in attributes or not attributes["antialias"].i:
        return False
    names = [*node.input, "", "", "", ""]
    scales, sizes = (numpy_helper.to_array(constants[n]) if n in constants else None for n in names[2:4])
    if scales is not None and scales.size:
        return bool((scales < 1).any())
    shape = shapes.get(node.input[0], ())
    axes = list(attributes["axes"].ints) if "axes" in attributes else list(range(len(shape)))
    if sizes is None or not shape or len(sizes) != len(axes):
        return True
    return any(_may_shrink(axis, shape[axis], size) for size, axis in zip(sizes.tolist(), axes, strict=True))


def _may_shrink(axis: int, before: int | str, size: int) -> bool:
    """Return whether an axis gets smaller; a free batch, whose size the others do not know, keeps its own."""
    known = isinstance(before, int) and before > 0
    return size < int(before) if known else axis > 0
