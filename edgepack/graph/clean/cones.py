"""Parts of a graph that make one tensor of one other: what they compute is found by computing it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

    from edgepack.specs.types import Array

_MOST_NODES = 16
_MOST_VALUES = 1 << 16
_erf = np.vectorize(math.erf, otypes=[np.float64])
_COMPUTED: dict[str, Callable[..., Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Erf": _erf,
    "Max": np.maximum, "Tanh": np.tanh, "Exp": np.exp, "Neg": np.negative, "Sqrt": np.sqrt, "Reciprocal": np.reciprocal,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip


@dataclass(frozen=True)
class Cone:
    """Nodes in the order of the graph that make ``result`` of ``source`` and constants, and that nothing else reads."""

    source: str
    result: str
    nodes: tuple[onnx.NodeProto, ...]

    def operators(self) -> list[str]:
        """Return the nodes' operators, sorted."""
        return sorted(node.op_type for node in self.nodes)

    def compute(self, view: View, x: Array) -> Array:
        """Return what the nodes make of ``x``, in double precision."""
        values = {self.source: x}
        for node in self.nodes:
            read = [values[n] if n in values else np.asarray(view.value(n), np.float64) for n in node.input if n]
            with np.errstate(all="ignore"):
                values[node.output[0]] = _computed(view, node, read)
        return values[self.result]


def cones(view: View, end: onnx.NodeProto) -> Iterator[Cone]:
    """Yield the cones that end with a node, the smallest first."""
    order = {id(node): i for i, node in enumerate(view.graph.node)}
    nodes, frontier = [end], _read(view, end) if _has_constants(view, end) else set()
    while frontier and len(nodes) <= _MOST_NODES:
        if len(frontier) == 1 and len(nodes) > 1:
            yield Cone(next(iter(frontier)), end.output[0], tuple(sorted(nodes, key=lambda node: order[id(node)])))
        latest = max(frontier, key=lambda name: order.get(id(view.producers.get(name)), -1))
        producer = view.producers.get(latest)
        if producer is None or not _is_inner(view, producer, latest, nodes):
            return
        nodes.append(producer)
        frontier = (frontier - {latest}) | _read(view, producer)


def replace(view: View, cone: Cone, made: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of a cone's; the last of them makes its result."""
    last = cone.nodes[-1]
    position = next(i for i, found in enumerate(view.graph.node) if found is last)
    for offset, node in enumerate(made):
        view.graph.node.insert(position + 1 + offset, node)
    for node in cone.nodes:
        for name in node.output[:1] if node is not last else ():
            view.forget(name)
        view.remove(node)


def _read(view: View, node: onnx.NodeProto) -> set[str]:
    return {name for name in node.input if name and name not in view.constants}


def _is_inner(view: View, node: onnx.NodeProto, name: str, nodes: list[onnx.NodeProto]) -> bool:
    """Say whether a node can be computed here, and only the nodes behind it read what it makes."""
    known = (node.op_type in _COMPUTED or node.op_type == "ReduceMean") and node.domain in ("", "ai.onnx")
    known = known and (node.op_type != "Max" or len(node.input) == 2)
    return (
        known
        and _has_constants(view, node)
        and view.is_free(name)
        and all(any(user is n for n in nodes) for user in view.users[name])
    )


def _has_constants(view: View, node: onnx.NodeProto) -> bool:
    """Say whether the constants that a node reads are here, and none is a matrix of weights."""
    constants = [view.constants[name] for name in node.input if name in view.constants]
    return all(not tensor.data_location and math.prod(tensor.dims) <= _MOST_VALUES for tensor in constants)


def _computed(view: View, node: onnx.NodeProto, read: list[Array]) -> Array:
    if node.op_type != "ReduceMean":
        return np.asarray(_COMPUTED[node.op_type](*read), np.float64)
    axes = mean_axes(view, node)
    return np.asarray(read[0].mean(axis=axes and tuple(axes), keepdims=bool(attribute(node, "keepdims", 1))))


def mean_axes(view: View, node: onnx.NodeProto) -> list[int] | None:
    """Return the axes of a mean; None for all of them, or where they are not known."""
    found: Any = view.value(node.input[1]) if len(node.input) > 1 and node.input[1] else attribute(node, "axes")
    return None if found is None else [int(axis) for axis in found]


def is_float(view: View, cone: Cone) -> bool:
    """Say whether a cone is of float32."""
    kinds = [view.types[name].elem_type for name in (cone.source, cone.result) if name in view.types]
    return bool(kinds) and all(kind == 1 for kind in kinds)  # onnx.TensorProto.FLOAT


def make_node(view: View, operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    """Return a node with a name that no tensor has."""
    import onnx

    return onnx.helper.make_node(operator, inputs, [output], name=view.new_name(f"{output}_{operator}"), **attributes)
