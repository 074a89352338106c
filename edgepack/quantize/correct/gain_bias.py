"""Corrects gain and mean of every layer's output by its scale and bias, layer by layer, the first layers first.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with means
measured on samples, and the gain beside the mean: of all a * y + b the one that is nearest to the float model's output
(least squares). Integers stay as they are. Each layer sees the quantized and corrected layers before it; correcting all
at once on the uncorrected graph diverges.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.replay import Walk
from edgepack.quantize.insert import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.quantize.placement import Layer
    from edgepack.quantize.plan import Plan
    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs.types import Array, Feeds

_BUDGET_BYTES = 128 << 20
_FEWEST = 4
# Values of a channel from which its gain can be told.
_FEWEST_VALUES = 100
# A gain further from 1 than this is not rounding noise: such a layer has other trouble.
_MOST_GAIN = 0.1


def correct_outputs(
    plan: Plan,
    weights: Mapping[str, IntegerWeights],
    feeds: Sequence[Feeds],
    progress: Callable[[int, int], None],
    *,
    gains: bool = True,
) -> dict[str, IntegerWeights]:
    """Return ``weights`` with scales and biases such that each layer's output is nearest to the float model's.

    As many of ``feeds`` are used as fit into 128 MiB of live tensors. A MatMul has no bias, its gain alone is
    corrected; a layer with one scale for all channels keeps it. Without ``gains`` biases alone are corrected.
    """
    quantized = copy_proto(plan.proto)
    insert(quantized, index_graph(quantized), plan.placement, weights, plan.rules)
    feeds = feeds[: _affordable(plan, feeds)]
    exact, rough = Walk(plan.proto, feeds), Walk(quantized, feeds)
    exact_places, rough_places = exact.places(), rough.places()
    outputs = {node.name: node.output[0] for node in quantized.graph.node}
    result = dict(weights)
    for number, layer in enumerate(plan.placement.layers):
        expected, found = plan.index.nodes[layer.node].output[0], outputs[layer.name]
        exact.go(exact_places[layer.name], expected)
        rough.go(rough_places[layer.name], found)
        before = result[layer.name]
        pairs = [(one[expected], other[found]) for one, other in zip(exact.live, rough.live, strict=True)]
        moments = _moments(pairs, layer)
        gain = None
        if gains and before.axis is not None and layer.operator != "ConvTranspose":  # whose groups share their scales
            count = sum(found.size for _, found in pairs) // moments.found.shape[1]
            gain = _gain(moments, count, centred=layer.operator != "MatMul")
        shift = None if layer.operator == "MatMul" else _shift(moments, gain)
        result[layer.name] = _corrected(before, gain, shift)
        for values in rough.live:
            values[found] = _apply(values[found], gain, shift, layer)
        progress(number + 1, len(plan.placement.layers))
    return result


def copy_proto(proto: Any) -> Any:
    """Return a copy of a message."""
    result = type(proto)()
    result.CopyFrom(proto)
    return result


def _affordable(plan: Plan, feeds: Sequence[Feeds]) -> int:
    """Return how many samples' live tensors of two walks fit into the budget, found by walking with the first."""
    trial = Walk(plan.proto, feeds[:1])
    places = trial.places()
    for layer in plan.placement.layers:
        trial.go(places[layer.name], plan.index.nodes[layer.node].output[0])
    return int(np.clip(_BUDGET_BYTES // max(2 * trial.largest_bytes, 1), _FEWEST, len(feeds)))


@dataclass(frozen=True)
class _Moments:
    """Means over the positions of each sample, float64 [samples, channels]: of the float model's output, of the int8
    model's, of their product, and of the square of the latter.
    """

    expected: Array
    found: Array
    product: Array
    square: Array


def _moments(pairs: Sequence[tuple[Array, Array]], layer: Layer) -> _Moments:
    rows = []
    for expected, found in pairs:
        y, z = (_by_channel(values, layer) for values in (expected, found))
        rows.append((y.mean(axis=1), z.mean(axis=1), (y * z).mean(axis=1), np.square(z).mean(axis=1)))
    return _Moments(*(np.stack(part) for part in zip(*rows, strict=True)))


def _by_channel(values: Array, layer: Layer) -> Array:
    """Return float64 [channels, positions]."""
    moved = np.moveaxis(values, _channel_axis(layer, values), 0)
    return np.asarray(moved.reshape(len(moved), -1), np.float64)


def _gain(moments: _Moments, count: int, *, centred: bool) -> Array:
    """Return the factor of each channel [channels]: the slope of the regression of the float output on the int8 one.

    Not ``centred``, the line goes through zero. It is 1 where ``count`` values are too few to tell, or the slope is
    further from 1 than rounding brings it.
    """
    expected, found, product, square = (
        part.mean(axis=0) for part in (moments.expected, moments.found, moments.product, moments.square)
    )
    top, bottom = (product - expected * found, square - found**2) if centred else (product, square)
    slope = top / np.where(bottom > 1e-12 * square, bottom, np.nan)
    usable = np.isfinite(slope) & (np.abs(slope - 1) <= _MOST_GAIN) & (count >= _FEWEST_VALUES)
    return np.asarray(np.where(usable, slope, 1.0))


def _shift(moments: _Moments, gain: Array | None) -> Array:
    """Return what is to be added to each channel behind its gain: the mean difference over samples, made smaller by as
    much as chance among them explains of it.

    The positive-part James-Stein estimator (Stein 1956; James and Stein 1961) of each channel: the mean times
    ``max(0, 1 - squared standard error / squared mean)``.
    """
    shifts = moments.expected - (moments.found if gain is None else gain * moments.found)
    mean = shifts.mean(axis=0)
    if len(shifts) < 2:
        return np.zeros_like(mean)
    error = shifts.var(axis=0, ddof=1) / len(shifts)
    return np.asarray(mean * np.maximum(0.0, 1.0 - error / np.maximum(mean**2, 1e-300)))


def _corrected(before: IntegerWeights, gain: Array | None, shift: Array | None) -> IntegerWeights:
    scale, bias = before.scale, before.bias
    if gain is not None:
        scale = np.asarray(scale * gain, np.float32)
        bias = None if bias is None else bias * gain
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return dataclasses.replace(before, scale=scale, bias=None if bias is None else np.asarray(bias, np.float32))


def _apply(values: Array, gain: Array | None, shift: Array | None, layer: Layer) -> Array:
    shape = [1] * values.ndim
    shape[_channel_axis(layer, values)] = -1
    if gain is not None:
        values = values * gain.astype(np.float32).reshape(shape)
    return values if shift is None else np.asarray(values + shift.astype(np.float32).reshape(shape))


def _channel_axis(layer: Layer, values: Array) -> int:
    return 1 if layer.operator in ("Conv", "ConvTranspose") else values.ndim - 1
