"""The scale of an attention in one place.

torch's exporter multiplies queries and keys each by the root of the scale. One product in front of the queries does the
same; behind the transposed keys it keeps OpenVINO from reading them transposed, and is one more tensor to quantize.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_HOPS = 3  # a mask or a cast may stand between the product and its softmax


def join_scales(view: View) -> bool:
    """Multiply both numbers of one attention's product, and keep one Mul in front of its first operand."""
    if next(view.nodes("Softmax"), None) is None:
        return False
    for product in view.nodes("MatMul"):
        first, second = (_scaled(view, name) for name in product.input)
        if first is None or second is None or first[0] is second[0] or not _is_softened(view, product):
            continue
        (kept, scale), (dropped, other) = first, second
        place = _place(view, kept)
        kept.input[place] = view.add_constant(np.asarray(scale * other, np.float32), kept.input[place])
        view.replace(dropped.output[0], dropped.input[1 - _place(view, dropped)])
        view.forget(dropped.output[0])
        view.remove(dropped)
        return True
    return False


def _scaled(view: View, name: str) -> tuple[onnx.NodeProto, Array] | None:
    """Return the Mul by one number that makes a tensor, itself or before a transpose, read once; and the number."""
    maker = view.makers.get(name)
    if maker is not None and maker.op_type == "Transpose" and view.only_user(name) is not None:
        name = maker.input[0]
        maker = view.makers.get(name)
    if maker is None or maker.op_type != "Mul" or view.only_user(name) is None:
        return None
    number = view.floats(maker.input[_place(view, maker)])
    # One number in as many brackets as the tensor has would not be seen here; exporters write none, or few.
    if number is None or number.size != 1 or number.ndim > 1 or maker.input[0] == maker.input[1]:
        return None
    return maker, number.reshape(())


def _place(view: View, node: onnx.NodeProto) -> int:
    """Return which operand of a Mul is the constant."""
    return 1 if node.input[1] in view.constants else 0


def _is_softened(view: View, product: onnx.NodeProto) -> bool:
    """Say whether a softmax follows, with an addition of a mask between them at most."""
    node: onnx.NodeProto | None = product
    for _ in range(_HOPS):
        node = view.only_user(node.output[0]) if node is not None else None
        if node is None or node.op_type not in ("Add", "Where", "Softmax"):
            return False
        if node.op_type == "Softmax":
            return True
    return False
