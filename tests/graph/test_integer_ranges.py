"""What integers become lies in the range that is followed, with numpy as the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.integer_ranges import IntegerRange, IntegerRanges, all_of_type, stored_range, wrapped
from edgepack.specs.types import Array

make_node = helper.make_node
TWO: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum,
    "Div": lambda a, b: np.trunc(a / b).astype(np.int64), "Mod": np.mod,
}  # fmt: skip
ONE: Mapping[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "CumSum": np.cumsum,
}


def followed(operator: str, *values: Array, most: int | None = None, **attributes: int) -> IntegerRange | None:
    """Return the range of a node of stored values."""
    names = [f"x{place}" for place in range(len(values))]
    graph = helper.make_graph(
        [make_node(operator, names, ["y"], **attributes)], "g", [], [helper.make_tensor_value_info("y", 7, None)],
        [numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)],
    )  # fmt: skip
    ranges = IntegerRanges(helper.make_model(graph), {}, most)
    ranges.enter_stored(graph)
    return ranges.result(graph.node[0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*TWO, *ONE]), st.lists(st.integers(-(2**30), 2**30), min_size=4, max_size=4), st.integers(1, 9))
def test_results_lie_in_their_range(operator: str, values: list[int], other: int) -> None:
    array = np.array(values)
    second = np.array([other, -other, other * 7, 1])
    found = followed(operator, array, second) if operator in TWO else followed(operator, array)
    result = TWO[operator](array, second) if operator in TWO else ONE[operator](array)
    assert found is not None
    assert found.low <= result.min()
    assert result.max() <= found.high


def test_remainders_by_fmod_have_the_sign_of_what_is_divided() -> None:
    found = followed("Mod", np.array([-7]), np.array([4]), fmod=1)
    assert found is not None
    assert found.low <= -3


def test_a_sum_over_a_free_axis_may_be_of_one_value() -> None:
    found = followed("MatMul", np.array([[5]]), np.array([[2**30]]))
    assert found is not None
    assert found.low <= 5 * 2**30 <= found.high


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_all_of_a_type(kind: str) -> None:
    limits = np.iinfo(kind)
    assert all_of_type(kind) == IntegerRange(kind, limits.min, limits.max)


def test_what_leaves_its_type_may_be_anything_of_it() -> None:
    assert wrapped(IntegerRange("int8", 0, 128)) == all_of_type("int8")
    assert wrapped(IntegerRange("int8", 0, 127)) == IntegerRange("int8", 0, 127)


@pytest.mark.parametrize(("most", "high"), [(None, 2**63 - 1), (2**20, 2**20)])
def test_of_an_input_of_which_nothing_is_known_the_most_is_given(most: int | None, high: int) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    graph = helper.make_graph([make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    found = IntegerRanges(helper.make_model(graph), {}, most).result(graph.node[0])
    assert found is not None
    assert found.high == high


def test_floats_have_no_range() -> None:
    assert stored_range(numpy_helper.from_array(np.zeros(2, np.float32))) is None


@pytest.mark.parametrize(
    ("chosen", "low", "high"), [(["x", "z"], -9, 3), (["z", "x"], 3, 2**40), (["x", "w"], -9, 2**40)]
)
def test_an_extreme_written_as_less_and_where_is_one(chosen: list[str], low: int, high: int) -> None:
    stored = {"x": np.array([-9, 2**40]), "z": np.array([3]), "w": np.array([1])}
    nodes = [make_node("Less", ["x", "z"], ["l"]), make_node("Where", ["l", *chosen], ["y"])]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", 7, None)], tensors)
    ranges = IntegerRanges(helper.make_model(graph), {}, None)
    ranges.enter_stored(graph)
    ranges.enter(nodes[0], ranges.result(nodes[0]))
    assert ranges.result(nodes[1]) == IntegerRange("int64", low, high)
