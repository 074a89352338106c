"""Writes ONNX operators at the end of a graph, one call a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.errors import ConfigError
from edgepack.graph import passes
from edgepack.graph.clean.view import View
from edgepack.graph.walk import all_graphs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array

# Squeeze, Unsqueeze and ReduceSum take their axes as an input from it on: https://onnx.ai/onnx/operators/
OPSET = 13
_AXES_ARE_INPUTS = 18  # of ReduceMax
_FLOAT = 1  # TensorProto.FLOAT of onnx.proto
_MOST_COMPARED = 1024  # values, each with all others


@dataclass(frozen=True)
class Operators:
    """Appends nodes to a graph; tensors are named by their names.

    ``sorts`` says whether the engine has TopK; without it a few values are put in order by comparing each with all.
    """

    view: View
    sorts: bool = True

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

    def highest(self, name: str, count: int, size: int) -> tuple[str, str]:
        """Return the highest of values [1, ``size``], best first, and their indices; of equal ones the lower first.

        Raises ``ConfigError`` where the engine has no TopK and they are too many to compare.
        """
        if not self.sorts:
            return self._compared(name, count, size)
        values, indices = self.make_several("TopK", [name, self.const([count], "int64")], 2, axis=1)
        return values, indices

    def _compared(self, name: str, count: int, size: int) -> tuple[str, str]:
        """Return what ``highest`` does, by ranks: how many values are higher, or equal and before."""
        if size > _MOST_COMPARED:
            raise ConfigError(
                f"--embed postprocessing: the engine has no operator that sorts, and the best {count} of {size} values "
                f"are too many to compare (at most {_MOST_COMPARED})",
                hint="leave postprocessing out for this target",
            )
        own, other = self.unsqueeze(name, 2), self.unsqueeze(name, 1)
        places = np.arange(size)
        before = self.make("Less", [self.const(places[None, :], "int64"), self.const(places[:, None], "int64")])
        tied = self.make("And", [self.make("Equal", [other, own]), before])
        ahead = self.make("Or", [self.make("Greater", [other, own]), tied])
        counted = self.make("Cast", [ahead], to=_FLOAT)
        ranks = self.make("ReduceSum", [counted, self.const([2], "int64")], keepdims=0)
        wanted = self.const(np.arange(count)[:, None])
        chosen = self.make("Cast", [self.make("Equal", [self.unsqueeze(ranks, 1), wanted])], to=_FLOAT)
        indices = self.make("ArgMax", [chosen], axis=2, keepdims=0)
        flat = self.make("Gather", [name, self.make("Reshape", [indices, self.const([count], "int64")])], axis=1)
        return flat, indices

    def greatest(self, name: str, axis: int) -> str:
        """Return the highest value along an axis, which is then gone."""
        if self.view.opset < _AXES_ARE_INPUTS:
            return self.make("ReduceMax", [name], axes=[axis], keepdims=0)
        return self.make("ReduceMax", [name, self.const([axis], "int64")], keepdims=0)

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


def begin(proto: Any, *, sorts: bool = True) -> tuple[Any, Operators]:
    """Return a graph of a known opset, with constants as initializers, and what appends operators to it."""
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), OPSET)
    proto = passes.raise_opset(proto, OPSET) if opset < OPSET else proto
    passes.constants_to_initializers(proto)
    return proto, Operators(View(proto), sorts)


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
