"""A graph as the clean-up passes see it: who makes and who reads each tensor, and constants with their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.graph.passes import infer_shapes
from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.types import Array


class View:
    """The main graph of a model. Rewrites change the message; a new view is made after each."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self.graph = proto.graph
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.outputs = {value.name for value in proto.graph.output}
        self.inner = {
            name
            for graph in list(all_graphs(proto.graph))[1:]
            for node in graph.node
            for name in (*node.input, *(value.name for value in graph.output))
        }
        self._given: set[str] = set()
        self.users: dict[str, list[onnx.NodeProto]] = {}
        self.producers: dict[str, onnx.NodeProto] = {}
        for node in proto.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
            for name in node.output:
                self.producers[name] = node
        values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
        self.types = {value.name: value.type.tensor_type for value in values}

    def nodes(self, *operators: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes of the standard operators named."""
        return (n for n in self.graph.node if n.op_type in operators and n.domain in ("", "ai.onnx"))

    def is_free(self, name: str) -> bool:
        """Say whether nodes of the main graph alone read a tensor, so that it may change."""
        return name not in self.outputs and name not in self.inner

    def only_user(self, name: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor, once; None where there are others."""
        users = self.users.get(name, [])
        return users[0] if self.is_free(name) and len(users) == 1 else None

    def value(self, name: str) -> Array | None:
        """Return a constant's value; None for what is none, or larger than belongs in such a rewrite."""
        import onnx

        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location:
            return None
        return onnx.numpy_helper.to_array(tensor)  # type: ignore[no-any-return]

    def floats(self, name: str) -> Array | None:
        """Return a float32 constant's value."""
        found = self.value(name)
        return found if found is not None and found.dtype.name == "float32" else None

    def rank(self, name: str) -> int | None:
        """Return how many axes a tensor has, where that is known."""
        if name in self.constants:
            return len(self.constants[name].dims)
        kind = self.types.get(name)
        return len(kind.shape.dim) if kind is not None and kind.HasField("shape") else None

    def add_constant(self, array: Array, like: str) -> str:
        """Add a constant and return its name, which begins as that of another tensor."""
        import onnx

        name = self.new_name(like)
        tensor = onnx.numpy_helper.from_array(array, name)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name

    def new_name(self, like: str) -> str:
        """Return a name that no tensor has."""
        taken = (
            self.constants.keys()
            | self.producers.keys()
            | self.users.keys()
            | self.types.keys()
            | self.inner
            | self._given
        )
        name = next(n for n in (f"{like}_clean{i}" for i in range(len(taken) + 1)) if n not in taken)
        self._given.add(name)
        return name

    def replace(self, old: str, new: str) -> None:
        """Let all readers of a tensor read another."""
        for node in self.users.get(old, []):
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node out of the graph."""
        self.graph.node.remove(node)

    def insert_after(self, node: onnx.NodeProto, added: onnx.NodeProto) -> None:
        """Put a node behind another one, so that the order stays one of computation."""
        position = next(i for i, found in enumerate(self.graph.node) if found is node)
        self.graph.node.insert(position + 1, added)

    def infer(self) -> None:
        """Find out types and shapes again. Raises ``ModelError`` when the graph is not valid."""
        infer_shapes(self._proto)

    def forget(self, name: str) -> None:
        """Drop what is known of a tensor's shape."""
        for index in reversed(range(len(self.graph.value_info))):
            if self.graph.value_info[index].name == name:
                del self.graph.value_info[index]

    def state_rank(self, name: str, kind: int, rank: int) -> None:
        """Say how many axes a tensor has; none of the sizes."""
        import onnx

        self.forget(name)
        self.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, [None] * rank))


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute."""
    import onnx

    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set a node's attribute."""
    import onnx

    for index in reversed(range(len(node.attribute))):
        if node.attribute[index].name == name:
            del node.attribute[index]
    node.attribute.append(onnx.helper.make_attribute(name, value))
