"""Inputs fixed to constants: what they decide is folded, and the model computes what it computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from graph_models import model as make_model
from graph_models import small_conv, value, write
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ConfigError
from edgepack.graph.compare import run_model
from edgepack.graph.freeze import freeze, set_inputs
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.specs.model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


def shapes(path: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(path).graph
    return {
        item.name: [dim.dim_value or dim.dim_param for dim in item.type.tensor_type.shape.dim]
        for item in (*graph.input, *graph.value_info, *graph.output)
    }


def test_all_that_follows_is_fixed_too(tmp_path: Path) -> None:
    found = freeze(
        load_model(write(small_conv(), tmp_path / "in")),
        (TensorSpec("image", "float32", (2, 3, 8, 8)),),
        tmp_path / "out",
    )
    assert found.inputs[0].shape == (2, 3, 8, 8)
    assert found.outputs[0].shape == (2, 5)
    assert shapes(found.path)["r"] == [2, 64, 8, 8]


def test_a_name_stays_free(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    source = load_model(write(make_model([node], [value("x", ["N", "L"])], [value("y", ["N", "L"])]), tmp_path / "in"))
    found = freeze(source, (TensorSpec("x", "float32", ("batch", 7)),), tmp_path / "out")
    assert (found.inputs[0].shape, found.outputs[0].shape) == (("batch", 7), ("batch", 7))


def test_another_input_keeps_its_shape(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"])
    inputs = [value("x", ["N", 3]), value("z", [1, 3])]
    source = load_model(write(make_model([node], inputs, [value("y", ["N", 3])]), tmp_path / "in"))
    found = freeze(source, (TensorSpec("x", "float32", (4, 3)),), tmp_path / "out")
    assert [spec.shape for spec in found.inputs] == [(4, 3), (1, 3)]


def test_a_size_that_a_node_does_not_take_is_left_to_the_engine(tmp_path: Path) -> None:
    """onnx does not follow a shape that does not fit: what comes behind is not known."""
    node = helper.make_node("Add", ["x", "k"], ["y"])
    proto = make_model([node], [value("x", ["N", "L"])], [value("y", ["N", "L"])], {"k": np.ones(7, np.float32)})
    source = load_model(write(proto, tmp_path / "in"))
    found = freeze(source, (TensorSpec("x", "float32", (1, 5)),), tmp_path / "out")
    assert found.inputs[0].shape == (1, 5)
    assert found.outputs[0].shape == ("?", "?")


def branch(name: str, factor: float) -> onnx.GraphProto:
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32) * factor
    return helper.make_graph(
        [helper.make_node("MatMul", ["x", f"{name}_w"], [name], f"{name}_product")],
        name,
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights.astype(np.float32), f"{name}_w")],
    )


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """A model whose work lies in the branches of an If that the input "sr" decides, as in voice detectors."""
    nodes = [
        helper.make_node("Equal", ["sr", "rate"], ["is_16k"]),
        helper.make_node("If", ["is_16k"], ["y"], "which", then_branch=branch("a", 1), else_branch=branch("b", 2)),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8]),
            helper.make_tensor_value_info("sr", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.array(16000), "rate")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_fixed_input_leaves_the_branch_that_it_decides(rate: int, model: OnnxModel, tmp_path: Path) -> None:
    fixed = prepare(set_inputs(model, {"sr": str(rate)}, tmp_path / "set"), tmp_path / "prepared")
    assert [spec.name for spec in fixed.inputs] == ["x"]
    assert "If" not in {node.op_type for node in read_proto(fixed).graph.node}
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    wanted = run_model(model, {"x": x, "sr": np.array(rate)})["y"]
    np.testing.assert_allclose(run_model(fixed, {"x": x})["y"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate": "1"}, "has no such input"),
        ({"sr": "fast"}, "is not of type int64"),
        ({"sr": "1.5"}, "is not of type int64"),
        ({"sr": "9" * 30}, "is not of type int64"),
        ({"sr": "1,2"}, "has 2 values"),
        ({"sr": "1", "x": "0"}, "fixes every input"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, str], words: str, model: OnnxModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        set_inputs(model, values, tmp_path / "set")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "shape", "text", "wanted"),
    [
        (TensorProto.BOOL, [], "true", np.array(True)),
        (TensorProto.FLOAT, [2, 2], "0.5", np.full((2, 2), 0.5, np.float32)),
        (TensorProto.FLOAT, [2, 2], "1,2,3,4", np.float32([[1, 2], [3, 4]])),
        (TensorProto.INT64, ["K"], "3,4,5", np.array([3, 4, 5])),
        (TensorProto.INT32, ["N", 2], "7", np.int32([[7, 7]])),
    ],
)
def test_a_value_gets_the_inputs_type_and_shape(
    dtype: int, shape: list[int | str], text: str, wanted: np.ndarray, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Identity", ["k"], ["z"]), helper.make_node("Relu", ["x"], ["y"])]
    values = [("x", TensorProto.FLOAT, [1, 2]), ("k", dtype, shape)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in values],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("z", dtype, None),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    fixed = set_inputs(load_model(tmp_path / "m.onnx"), {"k": text}, tmp_path / "set")
    found = run_model(fixed, {"x": np.zeros((1, 2), np.float32)})["z"]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
