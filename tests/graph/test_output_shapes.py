"""Shapes of a model whose sizes are free, by running it."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from edgepack.graph.load import load_model
from edgepack.graph.output_shapes import first_that_runs
from edgepack.specs.model import OnnxModel


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """Halves sides that are multiples of 8, and refuses others: it adds itself at an eighth, made larger again."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,H,W] x) => (float[N,3,h,w] half, float[N,c] mean)
    <float[4] by = {1.0, 1.0, 8.0, 8.0}, int64[1] axis = {1}> {
        small = AveragePool<kernel_shape=[8, 8], strides=[8, 8]>(x)
        large = Resize<mode="nearest">(small, , by)
        sum = Add(x, large)
        half = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(sum)
        pooled = GlobalAveragePool(x)
        mean = Flatten(pooled)
    }"""
    proto = onnx.parser.parse_model(text)
    onnx.save(proto, tmp_path / "net.onnx")
    return load_model(tmp_path / "net.onnx")


def test_the_first_size_that_runs_is_taken(model: OnnxModel) -> None:
    found = first_that_runs(model, "x", ((1, 3, 30, 30), (1, 3, 64, 32), (1, 3, 32, 32)))
    assert found is not None
    assert [spec.shape for spec in found.inputs] == [(1, 3, 64, 32)]
    assert [spec.shape for spec in found.outputs] == [(1, 3, 32, 16), (1, 3)]


def test_none_is_found_where_none_runs(model: OnnxModel) -> None:
    assert first_that_runs(model, "x", ((1, 3, 30, 30), (1, 2, 64, 64))) is None
