"""The precision that a model's Q/DQ ask of each node."""

from __future__ import annotations

from typing import Any

from edgepack.engines.common.requested import LEFT_KEY, AskedLayer, ExecutedLayer, left_in_float
from edgepack.engines.int8 import MOVES, WEIGHTED
from edgepack.quantize.graph.index import GraphIndex, index_graph
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Asked


def asked_of_onnx(model: OnnxModel) -> list[AskedLayer]:
    """Return every operator of an ONNX model but Q/DQ, in graph order."""
    from edgepack.graph.load import read_proto

    proto = read_proto(model, weights=False)
    left = left_in_float({item.key: item.value for item in proto.metadata_props}.get(LEFT_KEY, ""))
    index = index_graph(proto)
    layers: list[AskedLayer] = []
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            continue
        weighted = node.op_type in WEIGHTED
        layer = ExecutedLayer(
            node.name, node.op_type, weighted, _asked(index, node), "unknown", "", left.get(node.name)
        )
        layers.append(AskedLayer(layer, tuple(node.input), tuple(node.output)))
    return layers


def _asked(index: GraphIndex, node: Any) -> Asked:
    """int8 when every activation, and the weight where there is one, comes out of a DequantizeLinear."""
    if node.op_type in WEIGHTED:  # float weights are constants, and count
        names = list(node.input[:2])
    else:
        names = [name for name in node.input if name and not index.is_constant(name)]
        names = names[:1] if node.op_type in MOVES else names
    producers = [index.nodes[index.producer[name]].op_type if name in index.producer else "" for name in names]
    return "int8" if producers and all(producer == "DequantizeLinear" for producer in producers) else "fp32"
