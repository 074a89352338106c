"""A number that scales an attention, or the result of any layer, is multiplied into that layer's weights and bias.

Exporters write the scale of an attention on its queries, its keys, on both by the root, or on the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.attention import is_softened
from edgepack.graph.clean.cones import make_node
from edgepack.graph.clean.view import View

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")


def scale_first_factor(view: View) -> bool:
    """Scale the queries of one attention, not its scores."""
    for product in view.nodes("MatMul"):
        scaled = view.only_user(product.output[0])
        if scaled is None or any(name in view.constants for name in product.input):
            continue
        number = _number(view, scaled, product.output[0])
        if number is None or not is_softened(view, scaled):
            continue
        first = product.input[0]
        name = view.new_name(first)
        made = make_node(view, "Mul", [first, view.add_constant(np.asarray(number, np.float32), first)], name)
        position = next(i for i, found in enumerate(view.graph.node) if found is product)
        view.graph.node.insert(position, made)
        view.state_rank(name, 1, view.rank(first) or 0)
        product.input[0] = name
        view.forget(product.output[0])
        product.output[0] = scaled.output[0]
        view.remove(scaled)
        return True
    return False


def fold_scale(view: View) -> bool:
    """Multiply one number into the weights and the bias of the layer that makes what it scales."""
    for node in view.nodes("Mul", "Div"):
        place = next((i for i, name in enumerate(node.input) if name not in view.constants), 0)
        number = _number(view, node, node.input[place])
        if number is None or not view.is_free(node.output[0]):
            continue
        layer = _layer(view, node, node.input[place])
        if layer is None:
            continue
        for one, index in layer:
            _multiply(view, one, index, number)
        view.replace(node.output[0], node.input[place])
        view.remove(node)
        return True
    return False


def _number(view: View, node: onnx.NodeProto, data: str) -> float | None:
    """Return what a Mul or Div multiplies a tensor with, where that is one number."""
    if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx") or node.input[0] == node.input[1]:
        return None
    if node.op_type == "Div" and node.input[0] != data:
        return None
    value = view.floats(node.input[1 if node.input[0] == data else 0])
    rank = view.rank(data)
    if value is None or value.size != 1 or rank is None or value.ndim > rank:
        return None
    found = float(value.reshape(()))
    return 1 / found if node.op_type == "Div" and found else found if node.op_type == "Mul" else None


def _layer(view: View, user: onnx.NodeProto, name: str) -> list[tuple[onnx.NodeProto, int]] | None:
    """Return the nodes, each with the input that is a constant, of the layer that makes a tensor for ``user`` alone."""
    found: list[tuple[onnx.NodeProto, int]] = []
    while (producer := view.producers.get(name)) is not None and view.only_user(name) is user:
        constant = [i for i, read in enumerate(producer.input) if view.floats(read) is not None]
        if producer.op_type in _MOVES and producer.domain in ("", "ai.onnx"):
            user, name = producer, producer.input[0]
        elif producer.op_type == "Add" and len(constant) == 1 and not found:
            found.append((producer, constant[0]))
            user, name = producer, producer.input[1 - constant[0]]
        elif producer.op_type == "MatMul" and constant == [1]:
            return [*found, (producer, 1)]
        elif producer.op_type == "Gemm" and constant and constant[0] == 1:
            has_bias = len(producer.input) > 2 and bool(producer.input[2])
            if has_bias and constant != [1, 2]:
                return None
            return [*found, *((producer, i) for i in constant)]
        else:
            return None
    return None


def _multiply(view: View, node: onnx.NodeProto, index: int, number: float) -> None:
    """Scale a constant of a node, in a copy where others read it too."""
    import onnx

    name = node.input[index]
    value = view.floats(name)
    assert value is not None, "it was looked at"
    scaled: Array = (value.astype(np.float64) * number).astype(np.float32)
    if view.only_user(name) is node:
        view.constants[name].CopyFrom(onnx.numpy_helper.from_array(scaled, name))
    else:
        node.input[index] = view.add_constant(scaled, name)
