"""Measures how far each layer's output in the int8 model is from the fp32 model's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.stage import stage
from edgepack.specs.bundle import LayerRecord, LayerRecords
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.parts import is_known

if TYPE_CHECKING:
    from edgepack.quantize.graph.index import GraphIndex
    from edgepack.specs.types import Array, Feeds

SAMPLES = 8
# Outputs that are read in one pass: all of a large model's at once would not fit into memory.
_LAYERS_A_PASS = 32
_FUSED_STEPS = 3
_SEED = 0


@stage("layers")
def layer_sqnr(
    model: OnnxModel, quantized: OnnxModel, samples: SampleSet, out: Path, progress: Progress = no_progress
) -> LayerRecords:
    """Run both models in ONNX Runtime on up to 8 of ``samples`` and compare the outputs of the layers with weights.

    ``model`` is the fp32 model that ``quantized`` was made of, with the same names. SQNR is balanced over the channels
    that a layer makes: -10 log10 of the mean over channels of sum (ref - int8)^2 / sum (ref - mean)^2 over all elements
    and samples, at most 1 for a channel, whose values are lost then. One ratio over all channels hides those that are
    small beside others, which a depthwise convolution needs, and a channel's mean hides what varies in it. Of a channel
    that is constant, or has fewer than 8 values, sum ref^2 counts; channels that are always zero are left out.

    The int8 model's tensors are read after their DequantizeLinear, with the activation that is fused into the layer,
    and its Q/DQ are computed as written, so that the figure is the same on every host. A layer whose output the fp32
    model does not have is not measured. ``out`` is not used.
    """
    import onnxruntime

    from edgepack.data.samples import take_samples
    from edgepack.graph.describe import describe
    from edgepack.graph.load import read_proto
    from edgepack.quantize.requested import asked_of_onnx

    del out
    few = take_samples(samples, min(SAMPLES, len(samples.indices)), _SEED)
    expected, found = read_proto(model), read_proto(quantized)
    pairs = _compared(expected, found)
    noises: dict[str, float] = {}
    names = list(pairs)
    parts = [names[i : i + _LAYERS_A_PASS] for i in range(0, len(names), _LAYERS_A_PASS)]
    for done, part in enumerate(parts):
        progress("layers", done, len(parts))
        noises |= _measure(expected, found, {name: pairs[name] for name in part}, few, model)
    facts = {layer.name: layer for layer in describe(quantized).layers}
    layers = []
    for asked in asked_of_onnx(quantized):
        layer = asked.layer
        known, sqnr = facts.get(layer.name), noises.get(layer.name)
        layers.append(
            LayerRecord(
                name=layer.name,
                operator=layer.operator,
                weighted=layer.weighted,
                asked=layer.asked,
                left=layer.reason,
                reads=next(iter(asked.reads), ""),
                makes=next(iter(asked.makes), ""),
                sqnr_db=sqnr if sqnr is not None and math.isfinite(sqnr) else None,
                identical=sqnr == math.inf,
                macs=known.macs if known else None,
                weight_bytes=known.weight_bytes if known else None,
            )
        )
    progress("layers", len(parts), len(parts))
    return LayerRecords(len(few.indices), f"onnxruntime {onnxruntime.__version__}", tuple(layers))


@dataclass(frozen=True)
class _Pair:
    """A tensor of the fp32 model, that of the int8 model to compare it with, and the axis of their channels."""

    expected: str
    found: str
    axis: int


def _compared(expected: Any, found: Any) -> dict[str, _Pair]:
    """Return by a layer's name what is compared.

    Where an activation alone reads what is stored of a layer, that is its result: what it cannot tell apart may be
    clipped (``flat_ends.py``).
    """
    from edgepack.engines.int8 import WEIGHTED
    from edgepack.quantize.graph.activations import find_activations
    from edgepack.quantize.graph.index import index_graph

    known = {name for node in expected.graph.node for name in node.output if name}
    index = index_graph(found)
    behind = {a.source: a.result for a in find_activations(index) if a.nodes.issuperset(index.users(a.source))}
    pairs: dict[str, _Pair] = {}
    for node in found.graph.node:
        if node.op_type in WEIGHTED and node.name:
            for reference, tensor in _ends(index, node.output[0]):
                if reference in known:
                    result = behind.get(tensor, "")
                    pair = (result, result) if result in known else (reference, tensor)
                    pairs[node.name] = _Pair(*pair, 1 if node.op_type.startswith("Conv") else -1)
                    break
    return pairs


def _ends(index: GraphIndex, tensor: str) -> Iterator[tuple[str, str]]:
    """Yield where a layer's output can be compared: dequantized, first behind the activations fused into it."""
    first = tensor
    for _ in range(_FUSED_STEPS):
        for user in index.users(tensor):
            if index.nodes[user].op_type == "QuantizeLinear":
                integers = index.nodes[user].output[0]
                after = [n for n in index.users(integers) if index.nodes[n].op_type == "DequantizeLinear"]
                if after:
                    dequantized = index.nodes[after[0]].output[0]
                    yield tensor, dequantized
                    yield dequantized, dequantized  # an output of the model keeps its name behind Q/DQ
        only = index.sole_user(tensor)
        if only is None or len(index.nodes[only].output) != 1 or index.nodes[only].op_type not in _ACTIVATIONS:
            break
        tensor = index.nodes[only].output[0]
    yield first, first


_ACTIVATIONS = frozenset(
    {"Add", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"}
)


def _measure(
    expected: Any, found: Any, pairs: Mapping[str, _Pair], samples: SampleSet, model: OnnxModel
) -> dict[str, float]:
    """Return SQNR in dB by a layer's name; infinite where nothing differs, absent where there is no signal."""
    from edgepack.data.samples import read_samples
    from edgepack.quantize.graph.sessions import open_session

    first = open_session(expected, list(dict.fromkeys(pair.expected for pair in pairs.values())), optimized=False)
    second = open_session(found, list(dict.fromkeys(pair.found for pair in pairs.values())), optimized=False)
    energies: dict[str, Array] = {}
    for feed in read_samples(samples, model.inputs):
        _add(energies, pairs, first(feed), second(feed))
    return {name: _decibel(*sums) for name, sums in energies.items() if sums[0].sum() > 0}


def _add(energies: dict[str, Array], pairs: Mapping[str, _Pair], first: Feeds, second: Feeds) -> None:
    """Add one sample's sums, [4, channels], to those of each layer: of squares, of the noise's, of values, and a count.

    Where samples have other numbers of channels, as the scores of attention have, all count as one.
    """
    for name, pair in pairs.items():
        expected, found = first[pair.expected], second[pair.found]
        if expected.shape != found.shape:
            continue
        difference = expected.astype("float64") - found
        energy, noise = (_sums(np.square(values, dtype=np.float64), pair.axis) for values in (expected, difference))
        new = np.stack([energy, noise, _sums(expected, pair.axis), _sums(np.ones_like(expected), pair.axis)])
        known = energies.get(name, np.zeros_like(new))
        if known.shape != new.shape:
            known, new = (sums.sum(axis=1, keepdims=True) for sums in (known, new))
        energies[name] = known + new


def _sums(values: Array, axis: int) -> Array:
    """Return the sum of each channel along ``axis``, float64."""
    if values.ndim < 2:
        return np.array([values.sum(dtype=np.float64)])
    by_channel = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    channels: Array = by_channel.sum(axis=1, dtype=np.float64)
    return channels


def _decibel(whole: Array, noise: Array, total: Array, count: Array) -> float:
    """Return the balanced SQNR of channels with these sums; infinite where nothing differs, NaN where it is not known:
    only channels without signal differ, or values are NaN.
    """
    if not noise.any():
        return math.inf
    varying = whole - np.square(total) / count
    signal = np.where(is_known(varying, whole, count), varying, whole)
    known = signal > 0
    lost = float(np.minimum(noise[known] / signal[known], 1).mean())
    return -10 * math.log10(lost) if lost > 0 else math.nan
