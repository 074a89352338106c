"""The simplified model is held against the exported one on the user's samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.data.samples import find_samples
from edgepack.graph.load import save_proto
from edgepack.specs.model import OnnxModel
from edgepack.verify.simplified import compare_simplified

X = np.linspace(-3, 9, 5 * 4).reshape(5, 4).astype(np.float32)


def model(folder: Path, *operators: str, kind: int = TensorProto.FLOAT, batch: object = "N") -> OnnxModel:
    names = ["x", *(f"t{i}" for i in range(len(operators) - 1)), "y"]
    nodes = [helper.make_node(o, [names[i]], [names[i + 1]], name=f"n{i}") for i, o in enumerate(operators)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, [batch, 4])],
        [helper.make_tensor_value_info("y", kind, [batch, 4])],
    )  # fmt: skip
    return save_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder)


def compared(tmp_path: Path, source: OnnxModel, other: OnnxModel) -> str:
    np.savez(tmp_path / "data.npz", x=X)
    samples = find_samples(str(tmp_path / "data.npz"), source.inputs, None)
    return compare_simplified(source, other, samples, tmp_path / "out").differs


def test_the_same_answers_are_told_by_nothing(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Neg", "Neg", "Relu")
    assert compared(tmp_path, source, model(tmp_path / "b", "Relu")) == ""


def test_what_differs_on_the_users_samples_alone_is_named(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Relu")
    assert compared(tmp_path, source, model(tmp_path / "b", "Identity")).startswith("'y': ")


def test_sizes_that_have_no_name_before_they_are_simplified_are_the_same(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Relu", batch=None)
    other = model(tmp_path / "b", "Identity", batch="x_d0")
    assert source.inputs != other.inputs
    assert compared(tmp_path, source, other).startswith("'y': ")


def test_another_size_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Relu", batch=1)
    assert compared(tmp_path, source, model(tmp_path / "b", "Relu", batch=1)) == ""
    with pytest.raises(ValueError, match="other inputs"):
        compared(tmp_path, source, model(tmp_path / "c", "Relu", batch=7))


def test_other_inputs_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Relu")
    with pytest.raises(ValueError, match="other inputs"):
        compared(tmp_path, source, model(tmp_path / "b", "Relu", kind=TensorProto.FLOAT16))


def test_a_source_that_does_not_run_as_it_stands_is_not_compared(tmp_path: Path) -> None:
    source = model(tmp_path / "a", "Det")  # of a vector
    assert compared(tmp_path, source, model(tmp_path / "b", "Relu")) == ""
    assert onnx.load(source.path).graph.node[0].op_type == "Det"
