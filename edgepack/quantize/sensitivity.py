"""What each quantized layer costs in noise: how much less there is when that layer alone runs in fp32."""

from __future__ import annotations

import dataclasses
import glob
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.stage import stage
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.means import sample_means
from edgepack.verify.parts import PartEnergies, Parts

SAMPLES = 16


@dataclass(frozen=True)
class Sensitivities:
    """By layer name: the output's noise that goes away with it (fraction of the signal's energy), and multiply-adds."""

    noises: Mapping[str, float]
    macs: Mapping[str, int]


@stage("sensitivity")
def sensitivity(
    model: OnnxModel,
    ranges: Ranges,
    rules: QuantizationRules,
    samples: SampleSet,
    out: Path,
    progress: Progress = no_progress,
) -> Sensitivities:
    """Quantize the model once for each layer, with that layer left in fp32, and measure the noise by ONNX Runtime.

    Noise is the energy of the difference to the fp32 outputs over the energy of these, over up to 16 samples, the mean
    over the outputs' parts. One model is in ``out`` at a time.
    """
    from edgepack.data.samples import read_samples, take_samples
    from edgepack.graph.describe import describe
    from edgepack.graph.load import read_proto
    from edgepack.quantize import quantize
    from edgepack.quantize.output_parts import parts_of

    few = take_samples(samples, min(SAMPLES, len(samples.indices)), seed=0)
    feeds = list(read_samples(few, model.inputs))
    expected = run_model(model, feeds)
    whole = quantize(model, ranges, rules, out / "all")
    layers = quantized_layers(read_proto(whole, weights=False))
    parts = parts_of(model, feeds[0])
    base = balanced_noise(expected, run_model(whole, feeds), parts)
    noises = {}
    for i, name in enumerate(layers):
        folder = out / "one"
        leave = (*rules.leave, glob.escape(name))
        changed = quantize(model, ranges, dataclasses.replace(rules, leave=leave), folder)
        noises[name] = base - balanced_noise(expected, run_model(changed, feeds), parts)
        shutil.rmtree(folder)
        progress("sensitivity", i + 1, len(layers))
    shutil.rmtree(out / "all")
    macs = {layer.name: layer.macs for layer in describe(model).layers if layer.macs}
    return Sensitivities(noises, {name: macs[name] for name in layers if name in macs})


def quantized_layers(proto: Any) -> tuple[str, ...]:
    """Return the names of the nodes whose weights come out of a DequantizeLinear, in graph order."""
    from edgepack.engines.int8 import WEIGHTED

    dequantized = {node.output[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    return tuple(
        node.name
        for node in proto.graph.node
        if node.op_type in WEIGHTED and node.name and len(node.input) > 1 and node.input[1] in dequantized
    )


def run_model(model: OnnxModel, feeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs of an ONNX model for each feed, by ONNX Runtime; layers in float are computed in float."""
    from edgepack.graph.load import read_proto
    from edgepack.quantize.graph.sessions import open_session

    run = open_session(read_proto(model), [spec.name for spec in model.outputs])
    return [{name: value.copy() for name, value in run(feed).items()} for feed in feeds]


def balanced_noise(
    expected: list[dict[str, Any]],
    found: list[dict[str, Any]],
    parts: Mapping[str, Parts],
    more: Sequence[dict[str, Any]] = (),
) -> float:
    """Return the mean over all parts of the outputs of noise energy over the energy of what varies between samples.

    ``more`` are fp32 outputs of other samples, which tell as well what varies.
    """
    names, everything = list(expected[0]), [*expected, *more]
    energies = PartEnergies(names, parts, sample_means(names, everything))
    for one, other in zip(everything, [*found, *more], strict=True):
        energies.add(one, other)
    return energies.noise(len(expected) / len(everything))
