"""Attentions: the scale in one place, the projection in a product of its own.

torch's exporter multiplies queries and keys each by the root of the scale. One product in front of the queries does the
same; behind the transposed keys it keeps OpenVINO from reading them transposed, and is one more tensor to quantize.

ONNX Runtime's Attention holds the projection of queries, keys and values, most of its multiplications. Its
MultiHeadAttention is the same without that, so that the product in front is quantized as any other (both in its
ContribOperators.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_CONTRIBUTED = "com.microsoft"
_KEPT = ("num_heads", "mask_filter_value", "scale", "unidirectional")
_HOPS = 3  # a mask or a cast may stand between the product and its softmax


def join_scales(view: View) -> bool:
    """Multiply both numbers of one attention's product, and keep one Mul in front of its first operand."""
    if next(view.nodes("Softmax"), None) is None:
        return False
    for product in view.nodes("MatMul"):
        first, second = (_scaled(view, name) for name in product.input)
        if first is None or second is None or first[0] is second[0] or not is_softened(view, product):
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
    producer = view.producers.get(name)
    if producer is not None and producer.op_type == "Transpose" and view.only_user(name) is not None:
        name = producer.input[0]
        producer = view.producers.get(name)
    if producer is None or producer.op_type != "Mul" or view.only_user(name) is None:
        return None
    number = view.floats(producer.input[_place(view, producer)])
    # One number in as many brackets as the tensor has would not be seen here; exporters write none, or few.
    if number is None or number.size != 1 or number.ndim > 1 or producer.input[0] == producer.input[1]:
        return None
    return producer, number.reshape(())


def _place(view: View, node: onnx.NodeProto) -> int:
    """Return which operand of a Mul is the constant."""
    return 1 if node.input[1] in view.constants else 0


def is_softened(view: View, product: onnx.NodeProto) -> bool:
    """Say whether a softmax follows, with an addition of a mask between them at most."""
    node: onnx.NodeProto | None = product
    for _ in range(_HOPS):
        node = view.only_user(node.output[0]) if node is not None else None
        if node is None or node.op_type not in ("Add", "Where", "Softmax"):
            return False
        if node.op_type == "Softmax":
            return True
    return False


def project_apart(view: View) -> bool:
    """Write one Attention of ONNX Runtime as a product, a split and a MultiHeadAttention."""
    for node in view.graph.node:
        if (
            node.op_type == "Attention"
            and node.domain == _CONTRIBUTED
            and (sizes := _projected(view, node)) is not None
        ):
            _write_apart(view, node, sizes)
            return True
    return False


def _projected(view: View, node: onnx.NodeProto) -> list[int] | None:
    """Return the widths of queries, keys and values; None for an Attention with more than its other form has."""
    given = [place for place, name in enumerate(node.input) if name]
    mask = node.input[3] if 3 in given else ""
    known = {a.name for a in node.attribute} <= {*_KEPT, "qkv_hidden_sizes"}
    weight = view.constants.get(node.input[1])
    if weight is None or not known or set(given) - {0, 1, 2, 3, 5} or len([name for name in node.output if name]) != 1:
        return None
    if mask and view.rank(mask) != 2:  # masks of lengths are of two kinds, of which the other form has one
        return None
    width = int(weight.dims[1])
    return [int(size) for size in attribute(node, "qkv_hidden_sizes", [width // 3] * 3)]


def _write_apart(view: View, node: onnx.NodeProto, sizes: list[int]) -> None:
    import onnx

    result = node.output[0]
    product, *parts = (view.new_name(result) for _ in range(4))
    added = [onnx.helper.make_node("MatMul", [node.input[0], node.input[1]], [product], name=f"{node.name}_projection")]
    if len(node.input) > 2 and node.input[2]:
        summed = view.new_name(result)
        added.append(onnx.helper.make_node("Add", [product, node.input[2]], [summed], name=f"{node.name}_bias"))
        product = summed
    listed = view.add_constant(np.asarray(sizes, np.int64), result)
    added.append(onnx.helper.make_node("Split", [product, listed], parts, name=f"{node.name}_split", axis=-1))
    optional = ["", *(node.input[place] if place < len(node.input) else "" for place in (3, 5))]
    while optional and not optional[-1]:
        optional.pop()
    fused = onnx.helper.make_node(
        "MultiHeadAttention", [*parts, *optional], [result], name=node.name, domain=_CONTRIBUTED
    )
    fused.attribute.extend(a for a in node.attribute if a.name in _KEPT)
    place = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.remove(node)
    for offset, one in enumerate((*added, fused)):
        view.graph.node.insert(place + offset, one)
