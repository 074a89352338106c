"""Replaces If nodes: a branch chosen by a constant stands alone, else both are computed and one result is taken.

ONNX branches have no side effects, so that computing both changes the time and not the result. Branches whose results
are stated to differ in type or shape are left as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.tvm.onnx.edit import Rewriter, attributes_of
from edgepack.graph.walk import bodies

if TYPE_CHECKING:
    import onnx


def merge_branches(proto: onnx.ModelProto) -> bool:
    """Replace the If nodes of the main graph, nested ones too; say whether anything changed."""
    changed = False
    while any(_is_mergeable(node) for node in proto.graph.node):
        changed = True
        rewriter = Rewriter(proto.graph)
        for node in proto.graph.node:
            if _is_mergeable(node):
                _merge(rewriter, node)
            else:
                rewriter.keep(node)
        rewriter.finish()
    return changed


def _is_mergeable(node: onnx.NodeProto) -> bool:
    if node.op_type != "If":
        return False
    graphs = attributes_of(node)
    pairs = zip(graphs["then_branch"].output, graphs["else_branch"].output, strict=True)
    return all(_same(first, second) for first, second in pairs)


def _same(first: onnx.ValueInfoProto, second: onnx.ValueInfoProto) -> bool:
    """Say whether two results are tensors of one type, of fixed equal shapes where both are known."""
    a, b = first.type.tensor_type, second.type.tensor_type
    if a.elem_type != b.elem_type:
        return False
    if not (a.HasField("shape") and b.HasField("shape")):
        return True
    sizes = [[dim.dim_value or dim.dim_param for dim in tensor.shape.dim] for tensor in (a, b)]
    return sizes[0] == sizes[1]


def _merge(rewriter: Rewriter, node: onnx.NodeProto) -> None:
    graphs = attributes_of(node)
    known = rewriter.value(node.input[0])
    names = [("then_branch", True), ("else_branch", False)]
    if known is not None:
        chosen = graphs["then_branch" if bool(known.reshape(-1)[0]) else "else_branch"]
        for output, result in zip(node.output, _inline(rewriter, chosen), strict=True):
            rewriter.add("Identity", [result], [str(output)])
        return
    then, other = (_inline(rewriter, graphs[name]) for name, _ in names)
    for output, first, second in zip(node.output, then, other, strict=True):
        rewriter.add("Where", [node.input[0], first, second], [str(output)])


def _inline(rewriter: Rewriter, graph: onnx.GraphProto) -> list[str]:
    """Add a branch's nodes to the main graph under names of their own; return the names of its results."""
    import onnx

    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        renamed[tensor.name] = rewriter.constant(onnx.numpy_helper.to_array(tensor), tensor.name)
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        _rename(copy, renamed)
        for index, name in enumerate(copy.output):
            if name:
                renamed[name] = copy.output[index] = rewriter.free(name)
        copy.name = rewriter.free(copy.name or copy.op_type)
        rewriter.keep(copy)
    return [renamed.get(value.name, value.name) for value in graph.output]


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Give what a node, and the graphs inside it, read its new names; what an inner graph defines itself is its own."""
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for graph in bodies(node):
        own = {t.name for t in graph.initializer} | {v.name for v in graph.input}
        own.update(output for inner in graph.node for output in inner.output)
        visible = {old: new for old, new in names.items() if old not in own}
        for inner in graph.node:
            _rename(inner, visible)
        for value in graph.output:
            value.name = visible.get(value.name, value.name)
