"""Integer weights and biases of one layer, from its float weights and the target's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgepack.errors import ModelError
from edgepack.quantize.saturation import limit_pairs
from edgepack.quantize.scales import SMALLEST_SCALE, ActivationScale, integer_limits
from edgepack.quantize.weight_rows import Reduction, from_rows, reduction

if TYPE_CHECKING:
    from edgepack.quantize.graph.index import GraphIndex
    from edgepack.quantize.placement import Layer
    from edgepack.specs.target import QuantizationRules
    from edgepack.specs.types import Array

Clipping: TypeAlias = Literal["largest", "nearest"]

# A bias may use half of int32, so that the sum of products added to it does not leave int32.
_BIAS_LIMIT = 2.0**30
_LEVELS = 127
# Scales tried for each output channel, as multiples of the one at which its largest weight is 127 levels.
_NARROWER = np.arange(0.60, 1.0, 0.02)
_WIDER = np.concatenate([np.arange(1.0, 1.30, 0.02), np.arange(1.30, 2.05, 0.05)])


@dataclass(frozen=True)
class LayerWeights:
    """The float weights and bias of a layer as quantization sees them, alpha and beta multiplied in.

    ``weight`` is float32 in the shape of the graph; ``bias`` is float32 [channels] or None. ``importance`` [terms] is
    the mean square of the activation that each term of the reduction multiplies; None when it is not known.
    """

    weight: Array
    bias: Array | None
    importance: Array | None = None


@dataclass(frozen=True)
class IntegerWeights:
    """``real = (values - zero_point) * scale``, per channel along ``axis`` or with a scalar scale and ``axis`` None.

    ``bias`` stays float; its scale follows from ``scale`` and the input's scale when it is inserted.
    """

    values: Array
    scale: Array
    zero_point: int
    axis: int | None
    bias: Array | None

    def dequantized(self) -> Array:
        """Return the float32 weights that the integers stand for."""
        shape = [1] * self.values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        real = (self.values.astype(np.float32) - np.float32(self.zero_point)) * self.scale.reshape(shape)
        return np.asarray(real, np.float32)


def read_weights(index: GraphIndex, layer: Layer) -> LayerWeights:
    """Return a layer's float weights. Raises ``ModelError`` when one of them is not finite."""
    weight = _finite(index, layer.weight, layer)
    if layer.alpha != 1.0:
        weight = weight * np.float32(layer.alpha)
    if layer.bias is None:
        return LayerWeights(weight, None)
    bias = _finite(index, layer.bias, layer) * np.float32(layer.beta)
    return LayerWeights(weight, np.broadcast_to(bias.reshape(-1), (output_channels(layer, weight),)).copy())


def _finite(index: GraphIndex, name: str, layer: Layer) -> Array:
    values = index.constant(name)
    if not np.isfinite(values).all():
        bad = int(np.size(values) - np.isfinite(values).sum())
        raise ModelError(
            f"{bad} of {values.size} values of {name!r}, the weights of {layer.name!r}, are infinite or not a number",
            hint="train or export the model again: no precision can run such weights",
        )
    return values


def output_channels(layer: Layer, weight: Array) -> int:
    """Return how many output channels the layer has."""
    if layer.operator == "ConvTranspose":
        return int(weight.shape[1]) * layer.groups
    return int(weight.shape[0] if layer.operator == "Conv" or layer.transposed else weight.shape[-1])


def integer_weights(
    source: LayerWeights, layer: Layer, data: ActivationScale, rules: QuantizationRules, clipping: Clipping = "largest"
) -> IntegerWeights:
    """Return the layer's integers by the rules.

    With ``clipping`` "largest" the largest weight of each channel is stored exactly; with "nearest" the scale is the
    one whose integers are nearest to the weights in the mean square (weighted by ``source.importance``). Where the
    target saturates, no two neighbours exceed the limit of ``saturation.py``; then the scale is always searched for,
    and "largest" means not below its own.
    """
    if not rules.weight_symmetric:
        return _asymmetric(source, rules)
    rows = reduction(source.weight, layer)
    if not rules.saturates:
        rows = Reduction(rows.rows, ())
    scale = np.abs(rows.rows).max(axis=1).astype(np.float64) / _LEVELS
    if layer.axis is None:
        scale = np.full_like(scale, scale.max())
    factors = np.concatenate([_NARROWER if clipping == "nearest" else [], _WIDER if rows.pairs else [1.0]])
    if len(factors) > 1:
        scale = _nearest_scale(rows, scale, factors, source.importance, per_channel=layer.axis is not None)
    return with_scale(source, layer, scale, data, rules)


def _nearest_scale(
    rows: Reduction, largest: Array, factors: Array, importance: Array | None, *, per_channel: bool
) -> Array:
    best, least = largest.copy(), np.full(len(largest), np.inf)
    for factor in factors:
        scale = largest * factor
        error = squared_error(rows, scale, importance)
        better = error < least if per_channel else np.full(len(error), error.sum() < least.sum())
        least[better], best[better] = error[better], scale[better]
    return best


def squared_error(rows: Reduction, scale: Array, importance: Array | None) -> Array:
    """Return for each row the sum of squared differences, weighted by ``importance``, from its integers: [channels]."""
    difference = round_rows(rows, scale) * scale[:, None] - rows.rows
    squares = difference**2 if importance is None else difference**2 * importance
    return np.asarray(squares.sum(axis=1), np.float64)


def round_rows(rows: Reduction, scale: Array) -> Array:
    """Return rows as whole multiples of ``scale`` [channels], within [-127, 127] and the limit of neighbours."""
    real = (rows.rows / np.where(scale > 0, scale, 1.0)[:, None]).astype(np.float32)
    rounded = np.clip(np.rint(real), -_LEVELS, _LEVELS)
    limit_pairs(rounded, real, rows.pairs)
    return rounded


def with_scale(
    source: LayerWeights, layer: Layer, scale: Array, data: ActivationScale, rules: QuantizationRules
) -> IntegerWeights:
    """Return the layer's weights as multiples of ``scale`` [rows]; it is raised where the bias needs that."""
    rows = reduction(source.weight, layer)
    usable = usable_scale(scale, source.bias, layer, data)
    rounded = round_rows(Reduction(rows.rows, rows.pairs if rules.saturates else ()), usable)
    return stored(rounded, usable, source, layer, rules)


def stored(
    rounded: Array, scale: Array, source: LayerWeights, layer: Layer, rules: QuantizationRules
) -> IntegerWeights:
    """Return rows of whole numbers within [-127, 127] in the shape and type of the graph; uint8 is 128 more."""
    values = from_rows(rounded, source.weight.shape, layer)
    kept = scale.astype(np.float32) if layer.axis is not None else np.asarray(scale[0], np.float32)
    if rules.weight_type == "uint8":
        return IntegerWeights((values + 128).astype(np.uint8), kept, 128, layer.axis, source.bias)
    return IntegerWeights(values.astype(np.int8), kept, 0, layer.axis, source.bias)


def usable_scale(scale: Array, bias: Array | None, layer: Layer, data: ActivationScale) -> Array:
    """Return ``scale`` [rows] as float32, raised where it is zero, too small to invert, or too small for the bias.

    The bias is stored as int32 in units of scale times the input's scale.
    """
    least = np.full(scale.shape, SMALLEST_SCALE)
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * data.scale)
        if layer.axis is None:
            needed = needed.max()
        elif layer.operator == "ConvTranspose":
            needed = needed.reshape(layer.groups, -1).max(axis=0)
        least = np.maximum(least, needed)
    # A channel of zeros may have any scale; this one keeps a bias of it exact enough and engines content.
    chosen = np.where(scale > 0, np.maximum(scale, least), np.maximum(least, np.finfo(np.float32).eps))
    return np.asarray(chosen, np.float32)


def _asymmetric(source: LayerWeights, rules: QuantizationRules) -> IntegerWeights:
    least, greatest = integer_limits(rules.weight_type)
    low, high = min(float(source.weight.min()), 0.0), max(float(source.weight.max()), 0.0)
    scale = np.float32(max((high - low) / (greatest - least), SMALLEST_SCALE))
    zero = int(np.clip(np.rint(least - low / scale), least, greatest))
    values = np.clip(np.rint(source.weight / scale) + zero, least, greatest)
    return IntegerWeights(values.astype(rules.weight_type), np.asarray(scale), zero, None, source.bias)


def integer_bias(weights: IntegerWeights, layer: Layer, data: ActivationScale) -> tuple[Array, Array]:
    """Return int32 bias [channels] and its float32 scale, [channels] or scalar: input scale times weight scale."""
    assert weights.bias is not None, "only a layer with a bias has one to store"
    scale = np.asarray(np.float32(data.scale) * weights.scale, np.float32)
    if layer.operator == "ConvTranspose" and weights.axis is not None:
        scale = np.tile(scale, layer.groups)
    limit = np.iinfo(np.int32)
    rounded = np.clip(np.rint(weights.bias.astype(np.float64) / scale), limit.min, limit.max)
    return rounded.astype(np.int32), scale
