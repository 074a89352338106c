"""Writes ONNX operators at the end of a graph, one call a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.graph import passes
from edgepack.graph.clean.view import View
from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array

# Squeeze, Unsqueeze and ReduceSum take their axes as an input from it on: https://onnx.ai/onnx/operators/
OPSET = 13


@dataclass(frozen=True)
class Operators:
    """Appends nodes to a graph; tensors are named by their names."""

    view: View

    def const(self, values: Any, dtype: str = "float32") -> str:
        """Return the name of a new constant."""
        return self.view.add_constant(np.asarray(values, dtype), "embedded")

    def make(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the name of its one output."""
        return self.make_several(operator, inputs, 1, **attributes)[0]

    def make_several(self, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> tuple[str, ...]:
        """Append a node and return the names of its outputs."""
        from onnx import helper

        names = tuple(self.view.new_name(f"embedded_{operator.lower()}") for _ in range(count))
        node = helper.make_node(operator, list(inputs), list(names), name=names[0], **attributes)
        self.view.graph.node.append(node)
        return names

    def slice(self, name: str, axis: int, begin: int, end: int) -> str:
        """Return a part of a tensor along one axis."""
        parts = [self.const([number], "int64") for number in (begin, end, axis)]
        return self.make("Slice", [name, *parts])

    def squeeze(self, name: str, axis: int) -> str:
        """Return a tensor without an axis of size 1."""
        return self.make("Squeeze", [name, self.const([axis], "int64")])

    def unsqueeze(self, name: str, axis: int) -> str:
        """Return a tensor with one more axis of size 1."""
        return self.make("Unsqueeze", [name, self.const([axis], "int64")])

    def highest(self, name: str, axis: int, count: int) -> tuple[str, str]:
        """Return the highest values along an axis, best first, and their indices; of equal ones the lower first."""
        values, indices = self.make_several("TopK", [name, self.const([count], "int64")], 2, axis=axis)
        return values, indices

    def output(self, name: str, wish: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make a tensor an output under a name of its own; a tensor of the model that has it gets another."""
        from onnx import helper

        other = self._rename(wish)
        name = other if name == wish else name
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.view.graph.node.append(helper.make_node("Cast", [name], [wish], name=f"{wish}_output", to=kind))
        self.view.graph.output.append(helper.make_tensor_value_info(wish, kind, list(shape)))

    def _rename(self, old: str) -> str:
        """Give all that makes or reads a tensor another name for it, and return that."""
        new = self.view.new_name(old)
        for graph in all_graphs(self.view.graph):
            for node in graph.node:
                node.input[:] = [new if name == old else name for name in node.input]
                node.output[:] = [new if name == old else name for name in node.output]
            for tensor in (*graph.initializer, *graph.output):
                tensor.name = new if tensor.name == old else tensor.name
        return new


def begin(proto: Any) -> tuple[Any, Operators]:
    """Return a graph of a known opset, with constants as initializers, and what appends operators to it."""
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), OPSET)
    proto = passes.raise_opset(proto, OPSET) if opset < OPSET else proto
    passes.constants_to_initializers(proto)
    return proto, Operators(View(proto))


def close(proto: Any) -> None:
    """Leave nothing in a graph that no node reads, and let shapes follow."""
    passes.drop_unused_initializers(proto)
    del proto.graph.value_info[:]
    passes.infer_shapes(proto)


def fixed(values: Sequence[int | str], fallback: int = 1) -> list[int]:
    """Return sizes where a free one is ``fallback``."""
    return [value if isinstance(value, int) else fallback for value in values]


def constant_array(view: View, name: str) -> Array | None:
    """Return the value of an initializer of any size; None for another tensor."""
    from onnx import numpy_helper

    tensor = view.constants.get(name)
    return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))
