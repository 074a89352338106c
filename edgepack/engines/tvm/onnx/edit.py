"""Adds nodes to an ONNX graph in place of others: names that nothing has, and constants where they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from edgepack.specs.types import Array


class Rewriter:
    """Collects the nodes that stand in for one after another of a graph's nodes; ``finish`` puts them there."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self._taken = set(self.stored) | {value.name for value in graph.input}
        for inner in all_graphs(graph):
            self._taken.update(name for node in inner.node for name in (*node.output, node.name))
            self._taken.update(tensor.name for tensor in inner.initializer)

    def free(self, name: str) -> str:
        """Return a name like ``name`` that nothing has."""
        number, wanted = 0, name
        while wanted in self._taken:
            number += 1
            wanted = f"{name}_{number}"
        self._taken.add(wanted)
        return wanted

    def keep(self, node: onnx.NodeProto) -> None:
        """Take a node over as it is."""
        self.nodes.append(node)

    def add(
        self,
        operator: str,
        inputs: Iterable[str],
        outputs: str | list[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Add a node and return its first output: ``outputs`` are names to use, or one to make a new name from."""
        import onnx

        names = [self.free(outputs)] if isinstance(outputs, str) else outputs
        node = onnx.helper.make_node(operator, list(inputs), names, self.free(f"{names[0]}/{operator}"))
        node.attribute.extend(
            onnx.helper.make_attribute(key, value) for key, value in (attributes or {}).items() if value is not None
        )
        self.nodes.append(node)
        return names[0]

    def constant(self, array: Array, name: str) -> str:
        """Store an array and return its name."""
        import onnx

        tensor = onnx.numpy_helper.from_array(array, self.free(name))
        self.graph.initializer.append(tensor)
        self.stored[tensor.name] = tensor
        return str(tensor.name)

    def value(self, name: str) -> Array | None:
        """Return the array of an initializer; None for what is computed."""
        import onnx

        tensor = self.stored.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def finish(self) -> None:
        """Write the collected nodes into the graph."""
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    import onnx

    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def optional(node: onnx.NodeProto, index: int) -> str:
    """Return the name of an input, "" when it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""
