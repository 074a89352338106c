"""Products in one form: an Einsum that is a matrix product becomes one, which engines compute in int8.

Keras and Flax write the projections of an attention, and its products of queries, keys and values, as Einsum (onnx's
Einsum; its letters name axes). No engine has that operator in int8.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import make_node
from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from edgepack.specs.types import Array

_DOTS = "..."
_FLOAT32 = 1  # TensorProto.FLOAT of onnx.proto


@dataclass(frozen=True)
class _Axes:
    """The letters of an Einsum's operands and result, and what they are: of both and kept (``shared``), of both and
    summed (``summed``), of the first or the second alone, each in the order of the result (``summed``: of the first).
    """

    first: str
    second: str
    result: str

    @property
    def shared(self) -> str:
        return "".join(c for c in self.result if c in self.first and c in self.second)

    @property
    def summed(self) -> str:
        return "".join(c for c in self.first if c in self.second and c not in self.result)

    @property
    def rows(self) -> str:
        return "".join(c for c in self.result if c not in self.second)

    @property
    def columns(self) -> str:
        return "".join(c for c in self.result if c not in self.first)

    def swapped(self) -> _Axes:
        return _Axes(self.second, self.first, self.result)


def product_from_einsum(view: View) -> bool:
    """Write one Einsum as a MatMul between transposes and reshapes, where it is one."""
    for node in view.nodes("Einsum"):
        axes = _axes(view, node)
        if axes is None:
            continue
        first, second = node.input
        if first in view.constants and second not in view.constants:
            axes, first, second = axes.swapped(), second, first
        weight = view.floats(second)
        writer = _Writer(view, node)
        if weight is not None and not axes.shared and axes.columns:
            _write_layer(writer, axes, first, weight)
        elif all(len(part) == 1 for part in (axes.summed, axes.rows, axes.columns)):
            if axes.result.index(axes.rows) > axes.result.index(axes.columns):
                axes, first, second = axes.swapped(), second, first
            _write_product(writer, axes, first, second)
        else:
            continue
        writer.finish()
        return True
    return False


def _axes(view: View, node: onnx.NodeProto) -> _Axes | None:
    """Return the axes of an Einsum of two float tensors; None where it is not a product, or a size is repeated."""
    kind = view.types.get(node.output[0])
    terms = _terms(attribute(node, "equation", b"").decode(), [view.rank(name) for name in node.input])
    if terms is None or kind is None or kind.elem_type != _FLOAT32:
        return None
    axes = _Axes(*terms)
    alone = (set(axes.first) ^ set(axes.second)) - set(axes.result)
    if any(len(set(term)) != len(term) for term in terms) or alone or not axes.summed:
        return None
    first, second = (dict(zip(t, _sizes(view, n), strict=False)) for t, n in zip(terms, node.input, strict=False))
    pairs = [(first.get(c, 0), second.get(c, 0)) for c in axes.first if c in axes.second]
    return None if any(a != b and 1 in (a, b) for a, b in pairs) else axes


def _terms(equation: str, ranks: list[int | None]) -> tuple[str, str, str] | None:
    """Return the letters of two operands and the result, also of the axes that dots stand for; None for others."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or len(ranks) != 2 or any(rank is None for rank in ranks):
        return None
    if not arrow:  # then the result has the letters that stand once, in alphabetical order
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if "." not in equation:
        return terms[0], terms[1], result
    if not arrow:
        return None
    unused = [c for c in string.ascii_uppercase if c not in equation]
    lengths = [rank - len(term) + len(_DOTS) if _DOTS in term else 0 for rank, term in zip(ranks, terms, strict=True)]  # type: ignore[operator]
    # of fewer axes the last ones, as they are broadcast
    letters = ["".join(unused[: max(lengths)][max(lengths) - n :]) for n in (*lengths, max(lengths))]
    first, second, made = (t.replace(_DOTS, found) for t, found in zip((*terms, result), letters, strict=True))
    return first, second, made


def _sizes(view: View, name: str) -> list[int]:
    """Return the sizes of a tensor, 0 for those that are free or unknown."""
    if name in view.constants:
        return [int(size) for size in view.constants[name].dims]
    kind = view.types.get(name)
    return [dim.dim_value for dim in kind.shape.dim] if kind is not None and kind.HasField("shape") else []


class _Writer:
    """Collects the nodes that stand in the place of one Einsum."""

    def __init__(self, view: View, node: onnx.NodeProto) -> None:
        self._view = view
        self._node = node
        self._added: list[onnx.NodeProto] = []

    def transposed(self, name: str, letters: str, wanted: str) -> str:
        """Return a tensor with its axes in the order wanted."""
        if letters == wanted:
            return name
        return self.add("Transpose", [name], len(wanted), perm=[letters.index(c) for c in wanted])

    def reshaped(self, name: str, kept: int, sizes: Sequence[int]) -> str:
        """Return a tensor whose axes behind the first ``kept`` ones have other sizes."""
        shape = self.constant(np.array([0] * kept + list(sizes), np.int64))
        return self.add("Reshape", [name, shape], kept + len(sizes))

    def constant(self, array: Array) -> str:
        return self._view.add_constant(array, self._node.output[0])

    def add(self, operator: str, inputs: list[str], rank: int, **attributes: object) -> str:
        result = self._view.new_name(self._node.output[0])
        self._added.append(make_node(self._view, operator, inputs, result, **attributes))
        self._view.state_rank(result, _FLOAT32, rank)
        return result

    def finish(self) -> None:
        """Put the nodes where the Einsum stood; the last makes its result."""
        self._view.forget(self._added[-1].output[0])
        self._added[-1].output[0] = self._node.output[0]
        place = next(i for i, found in enumerate(self._view.graph.node) if found is self._node)
        self._view.remove(self._node)
        for offset, node in enumerate(self._added):
            self._view.graph.node.insert(place + offset, node)


def _write_layer(writer: _Writer, axes: _Axes, data: str, weight: Array) -> None:
    """Write a product with weights: their summed axes become the rows of one matrix, the others its columns."""
    letters = axes.summed + axes.columns
    wide = weight.transpose([axes.second.index(c) for c in letters])
    rows, columns = wide.shape[: len(axes.summed)], wide.shape[len(axes.summed) :]
    kept = len(axes.rows)
    name = writer.transposed(data, axes.first, axes.rows + axes.summed)
    if len(rows) > 1:
        name = writer.reshaped(name, kept, [math.prod(rows)])
    matrix = writer.constant(np.ascontiguousarray(wide.reshape(math.prod(rows), math.prod(columns))))
    name = writer.add("MatMul", [name, matrix], kept + 1)
    if len(columns) > 1:
        name = writer.reshaped(name, kept, columns)
    writer.transposed(name, axes.rows + axes.columns, axes.result)


def _write_product(writer: _Writer, axes: _Axes, first: str, second: str) -> None:
    """Write a product of two activations, for each of the axes that both have and keep."""
    stack = axes.shared
    left = writer.transposed(first, axes.first, stack + axes.rows + axes.summed)
    right = writer.transposed(second, axes.second, stack + axes.summed + axes.columns)
    made = writer.add("MatMul", [left, right], len(stack) + 2)
    writer.transposed(made, stack + axes.rows + axes.columns, axes.result)
