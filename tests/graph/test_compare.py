"""Outputs are compared by their distance over the largest value; invented inputs suit the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import model, relu, value, write
from onnx import TensorProto, helper

from edgepack.graph.compare import differences, invent_feeds, relative_distance, run_model
from edgepack.graph.load import load_model

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("expected", "found", "distance"),
    [
        ([1.0, -2.0], [1.0, -2.0], 0.0),
        ([1.0, -2.0], [1.0, -1.0], 0.5),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-9], INF),
        ([INF, NAN, 4.0], [INF, NAN, 3.0], 0.25),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([1.0, INF], [1.0, -INF], INF),
        ([1.0, 2.0], [1.0], INF),
        ([], [], 0.0),
    ],
)
def test_distance(expected: list[float], found: list[float], distance: float) -> None:
    assert relative_distance(np.array(expected, np.float32), np.array(found, np.float32)) == distance


def test_rounding_is_no_difference_and_more_is() -> None:
    array = np.linspace(-10, 10, 100, dtype=np.float32)
    assert differences({"y": array}, {"y": array * np.float32(1 + 5e-5)}) == ()
    (line,) = differences({"y": array}, {"y": array * np.float32(1 + 2e-4)})
    assert line == "'y' differs by 2.0e-04 of its largest value"


def test_ties_of_whole_numbers() -> None:
    array = np.arange(1000)
    other = array.copy()
    other[:5] += 1
    assert differences({"y": array}, {"y": other}) == ()
    other[:20] += 1
    assert differences({"y": array}, {"y": other}) == ("'y' differs in 2% of its values",)


def test_another_type_and_other_names_are_differences() -> None:
    one = {"y": np.ones(3, np.float32)}
    assert differences(one, {"y": np.ones(3)}) == ("'y' has the type float64, not float32",)
    assert differences(one, {"z": np.ones(3, np.float32)}) == (
        "'y' is in one of the two only",
        "'z' is in one of the two only",
    )


def test_sizes_are_tried_until_the_model_runs(tmp_path: Path) -> None:
    """A product with a matrix of 16 rows takes 16 and nothing else."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    proto = model(nodes, [value("x", ["N", "L"])], [value("y", ["N", 2])], {"w": np.ones((16, 2), np.float32)})
    loaded = load_model(write(proto, tmp_path))
    feeds = invent_feeds(loaded)
    assert feeds is not None
    assert feeds["x"].shape == (2, 16)
    assert run_model(loaded, feeds)["y"].shape == (2, 2)


def test_model_of_strings_has_no_feeds(tmp_path: Path) -> None:
    proto = relu()
    proto.graph.node[0].op_type = "Identity"
    for item in (*proto.graph.input, *proto.graph.output):
        item.type.tensor_type.elem_type = TensorProto.STRING
    assert invent_feeds(load_model(write(proto, tmp_path))) is None
