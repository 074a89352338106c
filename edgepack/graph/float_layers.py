"""Keeps ONNX Runtime from quantizing the weights of layers that were left in float between int8 ones.

Its optimizer gives a convolution, or a matrix product with a bias, 8-bit weights with one scale for all channels
wherever the input comes out of a DequantizeLinear and the output goes into a QuantizeLinear, perhaps by way of a Relu
or Clip; what an own scale for each channel loses least is lost first (measured with 1.31.1, channels that differ by
e^2: an error of 3 to 84 % of the output's deviation, where the file itself says 0). Then it is not a layer in float:
a search for what to leave in float finds that leaving out one layer brings nothing, or less than nothing.

Source: onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc, since 1.21; 1.22 and later do it only
where the path leads to a QuantizeLinear. A LeakyRelu of slope 1 on that path, which changes no value, ends it. ONNX
Runtime computes it inside the layer (Conv and Gemm), so it costs nothing measurable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.graph.captured import DEQUANTIZE, MOVES

if TYPE_CHECKING:
    import onnx

_QUANTIZE = "QuantizeLinear"
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_BETWEEN = frozenset({"Clip", "Relu"})
# With a constant these become part of the layer.
_JOINED = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Sub"})
_SUFFIX = "_in_float"


def keep_float(proto: onnx.ModelProto) -> int:
    """Put a LeakyRelu of slope 1 behind each float layer of the main graph whose weights ONNX Runtime would quantize.

    The model is changed in place and computes the same; returns how many layers there were.
    """
    graph = proto.graph
    if not any(node.op_type == _QUANTIZE for node in graph.node):
        return 0
    tensors = _Tensors.of(graph)
    ends = [end for node in graph.node if node.op_type in _LAYERS and (end := tensors.end_of(node)) is not None]
    for end in ends:
        tensors.insert_behind(graph, end)
    return len(ends)


@dataclass(frozen=True)
class _Tensors:
    """Which node makes a tensor, which read it, and which tensors hold the same values whatever the inputs are."""

    producers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, list[onnx.NodeProto]]
    constants: frozenset[str]
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> _Tensors:
        producers = {name: node for node in graph.node for name in node.output if name}
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        constants = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
        for node in graph.node:  # in topological order; what is dequantized is not folded
            read = [name for name in node.input if name]
            if node.op_type == "Constant" or (read and node.op_type != DEQUANTIZE and constants.issuperset(read)):
                constants.update(node.output)
        outputs = frozenset(value.name for value in graph.output)
        return cls(producers, readers, frozenset(constants), outputs)

    def end_of(self, layer: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the node that a LeakyRelu must stand behind to keep a layer in float; None where nothing is to do."""
        if len(layer.input) < 2 or layer.input[1] not in self.constants or not self._is_dequantized(layer.input[0]):
            return None
        end = layer
        if layer.op_type == "MatMul":  # with a bias it becomes a Gemm
            reader = self._only_reader(layer)
            if reader is None or reader.op_type != "Add" or self.constants.isdisjoint(reader.input):
                return None
            end = reader
        return end if self._is_quantized(end) else None

    def _is_dequantized(self, name: str) -> bool:
        node = self.producers.get(name)
        while node is not None and node.op_type in MOVES and node.input:
            node = self.producers.get(node.input[0])
        return node is not None and node.op_type == DEQUANTIZE

    def _only_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        readers = self.readers.get(node.output[0], [])
        return readers[0] if len(readers) == 1 and node.output[0] not in self.outputs else None

    def _is_quantized(self, node: onnx.NodeProto) -> bool:
        """Say whether the way from a node leads to a QuantizeLinear, without a branch but where values are moved."""
        following: onnx.NodeProto | None = node
        while (following := self._only_reader(following)) is not None:
            if following.op_type == _QUANTIZE:
                return True
            joined = following.op_type in _JOINED and not self.constants.isdisjoint(following.input)
            if not joined and following.op_type not in _BETWEEN | MOVES:
                return False
        return False

    def insert_behind(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        """Put a LeakyRelu behind a node; what it makes keeps its name."""
        from onnx import helper

        name = node.output[0]
        inner = self._fresh(name)
        place = next(place for place, one in enumerate(graph.node) if name in one.output)
        graph.node.insert(place + 1, helper.make_node("LeakyRelu", [inner], [name], name=inner, alpha=1.0))
        node.output[0] = inner

    def _fresh(self, name: str) -> str:
        found = name + _SUFFIX
        while found in self.producers or found in self.constants or found in self.readers:
            found += "_"
        return found
