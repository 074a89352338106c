"""Measures how far each layer's output in the int8 model is from the fp32 model's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.stage import stage
from edgepack.specs.bundle import LayerRecord, LayerRecords
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Progress, no_progress

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

    ``model`` is the fp32 model that ``quantized`` was made of, with the same names. SQNR is 10 log10(sum ref^2 /
    sum (ref - int8)^2) over all elements and samples. The int8 model's tensors are read after their DequantizeLinear,
    with the activation that is fused into the layer, and its Q/DQ are computed as written, so that the figure is the
    same on every host. A layer whose output the fp32 model does not have is not measured. ``out`` is not used.
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


def _compared(expected: Any, found: Any) -> dict[str, tuple[str, str]]:
    """Return by a layer's name the tensor of the fp32 model and that of the int8 model to compare it with."""
    from edgepack.engines.int8 import WEIGHTED
    from edgepack.quantize.graph.index import index_graph

    known = {name for node in expected.graph.node for name in node.output if name}
    index = index_graph(found)
    pairs: dict[str, tuple[str, str]] = {}
    for node in found.graph.node:
        if node.op_type in WEIGHTED and node.name:
            for reference, tensor in _ends(index, node.output[0]):
                if reference in known:
                    pairs[node.name] = (reference, tensor)
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
    expected: Any, found: Any, pairs: Mapping[str, tuple[str, str]], samples: SampleSet, model: OnnxModel
) -> dict[str, float]:
    """Return SQNR in dB by a layer's name; infinite where nothing differs, absent where there is no signal."""
    from edgepack.data.samples import read_samples
    from edgepack.quantize.graph.sessions import open_session

    first = open_session(expected, list(dict.fromkeys(a for a, _ in pairs.values())), optimized=False)
    second = open_session(found, list(dict.fromkeys(b for _, b in pairs.values())), optimized=False)
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    for feed in read_samples(samples, model.inputs):
        _add(signal, noise, pairs, first(feed), second(feed))
    return {name: _decibel(signal[name], noise[name]) for name in pairs if signal[name] > 0}


def _add(
    signal: dict[str, float], noise: dict[str, float], pairs: Mapping[str, tuple[str, str]], first: Feeds, second: Feeds
) -> None:
    for name, (a, b) in pairs.items():
        expected, found = first[a], second[b]
        if expected.shape != found.shape:
            signal[name] = math.nan
            continue
        signal[name] += _energy(expected)
        noise[name] += _energy(expected.astype("float64") - found)


def _energy(values: Array) -> float:
    import numpy as np

    return float(np.square(values, dtype=np.float64).sum())


def _decibel(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(signal / noise) if noise > 0 else math.nan
