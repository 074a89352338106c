"""Checks the size of the inputs against the model's first layer: 0 to 255 where 0 to 1 was trained, or the reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.calibrate.samples import read_samples
from edgepack.calibrate.statistics_graph import open_session
from edgepack.calibrate.tensors import read_structure
from edgepack.graph.load import read_tensor
from edgepack.specs import Diagnostic, OnnxModel, SampleSet

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_SAMPLES = 16
_LAYERS = ("Conv", "Gemm")
# Measured on four trained networks with their own preprocessing: 0.7 to 1.8; with 0..255 instead 0.003 to 0.014, with a
# division by 255 too many about 250. The bounds are the geometric middle between those.
_LEAST, _MOST = 0.07, 25.0


def check_first_layer(model: OnnxModel, samples: SampleSet, scratch: Path) -> list[Diagnostic]:
    """Return a warning when the samples are far too large or too small for the first layer.

    Judged by its bias, which training made as large as the signals it is added to: the median over the channels of
    |bias| / standard deviation of the layer's output. Models whose first layer has no bias, or one near zero, are not
    judged; batch normalisation must have been folded into it (``prepare``).
    """
    structure = read_structure(model)
    layer = _first_layer(structure)
    if layer is None:
        return []
    bias = _constant(structure, layer.input[2], model.path.parent)
    if bias is None or np.median(np.abs(bias)) == 0.0:
        return []
    output = layer.output[0]
    session = open_session(model, structure, (output,), reduce=False, threads=1, scratch=scratch)
    spreads = []
    for index, feed in enumerate(read_samples(samples, model.inputs)):
        if index == _SAMPLES:
            break
        values = np.asarray(session.run([output], feed)[0], dtype=np.float64)
        rows = np.moveaxis(values, 1, 0).reshape(len(bias), -1)
        spreads.append((rows.mean(axis=1), rows.var(axis=1)))
    means = np.stack([mean for mean, _ in spreads])
    deviation = np.sqrt(np.stack([variance for _, variance in spreads]).mean(axis=0) + means.var(axis=0))
    usable = deviation > 0
    if not usable.any():
        return []
    ratio = float(np.median(np.abs(bias[usable]) / deviation[usable]))
    return _judge(ratio)


def _judge(ratio: float) -> list[Diagnostic]:
    if ratio < _LEAST:
        return [
            Diagnostic(
                "warning",
                f"the inputs are too large for the model: the first layer's signals are {1 / ratio:.0f} times its bias",
                hint="the model was probably trained on pixels divided by 255 or normalised: scale the samples so",
            )
        ]
    if ratio > _MOST:
        return [
            Diagnostic(
                "warning",
                f"the inputs are too small for the model: the first layer's bias is {ratio:.0f} times its signals",
                hint="the samples were probably divided by 255 twice, or the model takes pixels from 0 to 255",
            )
        ]
    return []


def _first_layer(structure: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the first layer with a weight and a bias; None when a layer without a bias comes first."""
    for node in structure.graph.node:
        if node.op_type in _LAYERS:
            return node if len(node.input) > 2 and node.input[2] else None
        if node.op_type in ("MatMul", "BatchNormalization", "Gather", "LSTM", "GRU"):
            return None
    return None


def _constant(structure: onnx.ModelProto, name: str, folder: Path) -> Any:
    import onnx

    for tensor in structure.graph.initializer:
        if tensor.name == name:
            return np.asarray(onnx.numpy_helper.to_array(read_tensor(tensor, folder)), dtype=np.float64)
    return None
