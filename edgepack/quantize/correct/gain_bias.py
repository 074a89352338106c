"""Corrects gain and mean of every layer's output by its scale and bias, layer by layer, the first layers first.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with means
measured on samples, and the gain beside the mean: of all a * y + b the one that is nearest to the float model's output
(least squares). Integers stay as they are. Each layer sees the quantized and corrected layers before it; correcting all
at once on the uncorrected graph diverges.

What is nearest varies less than the float output does, the less the more noise there is. That does no harm inside,
where the layers behind make it good. Behind the last layers nothing does, and what lies far from the mean, as the score
of an object does from those of the background, would come out too near to it. So their gains make the output vary as
much as the float one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.parallel import each
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.replay import Walk
from edgepack.quantize.graph.sessions import of_each_sample, open_session
from edgepack.quantize.insert import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.quantize.placement import Layer
    from edgepack.quantize.plan import Plan
    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs.types import Array, Feeds

_BUDGET_BYTES = 128 << 20
_FEWEST = 4
# Outputs that are read in one pass: all of a large model's at once would not fit into memory.
_LAYERS_A_PASS = 64
# Values of a channel from which its gain can be told.
_FEWEST_VALUES = 100
# A gain further from 1 than this is not rounding noise: such a layer has other trouble.
_MOST_GAIN = 0.1


class FloatOutputs:
    """What the layers of a plan make of samples in the float model, for all integers that are tried with this plan.

    As many of ``feeds`` are used as fit into 128 MiB of live tensors.
    """

    def __init__(self, plan: Plan, feeds: Sequence[Feeds]) -> None:
        self.plan = plan
        self._given = feeds

    @cached_property
    def feeds(self) -> Sequence[Feeds]:
        """The samples that are used."""
        return self._given[: _affordable(self.plan, self._given)]

    @cached_property
    def means(self) -> Mapping[str, Array]:
        """By layer's name the mean of each channel in each sample, float64 [samples, channels]."""
        layers = self.plan.placement.layers
        parts = [layers[begin : begin + _LAYERS_A_PASS] for begin in range(0, len(layers), _LAYERS_A_PASS)]
        return {name: means for part in parts for name, means in self._means(part).items()}

    def _means(self, layers: Sequence[Layer]) -> dict[str, Array]:
        names = [self.plan.index.nodes[layer.node].output[0] for layer in layers]
        session = open_session(self.plan.proto, list(dict.fromkeys(names)), threads=1)

        def measure(values: Mapping[str, Array]) -> list[Array]:
            return [_by_channel(values[name], layer).mean(axis=1) for name, layer in zip(names, layers, strict=True)]

        rows = zip(*of_each_sample(session, self.feeds, measure), strict=True)
        return {layer.name: np.stack(means) for layer, means in zip(layers, rows, strict=True)}


def correct_outputs(
    exact: FloatOutputs, weights: Mapping[str, IntegerWeights], *, gains: bool = True
) -> dict[str, IntegerWeights]:
    """Return ``weights`` with scales and biases such that each layer's output is nearest to the float model's.

    A MatMul has no bias, its gain alone is corrected; a layer with one scale for all channels keeps it. Without
    ``gains`` biases alone are corrected.
    """
    plan = exact.plan
    quantized = copy_proto(plan.proto)
    insert(quantized, index_graph(quantized), plan.placement, weights, plan.rules)
    walk = Walk(quantized, exact.feeds)
    beside = Walk(plan.proto, exact.feeds) if gains else None
    last = last_layers(plan) if gains else frozenset()
    places, beside_places = walk.places(), beside.places() if beside else {}
    outputs = {node.name: node.output[0] for node in quantized.graph.node}
    result = dict(weights)
    for layer in plan.placement.layers:
        expected, found = plan.index.nodes[layer.node].output[0], outputs[layer.name]
        walk.go(places[layer.name], found)
        rough = [values[found] for values in walk.live]
        before, gain, shift = result[layer.name], None, None
        if beside is not None:
            beside.go(beside_places[layer.name], expected)
            moments = _moments([values[expected] for values in beside.live], rough, layer)
            if before.axis is not None and layer.operator != "ConvTranspose":  # whose groups share their scales
                count = sum(values.size for values in rough) // moments.found.shape[1]
                wide = layer.name in last
                gain = _gain(moments, count, centred=layer.operator != "MatMul", wide=wide)
            means = moments.expected, moments.found
        else:
            means = exact.means[layer.name], _means(rough, layer)
        if layer.operator != "MatMul":
            shift = _shift(*means, gain)
        result[layer.name] = _corrected(before, gain, shift)
        for values, corrected in zip(
            walk.live, each(functools.partial(_apply, gain=gain, shift=shift, layer=layer), rough), strict=True
        ):
            values[found] = corrected
    return result


def last_layers(plan: Plan) -> frozenset[str]:
    """Return the names of the layers from which a way leads to an output of the model past no other layer."""
    index = plan.index
    names = {index.nodes[layer.node].output[0]: layer.name for layer in plan.placement.layers}
    seen, found, todo = set(), set(), list(index.outputs)
    while todo:
        tensor = todo.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        if tensor in names:
            found.add(names[tensor])
        elif tensor in index.producer:
            todo += [name for name in index.nodes[index.producer[tensor]].input if name]
    return frozenset(found)


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
    model's, of their product, and of the square of either.
    """

    expected: Array
    found: Array
    product: Array
    expected_square: Array
    square: Array


def _moments(expected: Sequence[Array], found: Sequence[Array], layer: Layer) -> _Moments:
    def measure(pair: tuple[Array, Array]) -> tuple[Array, ...]:
        y, z = (_by_channel(values, layer) for values in pair)
        return tuple(values.mean(axis=1) for values in (y, z, y * z, np.square(y), np.square(z)))

    rows = each(measure, zip(expected, found, strict=True))
    return _Moments(*(np.stack(part) for part in zip(*rows, strict=True)))


def _means(found: Sequence[Array], layer: Layer) -> Array:
    """Return the means over the positions of each sample, float64 [samples, channels]."""
    return np.stack(each(lambda values: _by_channel(values, layer).mean(axis=1), found))


def _by_channel(values: Array, layer: Layer) -> Array:
    """Return float64 [channels, positions]."""
    moved = np.moveaxis(values, _channel_axis(layer, values), 0)
    return np.asarray(moved.reshape(len(moved), -1), np.float64)


def _gain(moments: _Moments, count: int, *, centred: bool, wide: bool) -> Array:
    """Return the factor of each channel [channels]: the slope of the regression of the float output on the int8 one,
    or, for a ``wide`` output, what makes the int8 one vary as much as the float one does.

    Not ``centred``, both are about zero. It is 1 where ``count`` values are too few to tell, or where it is further
    from 1 than rounding brings it.
    """
    expected, found, product, expected_square, square = (
        part.mean(axis=0)
        for part in (moments.expected, moments.found, moments.product, moments.expected_square, moments.square)
    )
    top, bottom, size = product, square, expected_square
    if centred:
        top, bottom, size = top - expected * found, bottom - found**2, size - expected**2
    bottom = np.where(bottom > 1e-12 * square, bottom, np.nan)
    slope = np.sign(top) * np.sqrt(np.maximum(size, 0) / bottom) if wide else top / bottom
    usable = np.isfinite(slope) & (np.abs(slope - 1) <= _MOST_GAIN) & (count >= _FEWEST_VALUES)
    return np.asarray(np.where(usable, slope, 1.0))


def _shift(expected: Array, found: Array, gain: Array | None) -> Array:
    """Return what is to be added to each channel behind its gain: the mean difference over samples, made smaller by as
    much as chance among them explains of it.

    The positive-part James-Stein estimator (Stein 1956; James and Stein 1961) of each channel: the mean times
    ``max(0, 1 - squared standard error / squared mean)``.
    """
    shifts = expected - (found if gain is None else gain * found)
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
