"""Casting a model by what its samples show."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from quantize_models import save

from edgepack.data.samples import find_samples
from edgepack.graph import overflow
from edgepack.pipeline.stages import quantize as module
from edgepack.pipeline.stages.quantize import cast_on_samples
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        onnx.helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    return save(nodes, {"w": np.eye(4, dtype=np.float32)}, tmp_path / "m.onnx", inputs={"x": ["N", 4]})


def samples(model: OnnxModel, tmp_path: Path, values: Any) -> SampleSet:
    np.savez(tmp_path / "data.npz", x=np.float32(values))
    return find_samples(str(tmp_path / "data.npz"), model.inputs, None)


def low(model: OnnxModel) -> set[str]:
    """The nodes that compute in float16."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model.path)).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return {n.name for n in graph.node if n.op_type == "MatMul" and types[n.output[0]] == onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(("largest", "nodes"), [(1.0, {"first", "second"}), (60000.0, set())])
def test_what_overflows_on_a_sample_stays(tmp_path: Path, model: OnnxModel, largest: float, nodes: set[str]) -> None:
    values = [[1, 1, 1, 1], [1, 1, 1, largest]]
    found = cast_on_samples(model, "fp16", samples(model, tmp_path, values), tmp_path / "out")
    assert low(found) == nodes


def test_no_more_samples_are_read_than_are_looked_at(
    tmp_path: Path, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def endless(*_: Any) -> Any:
        for number in itertools.count():
            read.append(number)
            yield {"x": np.ones((1, 4), np.float32)}

    few = samples(model, tmp_path, np.ones((3, 4)))
    monkeypatch.setattr(module, "read_samples", endless)
    cast_on_samples(model, "bf16", few, tmp_path / "out")
    assert len(read) == overflow.SAMPLES
