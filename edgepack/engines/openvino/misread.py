"""Nodes that OpenVINO 2026.4 takes without a word and computes otherwise than ONNX says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgepack.engines.common.resizes import NO_ANTIALIAS, shrinks_with_antialias
from edgepack.engines.common.weights import read_message
from edgepack.engines.openvino.paddings import ceiled_means_left
from edgepack.engines.openvino.products import wide_products
from edgepack.engines.openvino.wide_integers import wide_integers
from edgepack.graph.walk import all_graphs, all_nodes, describe_node
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.model import OnnxModel

# Of these its reader looks for the axes in a second input, which they have from opset 18 on, and finds none before.
_AXES_IN_INPUT = ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp")
_FIRST, _LAST = 13, 17
_OTHER = "replace the operator in the model, or use a target with another engine"


def misread_nodes(model: OnnxModel) -> list[Diagnostic]:
    """Return one error for each node that would be computed wrongly; a file that cannot be read has none."""
    try:
        proto = read_message(model.path)
    except (OSError, ValueError):
        return []
    found = [wrong for node in all_nodes(proto) for wrong in _wrong(node, model.opset)]
    integers = (*wide_products(proto), *wide_integers(proto, model))
    others = (*_quantized_constants(proto), *_resizes(proto), *_means(proto), *integers)
    return [Diagnostic("error", *wrong) for wrong in (*found, *others)]


def _quantized_constants(proto: onnx.ModelProto) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with sums and products of a constant of several values that is quantized in the graph.

    OpenVINO takes the first value for all of them where the result is quantized too. One stored as integers is right.
    """
    graph = proto.graph
    several = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) > 1}
    quantized = {n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in several}
    real = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in quantized}
    for node in graph.node:
        if node.op_type in ("Add", "Mul") and any(name in real for name in node.input):
            message = f"OpenVINO takes one value for all of a constant that is quantized in front of {node.op_type}"
            yield message, describe_node(node), "store the constant as integers, as --precision as-is does"


def _resizes(proto: onnx.ModelProto) -> Iterator[tuple[str, str, str]]:
    """Yield what OpenVINO leaves out of a Resize: the filter that makes it smaller, and weights of what lies outside.

    Measured against ONNX's reference over modes, coordinates, scales and sizes: all others are right.
    """
    graphs = list(all_graphs(proto.graph))
    constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for graph in graphs
        for value in (*graph.input, *graph.value_info)
    }
    for node in (node for graph in graphs for node in graph.node if node.op_type == "Resize"):
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if shrinks_with_antialias(node, constants, shapes):
            yield "OpenVINO makes things smaller by Resize without its antialias", describe_node(node), NO_ANTIALIAS
        cubic = "mode" in attributes and attributes["mode"].s == b"cubic"
        if cubic and "exclude_outside" in attributes and attributes["exclude_outside"].i:
            message = (
                "OpenVINO counts what lies outside of the input of a cubic Resize, whatever its exclude_outside says"
            )
            yield message, describe_node(node), _OTHER


def _means(proto: onnx.ModelProto) -> Iterator[tuple[str, str, str]]:
    """Yield the means that ``repairs.py`` can do nothing about."""
    for node in ceiled_means_left(proto):
        message = "OpenVINO divides by other counts in windows that ceil_mode adds, and the size of the input is free"
        yield message, describe_node(node), "fix the size: --shape NAME=1,3,224,224"


def _wrong(node: onnx.NodeProto, opset: int) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a node, its name, and what to do."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type in _AXES_IN_INPUT and _FIRST <= opset <= _LAST and "axes" in attributes:
        message = f"OpenVINO computes {node.op_type} of opset {opset} over all axes, not over those that it names"
        yield message, describe_node(node), "export the model with opset 18 or higher"
    if node.op_type == "BitShift":  # it multiplies, and where sizes are free rounds instead of cutting off
        yield "OpenVINO does not drop the bits that BitShift shifts out", describe_node(node), _OTHER
