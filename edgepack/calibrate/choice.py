"""Tries the ranges of several observers on the layers that read each tensor, and keeps the one that changes them least.

For every range a copy of each layer that reads the tensor is added to the model, behind a pair of Q/DQ, and how far its
output is from the float layer's is reduced inside the graph. All layers and ranges are tried in one run of a sample.

A few samples tell which range is best for them, not what the others hold: a detector's calibration pictures are mostly
background, and what a range cuts off there is what boxes are found by. So a range that cuts something off is tried
again on many samples, each counting alike, so that a single wild one does not keep the range wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.groups import within
from edgepack.calibrate.instrument import open_with, run_session
from edgepack.specs.data import SampleSet, TensorRange
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array, Progress

# Samples that all ranges are tried on, and those that the best one is tried on again.
SAMPLES, CONFIRMED_ON = 8, 64
_SEED = 0
# Layers whose copies run in one pass: their inputs and outputs are held at once.
_BYTES_A_PASS = 256 << 20
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LEVELS = 255.0
# Ranges whose ends differ by less than this share of their width are one.
_SAME = 0.02
# What lies beyond a range on other samples is lost, and peaks are what detectors look for: a range other than that of
# the extremes must take away at least this share of the noise.
_LEAST_GAIN = 0.5
# A channel's noise is measured by its own energy, with this share of the mean over channels as the least.
_LEAST_SHARE = 0.1
_THREADS = 0  # as many as there are cores
_PREFIX = "edgepack/choice"

Options = Mapping[str, Mapping[str, TensorRange]]


def choose_ranges(
    model: OnnxModel, proto: onnx.ModelProto, samples: SampleSet, options: Options, out: Path, progress: Progress
) -> dict[str, tuple[str, TensorRange]]:
    """Return for each tensor the observer whose range is best, with the range; the first of ``options`` in a tie.

    ``proto`` is the model's structure. Tensors that no layer reads are judged by their own values, channel by channel.
    """
    from edgepack.data.samples import take_samples

    def take(most: int) -> SampleSet:
        return take_samples(samples, min(most, len(samples.indices)), _SEED)

    noises = _noises(model, proto, _trials(proto, options), take(SAMPLES), out, progress)
    found = {tensor: _best(tensor, ranges, noises) for tensor, ranges in options.items()}
    if len(samples.indices) <= SAMPLES:
        return found
    first = {tensor: next(iter(ranges)) for tensor, ranges in options.items()}
    doubtful = {
        tensor: {name: options[tensor][name] for name in (first[tensor], best)}
        for tensor, (best, _) in found.items()
        if best != first[tensor]
    }
    noises = _noises(model, proto, _trials(proto, doubtful), take(CONFIRMED_ON), out, progress, alike=True)
    return found | {tensor: _best(tensor, ranges, noises) for tensor, ranges in doubtful.items()}


def _noises(
    model: OnnxModel,
    proto: onnx.ModelProto,
    trials: Sequence[_Trial],
    samples: SampleSet,
    out: Path,
    progress: Progress,
    *,
    alike: bool = False,
) -> dict[tuple[str, str], float]:
    """Return by tensor and observer what its range changes of the layers that read it, over their signal.

    Over all samples, where those with much signal count most, or, ``alike``, the mean over samples.
    """
    from edgepack.data.samples import read_samples

    noises: dict[tuple[str, str], float] = {}
    parts = list(_passes(trials, proto))
    for number, part in enumerate(parts):
        progress("choose ranges", number, len(parts))
        session = open_with(
            model, _addition(part, proto).SerializeToString(), structure=proto, threads=_THREADS, scratch=out
        )
        names = [name for trial in part for name in trial.outputs]
        sums: dict[str, Array] = {}
        for feed in read_samples(samples, model.inputs):
            values = {
                name: np.asarray(value, np.float64).ravel()
                for name, value in zip(names, run_session(session, names, feed), strict=True)
            }
            if alike:
                _count(noises, part, values)
            else:
                sums |= {name: _added(sums.get(name), value) for name, value in values.items()}
        if not alike:
            _count(noises, part, sums)
    progress("choose ranges", len(parts), len(parts))
    return noises


def _count(noises: dict[tuple[str, str], float], trials: Sequence[_Trial], sums: Mapping[str, Array]) -> None:
    """Add to ``noises`` what ``sums`` say of each range."""
    for trial in trials:
        signal, *changed = (sums[name] for name in trial.outputs)
        for observer, noise in zip(trial.ranges, changed, strict=True):
            key = (trial.tensor, observer)
            noises[key] = noises.get(key, 0.0) + _relative(signal, noise)


def _added(sums: Array | None, values: Array) -> Array:
    """Return sums by channel; samples of other lengths have other channels where the last axis is the sequence."""
    if sums is None or len(sums) == len(values):
        return values if sums is None else np.asarray(sums + values)
    longest = max(len(sums), len(values))
    return np.asarray(np.pad(sums, (0, longest - len(sums))) + np.pad(values, (0, longest - len(values))))


@dataclass(frozen=True)
class _Trial:
    """The ranges of one tensor on one node that reads it, or on the tensor itself where ``node`` is None.

    ``outputs``: the sums of fourth powers of the float result by channel, then those of what each range changes.
    """

    number: int
    tensor: str
    node: onnx.NodeProto | None
    ranges: Mapping[str, TensorRange]
    axis: int
    rank: int

    @property
    def outputs(self) -> list[str]:
        """Names of the sums."""
        return [f"{_PREFIX}/{self.number}/{part}" for part in ("signal", *self.ranges)]


def _trials(proto: onnx.ModelProto, options: Options) -> list[_Trial]:
    """Return what is to be tried; tensors of which all observers say the same are left out."""
    ranks = _ranks(proto)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        if node.op_type in _LAYERS and node.domain in ("", "ai.onnx"):
            for name in dict.fromkeys(node.input):
                readers.setdefault(name, []).append(node)
    found: list[_Trial] = []
    for tensor, ranges in options.items():
        different = _different(ranges)
        rank = ranks.get(tensor, 0)
        if len(different) < 2 or rank < 1:
            continue
        for node in readers.get(tensor, [None]):
            known = rank if node is None else ranks.get(node.output[0], 0)
            channels_second = known == 4 if node is None else node.op_type in ("Conv", "ConvTranspose")
            if known:
                axis = 1 if channels_second else known - 1
                found.append(_Trial(len(found), tensor, node, different, axis, known))
    return found


def _different(ranges: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    """Return the ranges that differ from all before them."""
    kept: dict[str, TensorRange] = {}
    for observer, found in ranges.items():
        width = max(found.high - found.low, 1e-30)
        if all(abs(found.low - k.low) + abs(found.high - k.high) > _SAME * width for k in kept.values()):
            kept[observer] = found
    return kept


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    from edgepack.calibrate.tensors import value_types

    types = value_types(proto)
    return {name: len(known.shape.dim) for name, known in types.items() if known.HasField("shape")}


def _passes(trials: Sequence[_Trial], proto: onnx.ModelProto) -> Iterator[list[_Trial]]:
    from edgepack.calibrate.tensors import value_bytes, value_types

    types = value_types(proto)

    def size(trial: _Trial) -> int:
        names = [trial.tensor, *(trial.node.output if trial.node is not None else ())]
        return len(trial.ranges) * sum(value_bytes(types[name]) for name in names if name in types)

    return within(((trial, size(trial)) for trial in trials), _BYTES_A_PASS)


def _addition(trials: Sequence[_Trial], proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a message with the copies and their sums, to be joined with the model's."""
    import onnx

    addition = onnx.ModelProto()
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 13)
    for trial in trials:
        _add_trial(addition.graph, trial, opset)
        for name in trial.outputs:
            addition.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return addition


def _add_trial(graph: onnx.GraphProto, trial: _Trial, opset: int) -> None:
    from onnx import helper, numpy_helper

    result = trial.tensor if trial.node is None else trial.node.output[0]
    signal, *noises = trial.outputs
    axes = [axis for axis in range(trial.rank) if axis != trial.axis]
    _add_sum(graph, result, signal, axes, opset)
    for (observer, found), noise in zip(trial.ranges.items(), noises, strict=True):
        stem = f"{noise}/x"
        scale, zero = _affine(found)
        for name, value in ((f"{stem}/scale", scale), (f"{stem}/zero", zero)):
            graph.initializer.append(numpy_helper.from_array(value, name))
        parameters = [f"{stem}/scale", f"{stem}/zero"]
        graph.node.append(helper.make_node("QuantizeLinear", [trial.tensor, *parameters], [f"{stem}/integers"]))
        graph.node.append(helper.make_node("DequantizeLinear", [f"{stem}/integers", *parameters], [f"{stem}/rough"]))
        changed = f"{stem}/rough"
        if trial.node is not None:
            copy = type(trial.node)()
            copy.CopyFrom(trial.node)
            copy.name = f"{stem}/{observer}"
            del copy.output[:]
            copy.output.append(f"{stem}/result")
            for place, name in enumerate(copy.input):
                copy.input[place] = changed if name == trial.tensor else name
            graph.node.append(copy)
            changed = f"{stem}/result"
        graph.node.append(helper.make_node("Sub", [changed, result], [f"{stem}/difference"]))
        _add_sum(graph, f"{stem}/difference", noise, axes, opset)


def _add_sum(graph: onnx.GraphProto, tensor: str, name: str, axes: list[int], opset: int) -> None:
    """Add the sum of fourth powers over ``axes``, which became an input with opset 18."""
    from onnx import helper, numpy_helper

    graph.node.append(helper.make_node("Mul", [tensor, tensor], [f"{name}/square"]))
    if not axes:
        graph.node.append(helper.make_node("Mul", [f"{name}/square", f"{name}/square"], [name]))
    elif opset < 18:
        graph.node.append(helper.make_node("ReduceSumSquare", [f"{name}/square"], [name], axes=axes, keepdims=0))
    else:
        graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{name}/axes"))
        graph.node.append(helper.make_node("ReduceSumSquare", [f"{name}/square", f"{name}/axes"], [name], keepdims=0))


def _affine(found: TensorRange) -> tuple[Any, Any]:
    """Return scale and zero point of uint8 for a range, as ``quantize`` stores most tensors."""
    scale = np.float32(max((found.high - found.low) / _LEVELS, 2.0**-120))
    return np.asarray(scale), np.asarray(np.clip(np.rint(-found.low / scale), 0, _LEVELS), np.uint8)


def _relative(signal: Array, noise: Array) -> float:
    """Return the mean over channels of noise over signal, both as the root of a sum of fourth powers."""
    signal, noise = np.sqrt(signal), np.sqrt(noise)
    mean = float(signal.mean())
    if not mean > 0:
        return float(noise.sum())
    return float((noise / np.maximum(signal, _LEAST_SHARE * mean)).mean())


def _best(
    tensor: str, ranges: Mapping[str, TensorRange], noises: Mapping[tuple[str, str], float]
) -> tuple[str, TensorRange]:
    tried = {observer: noises[tensor, observer] for observer in ranges if (tensor, observer) in noises}
    first = next(iter(ranges))
    if not tried:
        return first, ranges[first]
    best = min(tried, key=lambda observer: tried[observer])
    if first in tried and tried[best] > (1 - _LEAST_GAIN) * tried[first]:
        best = first
    return best, ranges[best]
