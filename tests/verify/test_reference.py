"""The fp32 model's outputs on the evaluation samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_bundles import INPUTS, onnx_outputs, small_onnx

from edgepack.data.samples import find_samples
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model, save_proto
from edgepack.verify.golden import read_golden
from edgepack.verify.make_golden import make_golden
from edgepack.verify.outputs import OutputReader
from edgepack.verify.reference import reference

IMAGES = np.random.default_rng(2).standard_normal((3, 3, 8, 8), np.float32)


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", image=IMAGES)
    return str(tmp_path / "data.npz")


def test_each_samples_outputs_are_those_of_onnx_runtime(tmp_path: Path, data: str) -> None:
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    stored = reference(model, find_samples(data, INPUTS, None), tmp_path / "out")
    assert (stored.names, stored.n) == (("scores",), 3)
    reader = OutputReader(stored)
    for i, image in enumerate(IMAGES):
        expected = onnx_outputs(model.path, {"image": image[None]})["scores"]
        np.testing.assert_allclose(reader.sample(i)["scores"], expected, rtol=1e-5)


def test_what_the_graph_says_is_right_where_the_optimizer_changes_it(tmp_path: Path) -> None:
    # ONNX Runtime 1.31 moves a Pad of zeros into the MaxPool behind it; no zero of int8 is another than zero.
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT8),
        helper.make_node("Pad", ["i", "sizes"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    sizes = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "sizes")
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [sizes],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = save_proto(proto, tmp_path / "model")
    np.savez(tmp_path / "data.npz", x=np.full((2, 1, 2, 2), -5, np.float32))
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    assert not OutputReader(reference(model, samples, tmp_path / "out")).sample(0)["y"].any()
    golden = read_golden(make_golden(model, samples, 1, tmp_path))
    assert not golden.outputs[0]["y"].any()
    assert (run_model(model, golden.inputs[0])["y"] == -5).all()  # else this test says nothing


def test_it_tells_how_far_it_is(tmp_path: Path, data: str) -> None:
    told: list[tuple[str, int, int]] = []
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    reference(model, find_samples(data, INPUTS, None), tmp_path / "out", lambda *what: told.append(what))
    assert told == [("reference", n, 3) for n in (1, 2, 3)]
