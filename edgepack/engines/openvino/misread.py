"""Nodes that OpenVINO 2026.4 takes without a word and computes otherwise than ONNX says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.common.weights import read_message
from edgepack.graph.walk import all_nodes, describe_node
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
    return [Diagnostic("error", *found) for node in all_nodes(proto) for found in _wrong(node, model.opset)]


def _wrong(node: onnx.NodeProto, opset: int) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a node, its name, and what to do."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type in _AXES_IN_INPUT and _FIRST <= opset <= _LAST and "axes" in attributes:
        message = f"OpenVINO computes {node.op_type} of opset {opset} over all axes, not over those that it names"
        yield message, describe_node(node), "export the model with opset 18 or higher"
    if node.op_type == "BitShift" and attributes["direction"].s == b"LEFT":
        yield "OpenVINO does not drop the bits that BitShift shifts out", describe_node(node), _OTHER
