"""Integer weights and biases of one layer, from its float weights and the target's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.errors import ModelError
from edgepack.quantize.scales import SMALLEST_SCALE, ActivationScale, integer_limits

if TYPE_CHECKING:
    from edgepack.quantize.index import GraphIndex
    from edgepack.quantize.placement import Layer
    from edgepack.specs import Array, QuantizationRules

# A bias may use half of int32, so that the sum of products added to it does not leave int32.
_BIAS_LIMIT = 2.0**30


@dataclass(frozen=True)
class LayerWeights:
    """The float weights and bias of a layer as quantization sees them, alpha and beta multiplied in.

    ``weight`` is float32 in the shape of the graph; ``bias`` is float32 [channels] or None.
    """

    weight: Array
    bias: Array | None


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
    if layer.operator == "Conv":
        return int(weight.shape[0])
    if layer.operator == "Gemm" and layer.axis is not None:
        return int(weight.shape[layer.axis])
    return int(weight.shape[-1])


def largest_scale(weight: Array, axis: int | None, levels: int) -> Array:
    """Return the scale at which the largest magnitude of each channel is ``levels``: float64, [channels] or scalar."""
    magnitude = np.abs(weight)
    if axis is None:
        return np.asarray(magnitude.max(), np.float64) / levels
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return np.asarray(magnitude.max(axis=others), np.float64) / levels


def integer_weights(
    source: LayerWeights, layer: Layer, data: ActivationScale, rules: QuantizationRules
) -> IntegerWeights:
    """Return the layer's integers with the scale that its largest weight asks for."""
    if not rules.weight_symmetric:
        return _asymmetric(source, rules)
    scale = largest_scale(source.weight, layer.axis, 127)
    return with_scale(source, layer, scale, data, rules)


def with_scale(
    source: LayerWeights, layer: Layer, scale: Array, data: ActivationScale, rules: QuantizationRules
) -> IntegerWeights:
    """Return the layer's weights rounded to the nearest multiple of ``scale`` and clipped to [-127, 127] of them.

    A scale that would push the bias out of int32 is made larger (the bias is stored in units of scale times the
    input's scale). uint8 weights hold the same numbers plus 128.
    """
    safe = usable_scale(scale, source.bias, layer, data)
    shape = [1] * source.weight.ndim
    if layer.axis is not None:
        shape[layer.axis] = -1
    rounded = np.clip(np.rint(source.weight / safe.reshape(shape)), -127, 127)
    return stored(rounded, safe, layer, source.bias, rules)


def stored(rounded: Array, scale: Array, layer: Layer, bias: Array | None, rules: QuantizationRules) -> IntegerWeights:
    """Return signed integers (any numpy type, within [-127, 127]) in the type that the rules ask for."""
    if rules.weight_type == "uint8":
        return IntegerWeights((rounded + 128).astype(np.uint8), scale, 128, layer.axis, bias)
    return IntegerWeights(rounded.astype(np.int8), scale, 0, layer.axis, bias)


def usable_scale(scale: Array, bias: Array | None, layer: Layer, data: ActivationScale) -> Array:
    """Return ``scale`` as float32, raised where it is zero, too small to invert, or too small for the bias."""
    least = np.full(scale.shape, SMALLEST_SCALE)
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * data.scale)
        if layer.operator == "ConvTranspose" and layer.axis is not None:
            needed = needed.reshape(layer.groups, -1).max(axis=0)
        least = np.maximum(least, needed if layer.axis is not None else needed.max())
    # A channel of zeros may have any scale; 1 keeps a bias of it exact enough and engines content.
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
