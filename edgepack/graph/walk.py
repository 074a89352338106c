"""Walks a model's graphs, nodes and tensors, those inside control flow and local functions included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_EXTERNAL = 1  # TensorProto.EXTERNAL of onnx.proto


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield ``graph`` and every graph inside its nodes' attributes, outer before inner."""
    yield graph
    for node in graph.node:
        yield from _inner_graphs(node)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node has itself: the branches of an If, the body of a Loop or Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def has_bodies(node: onnx.NodeProto) -> bool:
    """Say whether a node is control flow: whether it has graphs inside."""
    return next(bodies(node), None) is not None


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield every name that a node reads, and what ``names_read_inside`` yields of it."""
    yield from filter(None, node.input)
    yield from names_read_inside(node)


def names_read_inside(node: onnx.NodeProto) -> Iterator[str]:
    """Yield every name that the graphs inside a node read or return; some of these are the graphs' own."""
    for body in bodies(node):
        for inner in body.node:
            yield from names_read(inner)
        yield from (value.name for value in body.output)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node: of the main graph, of control flow inside it, and of the model's local functions."""
    for graph in all_graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        for node in function.node:
            yield node
            for graph in _inner_graphs(node):
                yield from graph.node


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor stored in the model: initializers, sparse ones, and those in attributes."""
    for graph in all_graphs(model.graph):
        yield from _initializers(graph)
    for function in model.functions:
        for node in function.node:
            for graph in _inner_graphs(node):
                yield from _initializers(graph)
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Say whether the tensor's bytes are outside the protobuf message."""
    return bool(tensor.data_location == _EXTERNAL)


def describe_node(node: onnx.NodeProto) -> str:
    """Return the node's name, else the name of its first output, to show to a user."""
    return node.name or next((name for name in node.output if name), "(unnamed)")


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for body in bodies(node):
        yield from all_graphs(body)
