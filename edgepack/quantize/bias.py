"""Corrects the mean of every layer's output by its bias, layer by layer behind the layers that are corrected already.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with means
measured on samples. Each layer sees the quantized and corrected layers before it; correcting all at once on the
uncorrected graph diverges.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.quantize.index import index_graph
from edgepack.quantize.insert import insert
from edgepack.quantize.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.quantize.placement import Layer
    from edgepack.quantize.plan import Plan
    from edgepack.quantize.weights import IntegerWeights
    from edgepack.specs import Array, Feeds

_BUDGET_BYTES = 128 << 20
_FEWEST = 4


def correct_biases(
    plan: Plan,
    weights: Mapping[str, IntegerWeights],
    feeds: Sequence[Feeds],
    progress: Callable[[int, int], None],
) -> dict[str, IntegerWeights]:
    """Return ``weights`` with biases such that each layer's mean output is that of the float model on ``feeds``.

    As many of ``feeds`` are used as fit into 128 MiB of live tensors. A MatMul has no bias and is left as it is.
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
        if layer.operator != "MatMul":
            shift = _significant(_channel_means(exact, expected, layer) - _channel_means(rough, found, layer))
            before = result[layer.name].bias
            bias = shift if before is None else before + shift
            result[layer.name] = dataclasses.replace(result[layer.name], bias=bias.astype(np.float32))
            for values in rough.live:
                values[found] = values[found] + _along_channels(shift, values[found], layer)
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


def _channel_means(walk: Walk, tensor: str, layer: Layer) -> Array:
    """Return the mean of each output channel over all positions of each sample: float64 [samples, channels]."""
    means = []
    for values in walk.live:
        moved = np.moveaxis(values[tensor], _channel_axis(layer, values[tensor]), 0)
        means.append(moved.reshape(len(moved), -1).mean(axis=1, dtype=np.float64))
    return np.stack(means)


def _significant(shifts: Array) -> Array:
    """Return the mean shift of each channel, made smaller by as much as chance among the samples explains of it.

    The positive-part James-Stein estimator (Stein 1956; James and Stein 1961) of each channel: the mean times
    ``max(0, 1 - squared standard error / squared mean)``.
    """
    mean = shifts.mean(axis=0)
    if len(shifts) < 2:
        return np.zeros_like(mean)
    error = shifts.var(axis=0, ddof=1) / len(shifts)
    return np.asarray(mean * np.maximum(0.0, 1.0 - error / np.maximum(mean**2, 1e-300)))


def _along_channels(shift: Array, values: Array, layer: Layer) -> Array:
    shape = [1] * values.ndim
    shape[_channel_axis(layer, values)] = -1
    return shift.astype(np.float32).reshape(shape)


def _channel_axis(layer: Layer, values: Array) -> int:
    return 1 if layer.operator in ("Conv", "ConvTranspose") else values.ndim - 1
