"""What whole-number inputs mean, and what is drawn for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgepack.data.split import random_inputs
from edgepack.graph.compare import invent_feeds
from edgepack.graph.input_ranges import InputRange, draw, input_ranges, narrower, plain_range
from edgepack.graph.load import load_model
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

INT64, INT32, UINT8, FLOAT, BOOL = (
    TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.FLOAT, TensorProto.BOOL,
)  # fmt: skip
TABLE = np.zeros((300, 4), np.float32)


def made(path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], stored: dict[str, Any]) -> OnnxModel:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes[-1:]],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    import onnx

    save(onnx.shape_inference.infer_shapes(model), path)
    return load_model(path)


def test_ids_are_below_the_size_of_the_smallest_table(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["i"], to=INT64),
        helper.make_node("Gather", ["words", "i"], ["a"]),
        helper.make_node("Unsqueeze", ["i", "one"], ["u"]),
        helper.make_node("Gather", ["kinds", "u"], ["b"], axis=1),
        helper.make_node("ReduceSum", ["a"], ["sa"], keepdims=0),
        helper.make_node("ReduceSum", ["b"], ["sb"], keepdims=0),
        helper.make_node("Add", ["sa", "sb"], ["y"]),
    ]
    stored = {"words": TABLE, "kinds": TABLE[:50].T.copy(), "one": np.array([1])}
    model = made(tmp_path / "m.onnx", nodes, {"ids": (INT32, ["N", 7])}, stored)
    assert input_ranges(model) == {"ids": InputRange("index", 0, 49)}
    drawn = random_inputs(model.inputs, model, 0, tmp_path)
    with np.load(drawn.path) as data:
        assert data["ids"].dtype == np.int32
        assert data["ids"].max() > 40
        assert data["ids"].max() <= 49
    assert drawn.notes == ("random values of 'ids' are 0 to 49, the rows of its table",)
    feeds = invent_feeds(model)
    assert feeds is not None
    assert feeds["ids"].max() > 10


def test_classes_of_a_one_hot(tmp_path: Path) -> None:
    node = helper.make_node("OneHot", ["x", "depth", "values"], ["y"])
    stored = {"depth": np.array(12), "values": np.array([0, 1], np.float32)}
    model = made(tmp_path / "m.onnx", [node], {"x": (INT64, ["N", 3])}, stored)
    assert input_ranges(model)["x"] == InputRange("index", 0, 11)


@pytest.mark.parametrize(
    ("kind", "dtype", "low", "high"), [(UINT8, "uint8", 0, 255), (TensorProto.INT8, "int8", -128, 127)]
)
def test_pixels_have_the_whole_range_of_their_type(tmp_path: Path, kind: int, dtype: str, low: int, high: int) -> None:
    model = made(tmp_path / "m.onnx", [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], {"x": (kind, ["N", 900])}, {})
    assert input_ranges(model)["x"] == InputRange("number", low, high)
    with np.load(random_inputs(model.inputs, model, 0, tmp_path).path) as data:
        assert data["x"].dtype == dtype
        assert (data["x"].min(), data["x"].max()) == (low, high)
    assert plain_range(TensorSpec("x", dtype, (1,))) == InputRange("number", low, high)


def test_masks_lengths_sizes_and_other_numbers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["m"], to=FLOAT),
        helper.make_node("Cast", ["lengths"], ["l"], to=FLOAT),
        helper.make_node("Cast", ["count"], ["c"], to=FLOAT),
        helper.make_node("Cast", ["keep"], ["k"], to=FLOAT),
        helper.make_node("Expand", ["one", "size"], ["e"]),
        helper.make_node("Sum", ["m", "l", "c", "k", "e"], ["y"]),
    ]
    inputs = {
        "attention_mask": (INT64, ["N", 16]),
        "lengths": (INT64, ["N", 1]),
        "count": (INT64, ["N", 1]),
        "keep": (BOOL, ["N", 1]),
        "size": (INT64, [1]),
    }
    model = made(tmp_path / "m.onnx", nodes, inputs, {"one": np.ones(1, np.float32)})
    assert input_ranges(model) == {
        "attention_mask": InputRange("mask", 0, 1),
        "lengths": InputRange("length", 1, 16),
        "count": InputRange("number", -99, 99),
        "keep": InputRange("number", 0, 1),
        "size": InputRange("size", 1, 1),
    }
    with np.load(random_inputs(model.inputs, model, 0, tmp_path).path) as data:
        mask = data["attention_mask"]
        assert (np.diff(mask, axis=-1) <= 0).all()
        assert mask[..., 0].all()
        assert len(set(mask.sum(axis=-1).reshape(-1).tolist())) > 3
        assert (data["count"].min() < 0, data["lengths"].min() >= 1) == (True, True)


def test_a_mask_of_no_axis_and_of_truth_values() -> None:
    generator, found = np.random.default_rng(0), InputRange("mask", 0, 1)
    assert draw(found, TensorSpec("mask", "bool", ()), (), generator).shape == ()
    assert draw(found, TensorSpec("mask", "bool", (2, 3)), (2, 3), generator).dtype == bool


def test_a_model_that_refuses_numbers_gets_others_and_it_is_said(tmp_path: Path) -> None:
    """The index is computed from the input, so that no range is seen in the graph."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["i"]),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    for rows, highest in ((101, 99), (3, 1)):
        stored = {"table": TABLE[:rows], "one": np.array(1)}
        model = made(tmp_path / "m.onnx", nodes, {"x": (INT64, ["N", 9])}, stored)
        drawn = random_inputs(model.inputs, model, 0, tmp_path)
        with np.load(drawn.path) as data:
            assert highest - 9 < data["x"].max() <= highest
        assert ("the model refused others" in drawn.notes[-1]) == (rows == 3)
    assert drawn.notes[0] == "random whole numbers are 0 and 1"


def test_what_is_tried_in_turn() -> None:
    found = {"x": InputRange("number", -99, 99), "p": InputRange("number", -128, 127), "i": InputRange("index", 0, 3)}
    assert [{name: r.low for name, r in ranges.items()} for ranges in narrower(found)] == [
        {"x": -99, "p": -128, "i": 0},
        {"x": 0, "p": -128, "i": 0},
        {},
    ]
    assert list(narrower({})) == [{}]


def test_a_number_without_axes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["rate"], ["r"], to=FLOAT), helper.make_node("Mul", ["x", "r"], ["y"])]
    model = made(tmp_path / "m.onnx", nodes, {"rate": (INT64, []), "x": (FLOAT, ["N", 2])}, {})
    assert random_inputs(model.inputs, model, 0, tmp_path).notes == ("random values of 'rate' are -99 to 99",)
