"""Adds channels of zeros to int8 convolutions whose number of channels keeps ONNX Runtime from its quick kernels.

No result changes: what is added is read by weights of zero. The symmetric kernels take a depthwise convolution of
whole blocks of 16 channels, and another one of whole blocks of 4 input channels (``MlasConvSymPackWSize`` of
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/mlas/lib/convsym.cpp); for others the window of
each pixel is copied first. By its profiler, 1.31.1, one thread, AVX-512 host with VNNI, other work beside it:

- depthwise, 3x3, 44 x 44: 24 channels 75 us and 32 channels 45, 72 channels 162 us and 80 channels 90;
- first layers, 3x3, strides of 2: 352 x 352 to 24 channels 2.1 ms and with a fourth channel 0.9, 224 x 224 to 32
  channels 0.54 and 0.27. Of 5x5 and more, with the Pad, nothing is gained.

The channels between two convolutions are theirs and that of the depthwise ones between. First layers get theirs from
the rows of their windows (``fold_windows.py``); where the number of rows is free, a picture gets its fourth from a Pad.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.onnxruntime.fold_windows import PAD_OPSET, fold_windows
from edgepack.engines.onnxruntime.int8_layers import Layer, constant, int8_layers, integers, replace
from edgepack.graph.clean.view import View, set_attribute

if TYPE_CHECKING:
    import onnx

_DEPTHWISE, _DENSE = 16, 4
# Fewer are not worth filling up to a block, and first layers that make fewer than a block do not get the quick kernel.
_FEWEST = _DEPTHWISE // 2
_PICTURE = 3
_LARGEST_WINDOW = 9
# What computes each channel from the same one of all that it reads; constants beside must be single values.
_BY_CHANNEL = frozenset(
    {
        "Add", "AveragePool", "Clip", "DequantizeLinear", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul",
        "QuantizeLinear", "Relu", "Sigmoid",
    }
)  # fmt: skip
# What may stand between a model's input and what is quantized of it.
_ON_INPUTS = frozenset({"Add", "Cast", "Div", "Mul", "Sub"})


def fill_channels(proto: onnx.ModelProto, *, fold: bool = True) -> int:
    """Add channels in place where they make the main graph faster; return to how many groups of tensors.

    Without ``fold`` first layers keep their windows.
    """
    if not any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
        return 0
    filled = 0
    view = View(proto)
    for group in _groups(view):
        missing = -group.channels % _DEPTHWISE
        if missing and group.may_grow():
            _widen(view, group, missing)
            filled += 1
    if filled:
        del proto.graph.value_info[:]  # their shapes are those of before
    filled += fold_windows(proto) if fold else 0
    for layer in list(int8_layers(View(proto))):
        filled += _pad_picture(View(proto), layer)
    if filled:
        from edgepack.graph.passes import drop_unused_initializers

        drop_unused_initializers(proto)
        del proto.graph.value_info[:]
    return filled


@dataclass
class _Group:
    """Tensors that have the same channels, and the layers that make, keep and read them."""

    channels: int = 0
    producers: list[Layer] = field(default_factory=list)
    depthwise: list[Layer] = field(default_factory=list)
    readers: list[Layer] = field(default_factory=list)
    fixed: bool = False

    def may_grow(self) -> bool:
        """Say whether all that has these channels can have more of them, and a depthwise layer gains by it."""
        if self.fixed or not (self.producers and self.depthwise and self.readers) or self.channels < _FEWEST:
            return False
        layers = (*self.producers, *self.depthwise, *self.readers)
        counts = {r.shape[1] if r in self.readers else r.shape[0] for r in layers}
        return counts == {self.channels} and len({len(layer.shape) for layer in layers}) == 1


# --- what belongs together --------------------------------------------------------------------------------------------


def _groups(view: View) -> list[_Group]:
    """Return the groups of tensors that share their channels."""
    joined = _Joined()
    layers = {id(layer.node): layer for layer in int8_layers(view)}
    for node in view.graph.node:
        layer = layers.get(id(node))
        if layer is not None and _is_depthwise(layer):
            joined.join(node.input[0], node.output[0])
        elif node.op_type in _BY_CHANNEL and _is_by_channel(view, node):
            joined.join(*(name for name in node.input if name and name not in view.constants), *node.output)
    groups: dict[str, _Group] = defaultdict(_Group)
    for node in view.graph.node:
        _enter(view, node, layers.get(id(node)), joined, groups)
    for name in (*view.outputs, *view.inner, *(value.name for value in view.graph.input)):
        groups[joined.root(name)].fixed = True
    return list(groups.values())


def _enter(view: View, node: Any, layer: Layer | None, joined: _Joined, groups: dict[str, _Group]) -> None:
    """Put a node down in the groups of what it reads and makes."""
    if layer is not None and _is_depthwise(layer):
        group = groups[joined.root(node.output[0])]
        group.depthwise.append(layer)
        group.channels = layer.shape[0]
    elif layer is not None and layer.groups == 1:
        groups[joined.root(node.input[0])].readers.append(layer)
        groups[joined.root(node.output[0])].producers.append(layer)
    elif not (node.op_type in _BY_CHANNEL and _is_by_channel(view, node)):
        for name in (*node.input, *node.output):
            if name and name not in view.constants:
                groups[joined.root(name)].fixed = True


def _is_depthwise(layer: Layer) -> bool:
    return layer.groups == layer.shape[0] > 1 and layer.shape[1] == 1


def _is_by_channel(view: View, node: onnx.NodeProto) -> bool:
    """Say whether the constants beside what a node reads are single values."""
    constants = [view.constants[name] for name in node.input if name in view.constants]
    return len(constants) < len(node.input) and all(size == 1 for tensor in constants for size in tensor.dims)


class _Joined:
    """Names that were joined, in sets; each set is known by one of its names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the name that stands for all that ``name`` was joined with."""
        while (above := self._above.get(name, name)) != name:
            name = above
        return name

    def join(self, *names: str) -> None:
        """Make one set of those of all names."""
        first, *others = map(self.root, names)
        for other in others:
            if self.root(other) != self.root(first):
                self._above[self.root(other)] = self.root(first)


# --- more channels ----------------------------------------------------------------------------------------------------


def _widen(view: View, group: _Group, missing: int) -> None:
    """Give a group of tensors more channels, behind those it has."""
    for layer in (*group.producers, *group.depthwise):
        _add_outputs(view, layer, missing)
    for layer in group.depthwise:
        set_attribute(layer.node, "group", group.channels + missing)
    for layer in group.readers:
        _add_inputs(view, layer, missing)


def _add_outputs(view: View, layer: Layer, missing: int) -> None:
    """Add output channels of zeros behind those of a layer, with the scale of the last one."""
    values, zero = integers(view, layer)
    rows = np.full((missing, *values.shape[1:]), zero[-1], values.dtype)
    replace(view, layer.weight, 0, np.concatenate([values, rows]))
    if layer.bias is not None:
        bias = constant(view, layer.bias.input[0])
        replace(view, layer.bias, 0, np.concatenate([bias, np.zeros(missing, bias.dtype)]))
    for node in filter(None, (layer.weight, layer.bias)):
        for place in range(1, len(node.input)):
            parameters = constant(view, node.input[place])
            if parameters.size > 1:
                replace(view, node, place, np.pad(parameters, (0, missing), mode="edge"))


def _add_inputs(view: View, layer: Layer, missing: int) -> None:
    """Add weights of zero for input channels behind those that a layer has."""
    values, zero = integers(view, layer)
    shape = (values.shape[0], missing, *values.shape[2:])
    columns = np.broadcast_to(zero.reshape(-1, *[1] * (values.ndim - 1)), shape)
    replace(view, layer.weight, 0, np.concatenate([values, columns], axis=1))


# --- a picture's fourth channel ---------------------------------------------------------------------------------------


def _pad_picture(view: View, layer: Layer) -> bool:
    """Put a Pad in front of a first layer that reads pictures with three channels, if that makes it faster."""
    from onnx import helper

    made, read, *window = layer.shape
    small = len(window) == 2 and 1 < int(np.prod(window)) <= _LARGEST_WINDOW
    pair = _picture(view, layer.node.input[0]) if layer.groups == 1 and read == _PICTURE and small else None
    if pair is None or made < _DEPTHWISE or view.opset < PAD_OPSET:
        return False
    bytes_of = pair.input[0]
    pads = view.add_constant(np.array([0, 0, 0, 0, 0, _DENSE - _PICTURE, 0, 0], np.int64), f"{bytes_of}_pads")
    padded, result = view.new_name(bytes_of), view.new_name(layer.node.input[0])
    read_again = helper.make_node("DequantizeLinear", [padded, *pair.input[1:]], [result], result)
    view.insert_after(pair, read_again)
    view.insert_after(pair, helper.make_node("Pad", [bytes_of, pads], [padded], padded))
    _add_inputs(view, layer, _DENSE - _PICTURE)
    layer.node.input[0] = result
    return True


def _picture(view: View, name: str) -> onnx.NodeProto | None:
    """Return the DequantizeLinear that makes a tensor of a model's input; None where the tensor is another's."""
    pair = view.producers.get(name)
    if pair is None or pair.op_type != "DequantizeLinear" or not _is_by_channel(view, pair):
        return None
    inputs = {value.name for value in view.graph.input}
    producer = view.producers.get(pair.input[0])
    source = producer.input[0] if producer is not None and producer.op_type == "QuantizeLinear" else pair.input[0]
    while source not in inputs:
        producer = view.producers.get(source)
        if producer is None or producer.op_type not in _ON_INPUTS:
            return None
        source = next((part for part in producer.input if part not in view.constants), "")
    return pair
