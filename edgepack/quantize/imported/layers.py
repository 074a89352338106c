"""Weights and biases of a model that came quantized, as an engine wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View, attribute
from edgepack.quantize.imported.clips import zero_point
from edgepack.quantize.placement import Layer
from edgepack.quantize.saturation import PAIR_LIMIT
from edgepack.quantize.scales import ActivationScale
from edgepack.quantize.weight_rows import reduction
from edgepack.quantize.weights import LayerWeights, integer_weights
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.types import Array

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BIAS = 2  # the place of a layer's bias among its inputs
_LEVELS = 127
_MIDDLE = 128
_ANY_INPUT = ActivationScale(1.0, 0, "uint8")  # of a layer whose bias is stored elsewhere


@dataclass(frozen=True)
class StoredLayer:
    """A layer whose weights are constant 8-bit integers behind ``weights``, a DequantizeLinear."""

    node: onnx.NodeProto
    weights: onnx.NodeProto
    values: Array
    scale: Array
    zero: Array
    axis: int | None

    @property
    def layer(self) -> Layer:
        """The layer as the rules for weights see it."""
        kind = self.node.op_type
        turned = kind == "Gemm" and bool(attribute(self.node, "transB", 0))
        groups = attribute(self.node, "group", 1) if kind.startswith("Conv") else 1
        return Layer(0, self.node.name, kind, self.node.input[0], self.node.input[1], self.axis, None, groups,
                     transposed=turned)  # fmt: skip


def stored_layers(view: View) -> Iterator[StoredLayer]:
    """Yield the layers whose weights no other node reads."""
    for node in view.nodes(*_WEIGHTED):
        made = view.producers.get(node.input[1])
        if made is None or made.op_type != "DequantizeLinear" or view.only_user(made.output[0]) is not node:
            continue
        values, scale, zero = view.value(made.input[0]), view.floats(made.input[1]), zero_point(view, made)
        if values is None or scale is None or zero is None or values.dtype.name not in ("int8", "uint8"):
            continue
        axis = None if scale.size == 1 else attribute(made, "axis", 1) % values.ndim
        yield StoredLayer(node, made, values, scale, zero, axis)


def store(view: View, one: StoredLayer, values: Array, scale: Array, zero: Array) -> None:
    """Give a layer other integers, in constants of its own."""
    names = [view.add_constant(np.ascontiguousarray(v).reshape(v.shape), one.weights.input[0]) for v in
             (values, scale, zero)]  # fmt: skip
    del one.weights.input[:]
    one.weights.input.extend(names)


def weights_around_zero(proto: onnx.ModelProto) -> tuple[int, int]:
    """Store, in place, weights as int8 with the zero point 0; return how many exactly, and how many rounded again."""
    view, exact, rounded = View(proto), 0, 0
    for one in list(stored_layers(view)):
        if one.values.dtype == np.int8 and not one.zero.any():
            continue
        middle = _MIDDLE if one.values.dtype == np.uint8 else 0
        if (one.zero == middle).all():
            values = (one.values.astype(np.int16) - middle).astype(np.int8)
            store(view, one, values, one.scale, np.zeros(one.scale.shape, np.int8))
            exact += 1
        else:
            _round_again(view, one)
            rounded += 1
    return exact, rounded


def _round_again(view: View, one: StoredLayer) -> None:
    real = dequantized(one)
    others = tuple(i for i in range(real.ndim) if i != one.axis) if one.axis is not None else None
    largest = np.abs(real).max(axis=others, keepdims=one.axis is not None)
    wider = np.asarray(np.where(largest > 0, largest / _LEVELS, 1.0), np.float32)
    values = np.clip(np.rint(real / wider), -_LEVELS, _LEVELS).astype(np.int8)
    store(view, one, values, wider.reshape(one.scale.shape), np.zeros(one.scale.shape, np.int8))


def float_biases(proto: onnx.ModelProto) -> int:
    """Turn, in place, int32 biases behind a DequantizeLinear into the floats they stand for; return how many."""
    view, count = View(proto), 0
    for node in view.nodes(*_WEIGHTED):
        made = view.producers.get(node.input[_BIAS]) if len(node.input) > _BIAS else None
        values = view.value(made.input[0]) if made is not None and made.op_type == "DequantizeLinear" else None
        scale = view.floats(made.input[1]) if made is not None and values is not None else None
        if made is None or values is None or scale is None or values.dtype != np.int32:
            continue
        real = np.asarray(values.astype(np.float64) * scale, np.float32)
        node.input[_BIAS] = view.add_constant(real, made.output[0])
        if view.only_user(made.output[0]) is node:
            view.remove(made)
        count += 1
    return count


def integer_biases(proto: onnx.ModelProto) -> int:
    """Store, in place, int32 biases in the unit in which an engine adds them; return how many that changed.

    The unit is the input's scale times the weights': engines add the integers as if they were in it, whatever scale the
    file states. Half a unit of rounding is far below a step of the output. Float biases stay: ONNX Runtime 1.31.1 and
    OpenVINO 2026.4.1 run such layers in int8 as fast (ResNet20 of NNCF 3.4, CPU time of 21 interleaved rounds).
    """
    view, count = View(proto), 0
    for one in list(stored_layers(view)):
        data = view.producers.get(one.node.input[0])
        scale = view.floats(data.input[1]) if data is not None and data.op_type == "DequantizeLinear" else None
        bias = _stored_bias(view, one.node)
        if scale is None or scale.size != 1 or bias is None or one.node.op_type == "MatMul":
            continue
        unit = np.asarray(scale.reshape(()) * one.scale, np.float32)
        unit = unit.reshape(()) if unit.size == 1 else unit
        if _in_unit(view, one.node, unit) or bias.ndim != 1 or (unit.ndim and unit.shape != bias.shape):
            continue
        if attribute(one.node, "alpha", 1.0) != 1.0 or attribute(one.node, "beta", 1.0) != 1.0:
            continue
        whole = np.rint(bias.astype(np.float64) / unit)
        if np.abs(whole).max(initial=0) < 2**30:
            _write_bias(view, one.node, whole.astype(np.int32), unit)
            count += 1
    return count


def _stored_bias(view: View, node: onnx.NodeProto) -> Array | None:
    """Return the values of a bias that is stored as integers, multiplied out."""
    made = view.producers.get(node.input[_BIAS]) if len(node.input) > _BIAS else None
    if made is None or made.op_type != "DequantizeLinear":
        return None
    values, scale = view.value(made.input[0]), view.floats(made.input[1])
    return None if values is None or scale is None else np.asarray(values.astype(np.float64) * scale, np.float32)


def _in_unit(view: View, node: onnx.NodeProto, unit: Array) -> bool:
    """Say whether a bias is stored in a unit already, but for the rounding of its own scale."""
    made = view.producers.get(node.input[_BIAS])
    scale = view.floats(made.input[1]) if made is not None else None
    return scale is not None and bool(np.allclose(scale, unit, rtol=1e-5, atol=0))


def _write_bias(view: View, node: onnx.NodeProto, values: Array, unit: Array) -> None:
    import onnx

    old = node.input[_BIAS]
    names = [view.add_constant(values, old), view.add_constant(unit, old)]
    output = view.new_name(old)
    made = onnx.helper.make_node("DequantizeLinear", names, [output], name=output)
    if unit.ndim:
        made.attribute.append(onnx.helper.make_attribute("axis", 0))
    position = next(i for i, found in enumerate(view.graph.node) if found is node)
    view.graph.node.insert(position, made)
    node.input[_BIAS] = output


def keep_pairs_small(proto: onnx.ModelProto) -> tuple[int, float]:
    """Round weights again, in place, where the products of two neighbours would clip at 16 bits (``saturation.py``).

    Each channel gets the scale at which it loses least. Returns in how many layers that was needed, and the SQNR of the
    weights that lost most in dB (infinite where none did).
    """
    view, layers, worst = View(proto), 0, math.inf
    for one in list(stored_layers(view)):
        if one.values.dtype != np.int8 or one.zero.any() or not _clips(one):
            continue
        real = dequantized(one)
        found = integer_weights(LayerWeights(real, None), one.layer, _ANY_INPUT, QuantizationRules(saturates=True))
        store(view, one, found.values, found.scale, np.zeros(found.scale.shape, np.int8))
        noise = float(np.square(found.dequantized() - real, dtype=np.float64).sum())
        layers, worst = layers + 1, min(worst, 10 * math.log10(float(np.square(real, dtype=np.float64).sum()) / noise))
    return layers, worst


def _clips(one: StoredLayer) -> bool:
    rows = reduction(one.values.astype(np.float32), one.layer)
    sums = (rows.rows[:, pairs[:, 0]] + rows.rows[:, pairs[:, 1]] for pairs in rows.pairs)
    return any(bool((np.abs(total) > PAIR_LIMIT).any()) for total in sums)


def dequantized(one: StoredLayer) -> Array:
    """Return the float32 weights that a layer's integers stand for."""
    shape = [1] * one.values.ndim
    if one.axis is not None:
        shape[one.axis] = -1
    scale, zero = (part.reshape(shape if part.size > 1 else ()) for part in (one.scale, one.zero.astype(np.float32)))
    return np.asarray((one.values.astype(np.float32) - zero) * scale, np.float32)
