"""An index over an ONNX graph: who makes and who uses each tensor, and the values of constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.errors import ModelError
from edgepack.graph.walk import names_read_inside

if TYPE_CHECKING:
    from edgepack.specs.types import Array

Node = Any  # onnx.NodeProto; onnx has no types of its own


@dataclass
class GraphIndex:
    """Producers, consumers and constants of the main graph of a model; built once, never updated.

    ``inner`` holds the names that bodies of control flow use; names of their own are among them, which does no harm.
    """

    graph: Any
    producer: dict[str, int] = field(default_factory=dict)
    consumers: dict[str, list[int]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()

    @property
    def nodes(self) -> Any:
        """The nodes in the order of the graph."""
        return self.graph.node

    def users(self, tensor: str) -> list[int]:
        """Return the indices of the nodes of the main graph that use ``tensor``, each once."""
        return self.consumers.get(tensor, [])

    def sole_user(self, tensor: str) -> int | None:
        """Return the index of the only user of ``tensor``; None when there are more, or it leaves the graph."""
        users = self.users(tensor)
        if len(users) != 1 or tensor in self.outputs or tensor in self.inner:
            return None
        return users[0]

    def is_constant(self, tensor: str) -> bool:
        """Say whether ``tensor`` is an initializer."""
        return tensor in self.constants

    def constant(self, tensor: str) -> Array:
        """Return an initializer's values."""
        return to_array(self.constants[tensor])

    def scalar(self, tensor: str) -> float | None:
        """Return the value of a constant with one element, else None."""
        if tensor not in self.constants:
            return None
        values = self.constant(tensor)
        return float(values.reshape(())) if values.size == 1 else None


def index_graph(proto: Any) -> GraphIndex:
    """Build the index of ``proto``'s main graph."""
    graph = proto.graph
    constants = {t.name: t for t in graph.initializer}
    index = GraphIndex(
        graph,
        constants=constants,
        inputs=frozenset(v.name for v in graph.input if v.name not in constants),
        outputs=frozenset(v.name for v in graph.output),
        inner=frozenset(name for node in graph.node for name in names_read_inside(node)),
    )
    for number, node in enumerate(graph.node):
        for name in node.output:
            if name:
                index.producer[name] = number
        for name in dict.fromkeys(node.input):
            if name:
                index.consumers.setdefault(name, []).append(number)
    return index


def to_array(tensor: Any) -> Array:
    """Return the values of a TensorProto that is held in memory. Raises ``ModelError`` when they are damaged."""
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the initializer {tensor.name!r} cannot be read: {error}") from error


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, ``default`` when it is absent."""
    import onnx

    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def drop_attribute(node: Node, name: str) -> None:
    """Remove an attribute when it is there."""
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
