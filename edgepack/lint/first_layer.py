"""Checks the size of the inputs against the model's first layer: 0 to 255 where 0 to 1 was trained, or the reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.calibrate.instrument import open_session, run_session
from edgepack.calibrate.tensors import read_structure
from edgepack.graph.load import read_tensor
from edgepack.lint import Found, Inspected
from edgepack.lint.preprocessing import can_judge
from edgepack.lint.survey import read_some, spread
from edgepack.specs.data import Finding
from edgepack.specs.types import Array

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

SAMPLES = 16
_LAYERS = ("Conv", "Gemm")
# Measured on four trained networks with their own preprocessing: 0.7 to 1.8; with 0..255 instead 0.003 to 0.014, with a
# division by 255 too many about 250. The bounds are the geometric middle between those.
_LEAST, _MOST = 0.07, 25.0
# A small bias alone proves nothing: networks without batch normalisation have one, some with values from -128 to 127.
# Values that look like bare pixels, or like pixels divided twice, must come with it.
_PIXELS, _TINY = 100.0, 0.05


def check(inspected: Inspected) -> Found:
    """Return a warning when the samples are probably far too large or too small for the first layer.

    Judged by its bias, which training made as large as the signals it is added to: the median over the channels of
    |bias| / standard deviation of the layer's output. Models whose first layer has no bias, or one near zero, are not
    judged; batch normalisation must have been folded into it (``prepare``). Where trying other encodings tells more,
    this is left out.
    """
    if can_judge(inspected):
        return Found()
    model, samples = inspected.model, inspected.calibration.samples
    structure = read_structure(model)
    layer = _first_layer(structure)
    bias = _constant(structure, layer.input[2], model.path.parent) if layer is not None else None
    if layer is None or bias is None or np.median(np.abs(bias)) == 0.0:
        return Found()
    output = layer.output[0]
    session = open_session(model, structure, (output,), reduce=False, threads=1, scratch=inspected.scratch)
    spreads: list[tuple[Array, Array]] = []
    low, high = np.inf, -np.inf
    for feed in read_some(samples, model.inputs, spread(len(samples.indices), SAMPLES)):
        values = np.asarray(run_session(session, [output], dict(feed))[0], dtype=np.float64)
        if values.ndim < 2 or values.shape[1] != len(bias):
            return Found((), len(spreads) + 1)  # a Gemm whose bias is not a row of outputs
        rows = np.moveaxis(values, 1, 0).reshape(len(bias), -1)
        spreads.append((rows.mean(axis=1), rows.var(axis=1)))
        floats = [array for array in feed.values() if array.dtype.kind == "f"]
        low = min([low, *(float(array.min()) for array in floats)])
        high = max([high, *(float(array.max()) for array in floats)])
    means = np.stack([mean for mean, _ in spreads])
    deviation = np.sqrt(np.stack([variance for _, variance in spreads]).mean(axis=0) + means.var(axis=0))
    usable = deviation > 0
    if not usable.any():
        return Found((), len(spreads))
    ratio = float(np.median(np.abs(bias[usable]) / deviation[usable]))
    return Found(_judge(ratio, low, high), len(spreads))


def _judge(ratio: float, low: float, high: float) -> tuple[Finding, ...]:
    span = f"the inputs, {low:.3g} to {high:.3g}, are probably"
    if ratio < _LEAST and low >= 0 and high >= _PIXELS:
        text = f"{span} too large for the model: the first layer's signals are {1 / ratio:.0f} times its bias"
        hint = "the model was probably trained on pixels divided by 255 or normalised: scale the samples so"
        return (Finding("range", "warning", text, hint),)
    if ratio > _MOST and max(-low, high) <= _TINY:
        text = f"{span} too small for the model: the first layer's bias is {ratio:.0f} times its signals"
        hint = "the samples were probably divided by 255 twice, or the model takes pixels from 0 to 255"
        return (Finding("range", "warning", text, hint),)
    return ()


def _first_layer(structure: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the first layer with a weight and a bias; None when a layer without a bias comes first."""
    for node in structure.graph.node:
        if node.op_type in _LAYERS:
            return node if len(node.input) > 2 and node.input[2] else None
        if node.op_type in ("MatMul", "BatchNormalization", "Gather", "LSTM", "GRU"):
            return None
    return None


def _constant(structure: onnx.ModelProto, name: str, folder: Path) -> Any:
    """Return a float initializer [channels] by name; None for anything else."""
    import onnx

    for tensor in structure.graph.initializer:
        if tensor.name == name:
            values = np.asarray(onnx.numpy_helper.to_array(read_tensor(tensor, folder)), dtype=np.float64).squeeze()
            return values if values.ndim == 1 else None
    return None
