"""Free dimensions that exporters call "?" or -1, as Paddle does: each is free by itself, through all of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.engines import get_backend
from edgepack.engines.tvm.import_onnx import ready
from edgepack.errors import CompileError
from edgepack.graph.feeds import random_feeds
from edgepack.graph.load import load_model
from edgepack.graph.prepare import prepare
from edgepack.specs.model import UNNAMED, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["?", "*", "-1", "None"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxModel:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [-1, 3, request.param, request.param])

    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), helper.make_node("Relu", ["t"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


def test_they_have_no_name(model: OnnxModel) -> None:
    assert model.inputs[0].shape == model.outputs[0].shape == (UNNAMED, 3, UNNAMED, UNNAMED)
    assert random_feeds(model.inputs, batch=4, size=5)["x"].shape == (4, 3, 5, 5)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_take_other_sizes_for_each(engine: str, model: OnnxModel, tmp_path: Path) -> None:
    prepared = prepare(model, tmp_path / "prepared")
    backend = get_backend(engine)
    compiled = backend.compile_model(prepared, Target("t", "t", engine, "x86_64"), "fp32", tmp_path / "out")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    for options in (RunOptions(threads=1), RunOptions(threads=1, fixed_batch=2)):
        runner = backend.load_model(compiled, options)
        found = runner.infer({"x": x})["y"]
        np.testing.assert_array_equal(found, np.maximum(np.swapaxes(x, 2, 3), 0))
        runner.close()


def test_tvm_asks_for_the_sizes_and_does_not_take_them_for_the_batch(model: OnnxModel) -> None:
    with pytest.raises(CompileError, match="it compiles for fixed shapes"):
        ready(model)
