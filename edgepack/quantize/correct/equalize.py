"""Scales channels so that one step for a whole tensor suits all of them; the float model computes what it did.

``channel_groups.py`` finds what may be scaled together, ``gates.py`` lets scales pass activations, ``noise_model.py``
chooses the scales, and this brings them into the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.int8 import WEIGHTED
from edgepack.quantize.correct.channel_groups import FIXED, Channels, Gates, find_channels
from edgepack.quantize.correct.gates import close_gates, open_gates
from edgepack.quantize.correct.noise_model import SATURATING_STEP, Reader, Site, choose_scales, noise_of
from edgepack.quantize.correct.tails import tail_lengths
from edgepack.quantize.flat_ends import FlatEnds
from edgepack.quantize.graph.index import GraphIndex, attribute, index_graph
from edgepack.quantize.graph.rewrite import shapes_of
from edgepack.quantize.graph.sessions import of_each_sample, open_session

if TYPE_CHECKING:
    from edgepack.quantize.placement import Layer
    from edgepack.quantize.plan import Plan
    from edgepack.specs.types import Array, Feeds

# A multiplication costs time. Those that help least are left out until the noise has grown by this share: 1 dB where
# each is a pass over the tensor, less where the engine computes them inside a neighbour.
_COSTLY_SHARE, _FREE_SHARE = 0.26, 0.02
# Outputs of a layer that the noise model looks at: more cost time and tell nothing new.
_MOST_OUTPUTS = 128
# Share of a channel's own energy in what its noise is measured by; the rest is the mean of the layer's channels.
_BALANCE = 0.9
# No channel counts as less than this share of the mean.
_LEAST_SHARE = 1e-3
# Operators between a quantized tensor and the layers that tell how much its noise matters.
_FAR = 12


@dataclass(frozen=True)
class Equalized:
    """The float graph with scaled channels, and what the noise model expects: noise after over noise before."""

    proto: Any
    ratio: float


@dataclass(frozen=True)
class _Channel:
    """Statistics of one tensor: the largest and least value of each channel in each sample [samples, channels], and the
    mean square over samples in the shape of its numbers.
    """

    largest: Array
    least: Array
    square: Array


def equalize(plan: Plan, feeds: Sequence[Feeds]) -> Equalized | None:
    """Return ``plan``'s float graph with scaled channels; None when there is nothing to scale or nothing to gain."""
    from edgepack.quantize.correct.gain_bias import copy_proto

    proto = copy_proto(plan.proto)
    gates = open_gates(proto, plan)
    index = index_graph(proto)
    channels = find_channels(index, shapes_of(proto), gates)
    view = _view(plan, index, channels, gates)
    count = 1 + max((int(n.max()) for n in [*channels.producers.values(), *channels.numbers.values()]), default=0)
    measured = _measure(proto, view.wanted(), feeds)
    terms = _noise_terms(view, measured)
    if not terms.sites and not terms.readers:
        return None
    scales, before, after = choose_scales(terms.sites, terms.readers, count)
    closed = _close_useless(view, terms, scales)
    scales[FIXED] = 1.0
    if np.allclose(scales, 1.0, rtol=0.02):
        return None
    apply_scales(index, channels, gates, scales)
    close_gates(proto, closed)
    return Equalized(proto, after / before)


@dataclass(frozen=True)
class _View:
    """A plan as it stands in the graph with gates: its layers there, and the tensors that are quantized."""

    plan: Plan
    index: GraphIndex
    channels: Channels
    gates: Gates
    layers: tuple[Layer, ...]
    quantized: tuple[str, ...]

    def wanted(self) -> dict[str, Array]:
        """Return the tensors of which statistics are needed, with their numbers."""
        names = dict.fromkeys([*self.quantized, *(layer.data for layer in self.layers)])
        return {name: self.channels.numbers[name] for name in names if name in self.channels.numbers}


def _view(plan: Plan, index: GraphIndex, channels: Channels, gates: Gates) -> _View:
    places = {node.name: number for number, node in enumerate(index.nodes)}
    layers = tuple(
        dataclasses.replace(layer, node=places[layer.name], data=index.nodes[places[layer.name]].input[0])
        for layer in plan.placement.layers
    )
    quantized = tuple(gates.scaled.get(name, name) for name in plan.placement.scales)
    return _View(plan, index, channels, gates, layers, quantized)


def _measure(proto: Any, wanted: Mapping[str, Array], feeds: Iterable[Feeds]) -> dict[str, _Channel]:
    """Return the statistics of each channel of the wanted tensors."""
    names = list(wanted)
    session = open_session(proto, names, threads=1)

    def measure(values: Mapping[str, Array]) -> dict[str, _Channel]:
        return {name: _of_sample(values[name], wanted[name]) for name in names}

    samples = of_each_sample(session, feeds, measure)
    return {name: _joined([sample[name] for sample in samples]) for name in names}


def _of_sample(values: Array, numbers: Array) -> _Channel:
    axes = tuple(place for place, size in enumerate(numbers.shape) if size == 1)
    square = np.asarray(np.mean(np.square(values, dtype=np.float32), axis=axes, keepdims=True, dtype=np.float64))
    return _Channel(values.max(axis=axes).reshape(1, -1), values.min(axis=axes).reshape(1, -1), square)


def _joined(samples: Sequence[_Channel]) -> _Channel:
    largest, least = (np.concatenate([getattr(sample, end) for sample in samples]) for end in ("largest", "least"))
    return _Channel(largest, least, np.sum([sample.square for sample in samples], axis=0) / len(samples))


@dataclass(frozen=True)
class _Terms:
    """The terms of the noise model, by the tensor that is quantized and by the layer that reads it."""

    sites: list[Site]
    readers: list[Reader]


def _noise_terms(view: _View, measured: Mapping[str, _Channel]) -> _Terms:
    gains: dict[str, Array] = {}
    readers: list[Reader] = []
    for layer in view.layers:
        numbers = view.channels.numbers.get(layer.data)
        if numbers is None or layer.data not in measured or layer.node not in view.channels.readers:
            continue
        reader, gain = _reader(view, layer, numbers, measured[layer.data])
        if reader is not None:
            readers.append(reader)
            gains[layer.data] = gains.get(layer.data, np.zeros(numbers.shape)) + gain
    sites = []
    flat_ends = FlatEnds(view.index)
    for name in view.quantized:
        numbers = view.channels.numbers.get(name)
        if numbers is not None and name in measured and (found := measured[name]).square.sum() > 0:
            gain = _gain(view, name, numbers, gains, measured)
            low, high = flat_ends.told_apart(name, float(found.least.min()), float(found.largest.max()))
            above, below = np.clip(found.largest, 0, max(high, 0)), np.clip(-found.least, 0, max(-low, 0))
            sites.append(_site(numbers, above, below, gain))
    return _Terms(sites, readers)


def _site(numbers: Array, above: Array, below: Array, gain: Array) -> Site:
    """Return the term of one tensor's step from how far each channel goes up and down in each sample."""
    above, below = above.astype(np.float64), below.astype(np.float64)
    return Site(
        numbers.ravel(), above.max(axis=0), below.max(axis=0), gain.ravel(),
        tail_lengths(above), tail_lengths(below), len(above),
    )  # fmt: skip


def _reader(view: _View, layer: Layer, numbers: Array, found: _Channel) -> tuple[Reader | None, Array]:
    """Return the noise term of a layer's weights, and how much noise in each channel of its input disturbs it."""
    largest, energies, positions, step = _weights_by_input(view.index, layer)
    groups, inputs = largest.shape[0], largest.shape[2]
    square = found.square.reshape(groups, inputs)
    outputs = energies @ square[:, :, None]  # [groups, outputs, 1]: energy of each output, its inputs independent
    mean = float(outputs.mean())
    if not np.isfinite(mean) or mean <= 0:
        return None, np.zeros(numbers.shape)
    signal = (1 - _BALANCE) * mean + _BALANCE * np.maximum(outputs, mean * _LEAST_SHARE)
    count = outputs.size
    wider = SATURATING_STEP if view.plan.rules.saturates else 1.0
    energy = square * positions * step * wider**2 / count
    reader = Reader(numbers.reshape(groups, inputs), largest / np.sqrt(signal[:, ::step]), energy)
    gain = (energies / signal).sum(axis=1) / count
    return reader, gain.reshape(numbers.shape)


def _gain(
    view: _View, name: str, numbers: Array, gains: Mapping[str, Array], measured: Mapping[str, _Channel]
) -> Array:
    """Return how much noise in each channel of a quantized tensor disturbs what is computed from it.

    A layer that reads it tells; else the layers that read what activations and sums make of it, where the energy that
    is left behind an activation stands for the square of its slope.
    """
    total = gains[name].copy() if name in gains else np.zeros(numbers.shape)
    own = measured[name].square
    for tensor in _followers(view, name):
        if tensor in gains and gains[tensor].shape == numbers.shape:
            left = np.minimum(measured[tensor].square / np.maximum(own, 1e-30), 1.0)
            total += gains[tensor] * left
    if total.any():
        return np.asarray(np.maximum(total, total.mean() * _LEAST_SHARE))
    return np.full(numbers.shape, 1.0 / float(own.sum()))  # a product or a sum: every channel counts alike


def _followers(view: _View, name: str) -> list[str]:
    """Return the tensors that pointwise operators, sums, pooling and gates make of one, the nearest first."""
    found, front = [], [name]
    for _ in range(_FAR):
        front = [
            view.index.nodes[user].output[0]
            for tensor in front
            for user in view.index.users(tensor)
            if view.index.nodes[user].op_type not in WEIGHTED
        ]
        front = [tensor for tensor in dict.fromkeys(front) if tensor not in found]
        found += front
    return found


def _weights_by_input(index: GraphIndex, layer: Layer) -> tuple[Array, Array, int, int]:
    """Return of a layer's weights the largest absolute one [groups, some outputs, inputs], the energy [groups, outputs,
    inputs], the number of kernel positions, and which of the outputs are some: every how many.
    """
    weight = index.constant(layer.weight).astype(np.float64)
    if layer.operator == "Conv":
        parts = weight.reshape(layer.groups, weight.shape[0] // layer.groups, weight.shape[1], -1)
    elif layer.operator == "ConvTranspose":
        turned = weight.reshape(layer.groups, weight.shape[0] // layer.groups, weight.shape[1], -1)
        parts = turned.transpose(0, 2, 1, 3)
    else:
        parts = (weight if layer.transposed else weight.T)[None, :, :, None]
    # Some outputs stand for all in the model: every k-th of them.
    step = max(parts.shape[1] // _MOST_OUTPUTS, 1)
    return np.abs(parts[:, ::step]).max(axis=3), np.square(parts).sum(axis=3), parts.shape[3], step


def _close_useless(view: _View, terms: _Terms, scales: Array) -> set[str]:
    """Set the scales of gates that are not worth their time to 1, in place; return the names of these gates.

    Those that take away least noise are closed first, as long as the noise of the whole does not grow by more than the
    engine's share.
    """
    gates = {node.name: n for n, node in enumerate(view.index.nodes) if node.name in view.gates.names}
    numbers = {
        name: np.unique(table[number])
        for name, number in gates.items()
        for table in (view.channels.producers if name in view.gates.exits else view.channels.readers,)
        if number in table
    }
    closed = {name for name in gates if name not in numbers}
    share = _FREE_SHARE if view.plan.table.fuses_scales else _COSTLY_SHARE
    left = share * noise_of(terms.sites, terms.readers, scales)
    costs = {name: _cost_of_closing(used, terms, scales) for name, used in numbers.items()}
    for name in sorted(costs, key=lambda gate: (costs[gate], gate)):
        cost = _cost_of_closing(numbers[name], terms, scales)  # of those that are still open
        if cost > left:
            continue
        left -= max(cost, 0.0)
        scales[numbers[name]] = 1.0
        closed.add(name)
    return closed


def _cost_of_closing(numbers: Array, terms: _Terms, scales: Array) -> float:
    """Return how much the noise grows when these scales become 1."""
    sites = [site for site in terms.sites if np.isin(site.numbers, numbers).any()]
    readers = [reader for reader in terms.readers if np.isin(reader.numbers, numbers).any()]
    without = scales.copy()
    without[numbers] = 1.0
    return noise_of(sites, readers, without) - noise_of(sites, readers, scales)


# --- the graph --------------------------------------------------------------------------------------------------------


def apply_scales(index: GraphIndex, channels: Channels, gates: Gates, scales: Array) -> None:
    """Multiply ``scales`` (by number) into weights, gains, offsets, constant terms and gates of a graph, in place."""
    for number, numbers in channels.readers.items():
        node = index.nodes[number]
        if node.name in gates.entries:
            _grow(index, node.input[1], 1 / scales[numbers], index.constants[node.input[1]].dims)
        else:
            _rescale(index, node.input[1], _over_inputs(node, index, 1 / scales[numbers]))
    for number, numbers in channels.producers.items():
        node = index.nodes[number]
        factors = scales[numbers].ravel()
        if node.name in gates.exits:
            rank = len(index.constants[node.input[1]].dims)
            shape = [-1 if axis == gates.exits[node.name] else 1 for axis in range(rank)]
            _grow(index, node.input[1], factors.reshape(shape), index.constants[node.input[1]].dims)
            continue
        if node.op_type in ("LayerNormalization", "BatchNormalization"):
            for name in filter(None, node.input[1:3]):
                _rescale(index, name, factors)
            continue
        _rescale(index, node.input[1], _over_outputs(node, index, factors))
        if len(node.input) > 2 and node.input[2]:
            _grow(index, node.input[2], factors, index.constants[node.input[2]].dims)
    for number, numbers in channels.added.items():
        node = index.nodes[number]
        constant = next(name for name in node.input if index.is_constant(name))
        _grow(index, constant, scales[numbers], index.constants[constant].dims)


def _over_inputs(node: Any, index: GraphIndex, factors: Array) -> Array:
    """Return factors of input channels in a shape that multiplies the node's weights."""
    dims = list(index.constants[node.input[1]].dims)
    if node.op_type == "Conv":
        groups = attribute(node, "group", 1)
        spread = np.repeat(factors.reshape(groups, 1, dims[1]), dims[0] // groups, axis=1)
        return spread.reshape(dims[0], dims[1], *[1] * (len(dims) - 2))
    if node.op_type == "ConvTranspose":
        return factors.reshape(-1, *[1] * (len(dims) - 1))
    return factors.reshape(1, -1) if attribute(node, "transB", 0) else factors.reshape(-1, 1)


def _over_outputs(node: Any, index: GraphIndex, factors: Array) -> Array:
    dims = list(index.constants[node.input[1]].dims)
    if node.op_type == "Conv":
        return factors.reshape(-1, *[1] * (len(dims) - 1))
    if node.op_type == "ConvTranspose":
        groups = attribute(node, "group", 1)
        spread = np.repeat(factors.reshape(groups, 1, dims[1]), dims[0] // groups, axis=1)
        return spread.reshape(dims[0], dims[1], *[1] * (len(dims) - 2))
    return factors.reshape(-1, 1) if attribute(node, "transB", 0) else factors.reshape(1, -1)


def _rescale(index: GraphIndex, name: str, factors: Array) -> None:
    """Multiply an initializer, in place, by factors that broadcast against it."""
    from onnx import numpy_helper

    values = index.constant(name).astype(np.float64) * factors
    index.constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _grow(index: GraphIndex, name: str, factors: Array, dims: Sequence[int]) -> None:
    """Multiply an initializer by factors, to whose shape it may grow; leading axes of size 1 are dropped again."""
    from onnx import numpy_helper

    values = np.asarray(index.constant(name).astype(np.float64) * factors, np.float32)
    while values.ndim > max(len(dims), 1) and values.shape[0] == 1:
        values = values[0]
    index.constants[name].CopyFrom(numpy_helper.from_array(values, name))
    for place in reversed([n for n, value in enumerate(index.graph.value_info) if value.name == name]):
        del index.graph.value_info[place]  # it states the shape that the constant had
