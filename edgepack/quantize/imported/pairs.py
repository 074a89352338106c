"""Writes operators on integers (QLinearConv, QLinearAdd, ...) as float ones between pairs, which every engine reads.

The definitions: https://onnx.ai/onnx/operators (QLinearConv, QLinearMatMul) and ONNX Runtime's ContribOperators.md for
its own domain. Both forms stand for the same numbers. Where integers are computed exactly the results are the same but
for ties, which the order of float roundings decides: a step of the last bit at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.types import Array

_CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class _Form:
    """How an operator on integers is written.

    ``operator`` is the float one. ``data`` has for each of its inputs the places of integers, scale and zero point,
    ``result`` those of the output's scale and zero point, ``bias`` that of int32 whose unit is the product of the first
    two scales. ``plain`` are inputs that stand in front and stay.
    """

    operator: str
    data: tuple[tuple[int, int, int], ...]
    result: tuple[int, int]
    bias: int | None = None
    plain: int = 0


_TWO = ((0, 1, 2), (3, 4, 5))
_ONE = ((0, 1, 2),)
_FORMS: dict[tuple[str, str], _Form] = {
    ("", "QLinearConv"): _Form("Conv", _TWO, (6, 7), bias=8),
    ("", "QLinearMatMul"): _Form("MatMul", _TWO, (6, 7)),
    (_CONTRIB, "QGemm"): _Form("Gemm", _TWO, (7, 8), bias=6),
    (_CONTRIB, "QLinearAdd"): _Form("Add", _TWO, (6, 7)),
    (_CONTRIB, "QLinearMul"): _Form("Mul", _TWO, (6, 7)),
    (_CONTRIB, "QLinearSigmoid"): _Form("Sigmoid", _ONE, (3, 4)),
    (_CONTRIB, "QLinearLeakyRelu"): _Form("LeakyRelu", _ONE, (3, 4)),
    (_CONTRIB, "QLinearSoftmax"): _Form("Softmax", _ONE, (3, 4)),
    (_CONTRIB, "QLinearAveragePool"): _Form("AveragePool", _ONE, (3, 4)),
    (_CONTRIB, "QLinearGlobalAveragePool"): _Form("GlobalAveragePool", _ONE, (3, 4)),
    (_CONTRIB, "QLinearWhere"): _Form("Where", ((1, 2, 3), (4, 5, 6)), (7, 8), plain=1),
}
_CONCAT = (_CONTRIB, "QLinearConcat")
_OWN = frozenset({"channels_last", "opset"})  # attributes that the float operators do not have


def to_pairs(proto: onnx.ModelProto) -> int:
    """Write, in place, every operator on integers of the main graph that has a float form; return how many had one."""
    writer = _Writer(View(proto))
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in proto.graph.node:
        form = _form(writer.view, node)
        nodes.extend([node] if form is None else writer.written(node, form))
        count += form is not None
    if count:
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
    return count


def to_standard(proto: onnx.ModelProto) -> int:
    """Let Q/DQ of ONNX Runtime's domain be the standard's, where they are of 8 bits; return how many."""
    view, count = View(proto), 0
    for node in proto.graph.node:
        if node.domain != _CONTRIB or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = view.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if zero is None or zero.dtype.name in ("int8", "uint8", "int32"):
            node.domain = ""
            count += 1
    return count


def _form(view: View, node: onnx.NodeProto) -> _Form | None:
    """Return the form of a node, as far as it has one: scales of activations are one number, channels come second."""
    key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
    if attribute(node, "channels_last", 0):
        return None
    if key == _CONCAT:
        triples = tuple((i, i + 1, i + 2) for i in range(2, len(node.input) - 2, 3))
        return _Form("Concat", triples, (0, 1))
    form = _FORMS.get(key)
    if form is None or not _is_one(view, node.input[form.data[0][1]]):
        return None
    if form.bias is not None and any(view.value(node.input[scale]) is None for _, scale, _ in form.data):
        return None  # the unit of the bias is not known
    if node.op_type == "QLinearSoftmax" and attribute(node, "opset", 13) < 13 and not _is_last(view, node):
        return None  # it was taken over all axes from there on
    return form


def _is_one(view: View, scale: str) -> bool:
    found = view.value(scale)
    return found is None or found.size == 1


def _is_last(view: View, node: onnx.NodeProto) -> bool:
    axis, rank = attribute(node, "axis", -1), view.rank(node.input[0])
    return axis == -1 or (rank is not None and axis == rank - 1)


class _Writer:
    """Makes the nodes of one float form after the other; ``view`` gives constants and new names."""

    def __init__(self, view: View) -> None:
        self.view = view

    def written(self, node: onnx.NodeProto, form: _Form) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that stand for ``node``."""
        import onnx

        operands = list(node.input[: form.plain])
        for number, (data, scale, zero) in enumerate(form.data):
            made = self._dequantized(node, _names(node, data, scale, zero), self._axis(node, form, number, scale))
            operands.append(made.output[0])
            yield made
        if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
            made = self._bias(node, form.bias)
            operands.append(made.output[0])
            yield made
        unit, middle = (node.input[i] if i < len(node.input) else "" for i in form.result)
        output = node.output[0] if not unit else self.view.new_name(node.output[0])
        whole = onnx.helper.make_node(form.operator, operands, [output], name=node.name)
        whole.attribute.extend(a for a in node.attribute if a.name not in _OWN)
        yield whole
        if unit:
            yield self._quantized(node, output, unit, middle or _names(node, *form.data[0])[2])

    def _axis(self, node: onnx.NodeProto, form: _Form, number: int, scale: int) -> int | None:
        """Return the axis along which the weights' scales lie; None where there is one for all."""
        found = self.view.value(node.input[scale])
        if found is None or found.size == 1 or number != 1:
            return None
        if form.operator == "Conv":
            return 0
        if form.operator == "Gemm":
            return 0 if attribute(node, "transB", 0) else 1
        return (self.view.rank(node.input[form.data[1][0]]) or 2) - 1

    def _dequantized(self, node: onnx.NodeProto, names: tuple[str, str, str], axis: int | None) -> onnx.NodeProto:
        import onnx

        data, scale, zero = names
        inputs = [data, self._plain(scale, axis), *([self._zero(zero, scale, axis)] if zero else [])]
        output = self.view.new_name(f"{node.output[0]}_of_{data}")
        made = onnx.helper.make_node("DequantizeLinear", inputs, [output], name=output)
        if axis is not None:
            made.attribute.append(onnx.helper.make_attribute("axis", axis))
        return made

    def _quantized(self, node: onnx.NodeProto, tensor: str, scale: str, zero: str) -> onnx.NodeProto:
        import onnx

        inputs = [tensor, self._plain(scale, None), *([self._zero(zero, scale, None)] if zero else [])]
        return onnx.helper.make_node("QuantizeLinear", inputs, [node.output[0]], name=self.view.new_name(tensor))

    def _bias(self, node: onnx.NodeProto, place: int) -> onnx.NodeProto:
        """Return the bias in units of the product of both scales, and of alpha where the operator has one."""
        import onnx

        first, second = (self.view.value(node.input[i]) for i in (1, 4))
        assert first is not None, "form() looked at it"
        assert second is not None, "form() looked at it"
        unit = (
            first.astype(np.float32).reshape(()) * second.astype(np.float32) * np.float32(attribute(node, "alpha", 1))
        )
        unit = unit.reshape(()) if unit.size == 1 else unit
        scale = self.view.add_constant(np.asarray(unit, np.float32), f"{node.output[0]}_bias_scale")
        output = self.view.new_name(f"{node.output[0]}_bias")
        made = onnx.helper.make_node("DequantizeLinear", [node.input[place], scale], [output], name=output)
        if unit.ndim:
            made.attribute.append(onnx.helper.make_attribute("axis", 0))
        return made

    def _plain(self, name: str, axis: int | None) -> str:
        """Return a scale or zero point as one number where it is one in brackets."""
        found = self.view.value(name)
        if found is None or axis is not None or not found.ndim:
            return name
        return self.view.add_constant(found.reshape(()), name)

    def _zero(self, name: str, scale: str, axis: int | None) -> str:
        """Return a zero point in the shape of its scales, as DequantizeLinear wants it."""
        found, scales = self.view.value(name), self.view.value(scale)
        if found is None or axis is None or scales is None or found.shape == scales.shape:
            return self._plain(name, axis)
        return self.view.add_constant(_spread(found, scales.shape), name)


def _spread(zero: Array, shape: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(zero.reshape(-1), shape))


def _names(node: onnx.NodeProto, *places: int) -> tuple[str, str, str]:
    first, second, third = (node.input[i] if i < len(node.input) else "" for i in places)
    return first, second, third
