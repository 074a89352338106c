"""Int8 convolutions in a Q/DQ graph: their integers, and how to give them others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.types import Array


@dataclass
class Layer:
    """A convolution with integer weights: the DequantizeLinear of its weights, and that of its bias if it has one."""

    node: onnx.NodeProto
    weight: onnx.NodeProto
    bias: onnx.NodeProto | None
    shape: tuple[int, ...]

    @property
    def groups(self) -> int:
        """How many groups of channels the convolution keeps apart."""
        return int(attribute(self.node, "group", 1))


def int8_layers(view: View) -> Iterator[Layer]:
    """Yield the convolutions whose integer weights and bias nothing else reads."""
    for node in view.nodes("Conv"):
        weight = _dequantized(view, node.input[1])
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = _dequantized(view, node.input[2]) if has_bias else None
        if weight is not None and (bias is not None or not has_bias):
            yield Layer(node, weight, bias, tuple(view.constants[weight.input[0]].dims))


def _dequantized(view: View, name: str) -> onnx.NodeProto | None:
    """Return the DequantizeLinear that makes a tensor of constants alone, for one reader, along the first axis."""
    producer = view.producers.get(name)
    if producer is None or producer.op_type != "DequantizeLinear" or view.only_user(name) is None:
        return None
    values = [view.value(part) for part in producer.input]
    if any(value is None for value in values):
        return None
    by_row = attribute(producer, "axis", 1) == 0 or all(value.size == 1 for value in values[1:] if value is not None)
    return producer if by_row and not attribute(producer, "block_size", 0) else None


def integers(view: View, layer: Layer) -> tuple[Array, Array]:
    """Return a layer's integers and the zero point of each of its output channels."""
    values = constant(view, layer.weight.input[0])
    zero = constant(view, layer.weight.input[2]) if len(layer.weight.input) > 2 else np.zeros(1, values.dtype)
    return values, np.broadcast_to(zero.ravel(), values.shape[:1])


def constant(view: View, name: str) -> Array:
    """Return the value of a constant that is known to have one."""
    value = view.value(name)
    assert value is not None, name  # what makes a layer has values
    return value


def replace(view: View, node: onnx.NodeProto, place: int, values: Array) -> None:
    """Let a node read other constants, since the ones it reads may be read elsewhere too."""
    node.input[place] = view.add_constant(values, node.input[place])
