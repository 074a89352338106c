"""Scales channels so that one step for a whole tensor suits all of them; the float model computes what it did.

``channels.py`` finds what may be scaled together, ``noise_model.py`` chooses the scales, and this brings them into
the weights. Where a tensor made in float (behind LayerNormalization or GELU) is read by int8 layers and its producer
cannot take the scales in, a multiplication is put in front of its quantization: SmoothQuant's "activation smoothing",
Xiao et al. 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.quantize.correct.channel_groups import FIXED, Channels, find_channels
from edgepack.quantize.correct.noise_model import SATURATING_STEP, Reader, Site, choose_scales
from edgepack.quantize.graph.index import GraphIndex, attribute, index_graph
from edgepack.quantize.graph.rewrite import shapes_of
from edgepack.quantize.graph.sessions import open_session
from edgepack.quantize.insert import Names

if TYPE_CHECKING:
    from edgepack.quantize.placement import Layer
    from edgepack.quantize.plan import Plan
    from edgepack.specs.types import Array, Feeds

# A multiplication costs time: it must take away at least this share of the noise at its place.
_LEAST_SMOOTHING = 0.25
# Outputs of a layer that the noise model looks at: more cost time and tell nothing new.
_MOST_OUTPUTS = 128


@dataclass(frozen=True)
class Equalized:
    """The float graph with scaled channels, and what the noise model expects: noise after over noise before."""

    proto: Any
    ratio: float


@dataclass(frozen=True)
class _Channel:
    """Statistics over samples of one tensor, each in the shape of its numbers: maximum, minimum, mean square."""

    maximum: Array
    minimum: Array
    square: Array


def equalize(plan: Plan, feeds: Sequence[Feeds]) -> Equalized | None:
    """Return ``plan``'s float graph with scaled channels; None when there is nothing to scale or nothing to gain."""
    from edgepack.quantize.correct.gain_bias import copy_proto

    proto = copy_proto(plan.proto)
    index = index_graph(proto)
    channels = find_channels(index, shapes_of(proto))
    smoothed = _smoothed(plan, index, channels)
    count = 1 + max((int(n.max()) for n in [*channels.producers.values(), *channels.numbers.values()]), default=0)
    for tensor, numbers in smoothed.items():
        smoothed[tensor] = np.where(numbers != FIXED, numbers + count - 1, FIXED)
        count += numbers.size
    measured = _measure(proto, _wanted(plan, channels, smoothed), feeds)
    sites, readers, owners = _noise_terms(plan, index, channels, smoothed, measured)
    if not sites and not readers:
        return None
    scales, before, after = choose_scales(sites, readers, count)
    kept = {t: n for t, n in smoothed.items() if _helps(owners[t], scales)}
    if len(kept) < len(smoothed):
        for tensor in smoothed.keys() - kept.keys():
            scales[smoothed[tensor]] = 1.0
    scales[FIXED] = 1.0
    if np.allclose(scales, 1.0, rtol=0.02):
        return None
    apply_scales(proto, index, channels, kept, plan.placement.layers, scales)
    return Equalized(proto, after / before)


def _smoothed(plan: Plan, index: GraphIndex, channels: Channels) -> dict[str, Array]:
    """Return the tensors that a multiplication may scale, with numbers from 1 on that are theirs alone."""
    found: dict[str, Array] = {}
    for layer in plan.placement.layers:
        tensor = layer.data
        weight = index.constants[layer.weight]
        matrix = layer.operator in ("Gemm", "MatMul") and len(weight.dims) == 2
        if not matrix or tensor in channels.numbers or tensor in found or tensor not in plan.placement.kept_float:
            continue
        rank = len(shapes_of_tensor(plan, tensor))
        inputs = weight.dims[1] if layer.transposed else weight.dims[0]
        alone = all(_owns_weight(index, other) for other in plan.placement.layers if other.data == tensor)
        if rank >= 2 and alone:
            found[tensor] = np.arange(1, inputs + 1).reshape([1] * (rank - 1) + [-1])
    return found


def shapes_of_tensor(plan: Plan, tensor: str) -> list[int]:
    """Return the shape that the model states for a tensor; empty when it states none."""
    return shapes_of(plan.proto).get(tensor, [])


def _owns_weight(index: GraphIndex, layer: Layer) -> bool:
    return len(index.users(layer.weight)) == 1 and layer.weight not in index.inner


def _wanted(plan: Plan, channels: Channels, smoothed: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors of which statistics are needed, with their numbers."""
    inputs = {layer.data for layer in plan.placement.layers}
    names = [*plan.placement.scales, *inputs]
    found = {name: channels.numbers[name] for name in names if name in channels.numbers}
    return found | dict(smoothed)


def _measure(proto: Any, wanted: Mapping[str, Array], feeds: Iterable[Feeds]) -> dict[str, _Channel]:
    """Return the statistics of each channel of the wanted tensors."""
    names = list(wanted)
    session = open_session(proto, names)
    found: dict[str, _Channel] = {}
    total = 0
    for feed in feeds:
        values = session(feed)
        total += 1
        for name in names:
            found[name] = _join(found.get(name), _of_sample(values[name], wanted[name]))
    return {name: _Channel(c.maximum, c.minimum, c.square / total) for name, c in found.items()}


def _of_sample(values: Array, numbers: Array) -> _Channel:
    axes = tuple(place for place, size in enumerate(numbers.shape) if size == 1)
    square = np.asarray(np.mean(np.square(values, dtype=np.float32), axis=axes, keepdims=True, dtype=np.float64))
    return _Channel(values.max(axis=axes, keepdims=True), values.min(axis=axes, keepdims=True), square)


def _join(one: _Channel | None, other: _Channel) -> _Channel:
    if one is None:
        return other
    return _Channel(
        np.maximum(one.maximum, other.maximum), np.minimum(one.minimum, other.minimum), one.square + other.square
    )


def _noise_terms(
    plan: Plan,
    index: GraphIndex,
    channels: Channels,
    smoothed: Mapping[str, Array],
    measured: Mapping[str, _Channel],
) -> tuple[list[Site], list[Reader], dict[str, tuple[Site, list[Reader]]]]:
    """Return the terms of the noise model, and for each tensor that may be smoothed those at its place."""
    gains: dict[str, Array] = {}
    readers: list[Reader] = []
    owners: dict[str, tuple[Site, list[Reader]]] = {}
    by_tensor: dict[str, list[Reader]] = {}
    for layer in plan.placement.layers:
        numbers = smoothed.get(layer.data, channels.numbers.get(layer.data))
        if numbers is None or layer.data not in measured:
            continue
        if layer.data not in smoothed and layer.node not in channels.readers:
            continue
        largest, energy_of_weights, positions, outputs = _weights_by_input(index, layer)
        groups, inputs = largest.shape[0], largest.shape[2]
        square = measured[layer.data].square.reshape(groups, inputs)
        signal = float((energy_of_weights * square).sum())
        if not np.isfinite(signal) or signal <= 0:
            continue
        wider = SATURATING_STEP if plan.rules.saturates else 1.0
        energy = square * positions * (outputs / largest.shape[1]) * wider**2 / signal
        reader = Reader(numbers.reshape(groups, inputs), largest, energy)
        gain = (energy_of_weights / signal).reshape(numbers.shape)
        gains[layer.data] = gains.get(layer.data, np.zeros(numbers.shape)) + gain
        readers.append(reader)
        by_tensor.setdefault(layer.data, []).append(reader)
    sites = []
    for name in [*plan.placement.scales, *(t for t in smoothed if t not in plan.placement.scales)]:
        numbers = smoothed.get(name, channels.numbers.get(name))
        if numbers is None or name not in measured:
            continue
        found = measured[name]
        signal = float(found.square.sum())
        if signal <= 0:
            continue
        # What is read by a product or a sum: every channel counts alike.
        gain = gains[name] if name in gains else np.full(numbers.shape, 1.0 / signal)
        site = Site(
            numbers.ravel(),
            np.maximum(found.maximum, 0).astype(np.float64).ravel(),
            np.maximum(-found.minimum, 0).astype(np.float64).ravel(),
            gain.ravel(),
        )
        sites.append(site)
        if name in smoothed:
            owners[name] = (site, by_tensor.get(name, []))
    return sites, readers, owners


def _weights_by_input(index: GraphIndex, layer: Layer) -> tuple[Array, Array, int, int]:
    """Return of a layer's weights the largest absolute one [groups, some outputs, inputs], the energy [groups, inputs],
    the number of kernel positions, and that of the outputs of a group.
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
    largest = np.abs(parts).max(axis=3)[:, :: max(parts.shape[1] // _MOST_OUTPUTS, 1)]
    return largest, np.square(parts).sum(axis=(1, 3)), parts.shape[3], parts.shape[1]


def _helps(owner: tuple[Site, list[Reader]], scales: Array) -> bool:
    """Say whether smoothing a tensor takes away enough of the noise at its place."""
    from edgepack.quantize.correct.noise_model import noise_of

    site, readers = owner
    before = noise_of([site], readers, np.ones_like(scales))
    return noise_of([site], readers, scales) <= (1 - _LEAST_SMOOTHING) * before


# --- the graph --------------------------------------------------------------------------------------------------------


def apply_scales(
    proto: Any,
    index: GraphIndex,
    channels: Channels,
    smoothed: Mapping[str, Array],
    layers: Sequence[Layer],
    scales: Array,
) -> None:
    """Multiply ``scales`` (by number) into weights, gains, offsets and constant terms of ``proto``, in place.

    ``index`` is that of ``proto``. A multiplication is put in front of the layers that read a tensor of ``smoothed``.
    """
    for number, numbers in channels.readers.items():
        node = index.nodes[number]
        _rescale(index, node.input[1], _over_inputs(node, index, 1 / scales[numbers]))
    for number, numbers in channels.producers.items():
        node = index.nodes[number]
        factors = scales[numbers].ravel()
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
    taken = Names(proto.graph)
    extra: dict[int, Any] = {}
    for tensor, numbers in smoothed.items():
        users = [layer for layer in layers if layer.data == tensor]
        extra[min(layer.node for layer in users)] = _smooth(proto, index, taken, tensor, scales[numbers], users)
    if extra:
        nodes = [part for n, node in enumerate(index.nodes) for part in (*filter(None, [extra.get(n)]), node)]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)


def _smooth(proto: Any, index: GraphIndex, taken: Names, tensor: str, factors: Array, users: list[Layer]) -> Any:
    """Let ``users`` read ``tensor`` times ``factors``; return the multiplication."""
    from onnx import helper, numpy_helper

    constant, result = taken.new(f"{tensor}_smoothing"), taken.new(f"{tensor}_smoothed")
    proto.graph.initializer.append(numpy_helper.from_array(factors.astype(np.float32), constant))
    for layer in users:
        node = index.nodes[layer.node]
        node.input[0] = result
        _rescale(index, node.input[1], _over_inputs(node, index, 1 / factors.ravel()))
    known = next((v for v in [*proto.graph.value_info, *proto.graph.input] if v.name == tensor), None)
    if known is not None:
        info = proto.graph.value_info.add()
        info.CopyFrom(known)
        info.name = result
    return helper.make_node("Mul", [tensor, constant], [result], name=taken.new(f"{tensor}_Smooth"))


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
