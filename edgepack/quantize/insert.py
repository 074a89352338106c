"""Writes Q/DQ, integer weights and integer biases into a graph, as a placement says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.common.requested import LEFT_KEY
from edgepack.quantize.graph.index import GraphIndex, drop_attribute
from edgepack.quantize.graph.names import Names
from edgepack.quantize.graph.normalise import drop_unused
from edgepack.quantize.weights import IntegerWeights, integer_bias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.quantize.placement import Layer, Placement
    from edgepack.specs.target import QuantizationRules
    from edgepack.specs.types import Array


def insert(
    proto: Any,
    index: GraphIndex,
    placement: Placement,
    weights: Mapping[str, IntegerWeights],
    rules: QuantizationRules,
) -> None:
    """Change ``proto`` in place; ``weights`` holds the integers of every layer of ``placement`` by the layer's name.

    Its metadata say, under ``LEFT_KEY``, which nodes with weights stay in float, and why.
    """
    writer = _Writer(proto.graph, Names(proto.graph))
    sites = {tensor: _write_site(writer, index, placement, tensor) for tensor in placement.scales}
    layers = {layer.node: layer for layer in placement.layers}
    nodes = [node for name, site in sites.items() if name in index.inputs for node in site.pair]
    for number, node in enumerate(index.nodes):
        produced = [name for name in node.output if name in sites]
        _rewire(node, sites, chosen=number in placement.nodes, placement=placement)
        if number in layers:
            layer = layers[number]
            values = weights[layer.name]
            nodes.extend(_write_weight(writer, node, layer, values))
            if values.bias is not None:
                bias = integer_bias(values, layer, placement.inputs[layer.name]) if rules.quantize_bias else None
                nodes.extend(_write_bias(writer, node, layer, values.bias, bias))
        nodes.append(node)
        nodes.extend(part for name in produced for part in sites[name].pair)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    drop_unused(proto.graph)
    set_metadata(proto, LEFT_KEY, json.dumps(placement.left, sort_keys=True))


def set_metadata(proto: Any, key: str, value: str) -> None:
    """Set one entry of the model's own metadata, replacing an older one."""
    for item in proto.metadata_props:
        if item.key == key:
            item.value = value
            return
    proto.metadata_props.add(key=key, value=value)


@dataclass(frozen=True)
class _Site:
    """A tensor with Q/DQ: the name of the float tensor that is quantized, of the result, and the two nodes."""

    source: str
    result: str
    pair: tuple[Any, Any]


@dataclass
class _Writer:
    """Adds initializers under names that are not taken; equal contents are stored once."""

    graph: Any
    names: Names
    stored: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def name(self, wish: str) -> str:
        return self.names.new(wish)

    def store(self, wish: str, values: Array) -> str:
        from onnx import numpy_helper

        key = (wish, values.dtype.str, values.shape, values.tobytes())
        if key not in self.stored:
            self.stored[key] = self.name(wish)
            self.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), self.stored[key])
            )
        return self.stored[key]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        from onnx import helper

        return helper.make_node(operator, inputs, [output], name=self.name(f"{output}_{operator}"), **attributes)


def _write_site(writer: _Writer, index: GraphIndex, placement: Placement, tensor: str) -> _Site:
    """Make the Q/DQ pair of ``tensor``; a tensor that leaves the graph keeps its name, behind the pair."""
    scale = placement.scales[tensor]
    leaves = tensor in index.outputs and tensor not in placement.kept_float
    source = writer.name(f"{tensor}_float") if leaves else tensor
    result = tensor if leaves else writer.name(f"{tensor}_dequantized")
    parameters = [
        writer.store(f"{tensor}_scale", np.asarray(scale.scale, np.float32)),
        writer.store(f"{tensor}_zero_point", np.asarray(scale.zero_point, scale.dtype)),
    ]
    quantized = writer.name(f"{tensor}_quantized")
    pair = (
        writer.node("QuantizeLinear", [source, *parameters], quantized),
        writer.node("DequantizeLinear", [quantized, *parameters], result),
    )
    return _Site(source, result, pair)


def _rewire(node: Any, sites: Mapping[str, _Site], *, chosen: bool, placement: Placement) -> None:
    """Let a node read the dequantized tensors, and write the float tensors in front of Q."""
    for i, name in enumerate(node.input):
        if name in sites and (chosen or name not in placement.kept_float):
            node.input[i] = sites[name].result
    for i, name in enumerate(node.output):
        if name in sites:
            node.output[i] = sites[name].source


def _write_weight(writer: _Writer, node: Any, layer: Layer, weights: IntegerWeights) -> list[Any]:
    """Store a layer's weights as integers, let ``node`` read them, and return their DequantizeLinear."""
    axis = {} if weights.axis is None else {"axis": weights.axis}
    zero = np.full(weights.scale.shape, weights.zero_point, weights.values.dtype)
    inputs = [
        writer.store(f"{layer.weight}_quantized", weights.values),
        writer.store(f"{layer.weight}_scale", weights.scale),
        writer.store(f"{layer.weight}_zero_point", zero),
    ]
    dequantized = writer.name(f"{layer.weight}_dequantized")
    node.input[1] = dequantized
    if layer.operator == "Gemm":  # multiplied into the integers
        drop_attribute(node, "alpha")
        drop_attribute(node, "beta")
    return [writer.node("DequantizeLinear", inputs, dequantized, **axis)]


def _write_bias(
    writer: _Writer, node: Any, layer: Layer, real: Array, integers: tuple[Array, Array] | None
) -> list[Any]:
    """Store a layer's bias, as ``integers`` with their scale where there are any, and return its DequantizeLinear."""
    del node.input[2:]
    name = layer.bias or f"{layer.name}_bias"
    if integers is None:
        node.input.append(writer.store(f"{name}_float", real))
        return []
    values, scale = integers
    inputs = [writer.store(f"{name}_quantized", values), writer.store(f"{name}_scale", scale)]
    dequantized = writer.name(f"{name}_dequantized")
    node.input.append(dequantized)
    axis = {"axis": 0} if scale.ndim else {}
    return [writer.node("DequantizeLinear", inputs, dequantized, **axis)]
