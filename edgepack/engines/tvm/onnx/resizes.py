"""Resize by scales that give no whole sizes: TVM takes the ratio of the sizes instead, and answers otherwise than ONNX.

ONNX rounds the sizes down and samples by the scales that were given. TVM 0.27 knows sizes alone: 7 x 1.3 becomes 9,
which it samples by 9 / 7 (measured: with nearest, whole pixels are other ones than ONNX Runtime's and OpenVINO's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_SAME = 1e-4  # of a size: scales are float32
_SCALES = {4: 2, 3: 2, 2: 1}  # where the scales stand, by the number of inputs
HINT = "give Resize the sizes instead of scales, or scales that give whole sizes, or use a target with another engine"


def fractional_scales(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int | str, ...]], constants: Mapping[str, onnx.TensorProto]
) -> str | None:
    """Return by what a Resize scales which size, where the result is not a whole number; None where all is well.

    With align_corners the scales do not matter, nor where the sizes stand in their place.
    """
    from onnx import numpy_helper

    attributes = {attribute.name: attribute for attribute in node.attribute}
    place = _SCALES.get(len(node.input))
    if node.op_type not in ("Resize", "Upsample") or place is None or (len(node.input) == 4 and node.input[3]):
        return None
    mode = attributes.get("coordinate_transformation_mode")
    scales, sizes = constants.get(node.input[place]), shapes.get(node.input[0], ())
    if scales is None or (mode is not None and mode.s == b"align_corners"):
        return None
    axes = attributes["axes"].ints if "axes" in attributes else range(len(sizes))
    for axis, scale in zip(axes, numpy_helper.to_array(scales).tolist(), strict=False):
        size = sizes[axis]
        if isinstance(size, int) and abs(size * scale - round(size * scale)) > _SAME * max(1.0, size * scale):
            return f"{node.op_type} of {size} by {scale:.4g}, which is {size * scale:.4g} and no whole number"
    return None
