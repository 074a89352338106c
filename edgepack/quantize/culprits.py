"""Finds where an int8 model loses most: the tensors whose quantization brings most noise in, with what touches them.

A tensor leaves int8 only when every operator that makes or reads it does. So what goes back to float is not a layer but
such a group: where a stem and a depthwise convolution lose everything between them, leaving out either alone brings
nothing, as the tensor between stays quantized.
"""

from __future__ import annotations

import dataclasses
import glob
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.stage import stage
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.quantize.graph.index import GraphIndex
    from edgepack.specs.types import Array, Feeds

SAMPLES = 8
_SEED = 0
# A channel's noise is measured by its own energy, with this share of the mean over channels as the least.
_LEAST_SHARE = 0.1
_SITES_A_PASS = 32


@dataclass(frozen=True)
class Culprit:
    """A group of nodes that keep a tensor in int8: its tensor, the nodes' names, and what they bring in.

    ``noise`` is what of the outputs' noise goes away with the group (mean over the outputs' parts of noise over
    signal), None where only the noise at its own place was measured. ``macs`` are the group's multiply-adds.
    """

    tensor: str
    nodes: tuple[str, ...]
    noise: float | None
    macs: int


@dataclass(frozen=True)
class Culprits:
    """Groups, the worst for its cost first; ``macs`` of every layer by its name, and the noise of the whole model."""

    groups: tuple[Culprit, ...]
    macs: Mapping[str, int]
    noise: float


@stage("culprits")
def find_culprits(
    model: OnnxModel,
    source: OnnxModel,
    quantized: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    samples: SampleSet,
    measured: int,
    out: Path,
    progress: Progress = no_progress,
) -> Culprits:
    """Compare ``quantized`` with ``source``, the float model whose tensors its own stand for, on up to 8 samples.

    Tensors are ranked by the noise that is new in each, channel by channel; the first ``measured``
    groups, and the model's beginning and end, are left out of a plain int8 version of ``model``, whose outputs are
    compared by ONNX Runtime. The others follow by the noise at their place. With none of ``measured`` no tensor is
    looked at.
    """
    from edgepack.data.samples import read_samples, take_samples
    from edgepack.graph.describe import describe
    from edgepack.graph.load import read_proto
    from edgepack.quantize.graph.index import index_graph

    few = take_samples(samples, min(SAMPLES, len(samples.indices)), _SEED)
    feeds = list(read_samples(few, model.inputs))
    found = read_proto(quantized)
    index = index_graph(found)
    macs = {layer.name: layer.macs for layer in describe(model).layers if layer.macs}
    groups: list[Culprit] = []
    if measured:
        sites = _sites(index, {name for node in read_proto(source, weights=False).graph.node for name in node.output})
        noises = _noises(read_proto(source), found, sites, feeds)
        groups = _distinct(
            [
                Culprit(site.tensor, site.nodes, None, sum(macs.get(name, 0) for name in site.nodes))
                for site in sorted(sites, key=lambda site: (-_fresh(site, noises), site.tensor))
            ]
        )
    chosen = [*groups[:measured], *_ends(quantized, macs)]
    tried, whole = _measure(model, ranges, rules, chosen, feeds, out, progress)
    total = sum(macs.values()) or 1
    mean = 1 / max(len(macs), 1)
    ranked = sorted(tried, key=lambda group: -(group.noise or 0.0) / (group.macs / total + mean))
    return Culprits((*ranked, *groups[measured:]), macs, whole)


@dataclass(frozen=True)
class _Site:
    """A quantized activation: its name in the float model, that of the dequantized one, the sites that it is computed
    from, and the nodes that make or read it.
    """

    tensor: str
    rough: str
    before: tuple[str, ...]
    nodes: tuple[str, ...]


def _sites(index: GraphIndex, known: set[str]) -> list[_Site]:
    """Return the quantized activations that the float model has as well."""
    found = []
    for number, node in enumerate(index.nodes):
        if node.op_type != "QuantizeLinear" or index.is_constant(node.input[0]):
            continue
        pairs = [user for user in index.users(node.output[0]) if index.nodes[user].op_type == "DequantizeLinear"]
        if not pairs:
            continue
        rough = index.nodes[pairs[0]].output[0]
        tensor = next((name for name in (node.input[0], rough) if name in known), None)
        if tensor is None:
            continue
        producers, before = _back(index, number)
        readers = _forward(index, rough)
        nodes = sorted({*producers, *readers})
        found.append(_Site(tensor, rough, before, tuple(index.nodes[place].name for place in nodes)))
    return found


def _back(index: GraphIndex, number: int) -> tuple[set[int], tuple[str, ...]]:
    """Return the nodes between a QuantizeLinear and the dequantized tensors before it, and these tensors."""
    nodes: set[int] = set()
    before: dict[str, None] = {}
    front = [index.nodes[number].input[0]]
    while front:
        producer = index.producer.get(front.pop())
        if producer is None or producer in nodes:
            continue
        node = index.nodes[producer]
        if node.op_type == "DequantizeLinear":
            if not index.is_constant(node.input[0]):
                before[node.output[0]] = None
            continue
        nodes.add(producer)
        front += [name for name in node.input if name and not index.is_constant(name)]
    return nodes, tuple(before)


def _forward(index: GraphIndex, rough: str) -> set[int]:
    """Return the nodes that read a dequantized tensor directly."""
    return {user for user in index.users(rough) if index.nodes[user].op_type != "QuantizeLinear"}


def _noises(exact: Any, rough: Any, sites: Sequence[_Site], feeds: Sequence[Feeds]) -> dict[str, float]:
    """Return by dequantized tensor the mean over channels of noise over signal.

    What an activation behind cannot tell apart is no noise (``flat_ends.py``).
    """
    from edgepack.quantize.flat_ends import FlatEnds
    from edgepack.quantize.graph.index import index_graph
    from edgepack.quantize.graph.sessions import open_session

    flat_ends = FlatEnds(index_graph(rough))
    result: dict[str, float] = {}
    for begin in range(0, len(sites), _SITES_A_PASS):
        part = sites[begin : begin + _SITES_A_PASS]
        first = open_session(exact, list(dict.fromkeys(site.tensor for site in part)), optimized=False)
        second = open_session(rough, list(dict.fromkeys(site.rough for site in part)), optimized=False)
        sums: dict[str, Array] = {}
        for feed in feeds:
            one, other = first(feed), second(feed)
            for site in part:
                expected, got = one[site.tensor], other[site.rough]
                if expected.shape == got.shape and expected.ndim:
                    if expected.size and np.isfinite(expected).all():
                        ends = flat_ends.told_apart(site.rough, float(expected.min()), float(expected.max()))
                        expected, got = np.clip(expected, *ends), np.clip(got, *ends)
                    sums[site.rough] = sums.get(site.rough, np.zeros(())) + _energies(expected, got)
        result |= {name: _relative(*energies) for name, energies in sums.items()}
    return result


def _energies(expected: Array, found: Array) -> Array:
    """Return signal and noise by channel: float64 [2, channels]."""
    axis = 1 if expected.ndim in (3, 4, 5) else expected.ndim - 1
    others = tuple(place for place in range(expected.ndim) if place != axis)
    exact = np.nan_to_num(expected.astype(np.float64), posinf=0.0, neginf=0.0)
    noise = np.square(exact - np.nan_to_num(found.astype(np.float64), posinf=0.0, neginf=0.0))
    return np.stack([np.square(exact).sum(axis=others), noise.sum(axis=others)])


def _relative(signal: Array, noise: Array) -> float:
    mean = float(signal.mean())
    return float((noise / np.maximum(signal, _LEAST_SHARE * mean)).mean()) if mean > 0 else 0.0


def _fresh(site: _Site, noises: Mapping[str, float]) -> float:
    """Return the noise of a tensor beyond that of the noisiest tensor which it is computed from."""
    own = noises.get(site.rough, 0.0)
    return own - max((noises.get(name, 0.0) for name in site.before), default=0.0)


def _distinct(groups: Sequence[Culprit]) -> list[Culprit]:
    """Leave out groups whose nodes are all in one that stands before."""
    kept: list[Culprit] = []
    for group in groups:
        if not any(set(group.nodes) <= set(other.nodes) for other in kept):
            kept.append(group)
    return kept


def _ends(quantized: OnnxModel, macs: Mapping[str, int]) -> list[Culprit]:
    """Return the beginning and the end of the model as groups: where signals are processed before they are learnt from,
    or boxes are computed, noise adds up over many layers of which none stands out.
    """
    from edgepack.quantize.requested import asked_of_onnx

    asked = [item.layer for item in asked_of_onnx(quantized)]
    names = [layer.name for layer in asked]
    layers = [layer.name for layer in asked if layer.weighted and layer.asked == "int8"]
    found = []
    for share, first in ((1 / 8, True), (1 / 4, True), (1 / 2, True), (3 / 4, True), (1 / 8, False), (1 / 4, False)):
        count = round(share * len(layers))
        if not count:
            continue
        border = names.index(layers[count - 1] if first else layers[-count])
        nodes = tuple(names[: border + 1] if first else names[border:])
        words = f"the {'first' if first else 'last'} {count} layers"
        found.append(Culprit(words, nodes, None, sum(macs.get(name, 0) for name in nodes)))
    return found


def _measure(
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    groups: Sequence[Culprit],
    feeds: list[dict[str, Any]],
    out: Path,
    progress: Progress,
) -> tuple[list[Culprit], float]:
    """Return the groups with the noise that goes away with each, and that of the whole int8 model."""
    from edgepack.errors import ModelError
    from edgepack.quantize import quantize
    from edgepack.quantize.output_parts import parts_of
    from edgepack.quantize.sensitivity import balanced_noise, run_model

    expected, parts = run_model(model, feeds), parts_of(model, feeds[0])

    def noise_without(names: Sequence[str]) -> float:
        leave = (*rules.leave, *(glob.escape(name) for name in names))
        made = quantize(model, ranges, dataclasses.replace(rules, leave=leave), out / "one")
        try:
            return balanced_noise(expected, run_model(made, feeds), parts)
        finally:
            shutil.rmtree(out / "one")

    whole = noise_without(())
    result = []
    for number, group in enumerate(groups):
        progress("culprits", number, len(groups))
        try:
            noise = whole - noise_without(group.nodes)
        except ModelError:  # nothing would be left in int8
            noise = 0.0
        result.append(dataclasses.replace(group, noise=noise))
    progress("culprits", len(groups), len(groups))
    return result, whole
